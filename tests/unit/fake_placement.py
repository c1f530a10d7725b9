# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Placement, in memory, behind requests-mock.

It is a fake: it knows the requests of the agent, and the conflict rules. tests/functional uses the
real one.
"""

import json
import re
import urllib.parse

import requests_mock

from tests.services import nova_compute

URL = 'http://placement.test/placement'
TOKEN = 'token-that-stays-secret'
UUID = 'a1b2c3d4-0000-4000-8000-000000000001'
NAME = 'compute1.example.org'
TRAITS = frozenset({'COMPUTE_NODE', 'OWNER_NOVA', 'HW_CPU_X86_VMX', 'CUSTOM_RACK_7'})


def inventory(total=65536, reserved=512, ratio=1.5, **changes):
    return nova_compute.inventory(total, reserved, ratio) | changes


class Provider:
    def __init__(self, uuid=UUID, name=NAME, parent=None, traits=TRAITS):
        self.uuid = uuid
        self.name = name
        self.parent = parent
        self.generation = 3
        self.inventories = {
            'VCPU': inventory(total=64, reserved=0, ratio=4.0),
            'MEMORY_MB': inventory(),
        }
        self.traits = set(traits)
        self.allocations = {}


class FakePlacement:
    def __init__(self):
        self.providers = {UUID: Provider()}
        self.traits = set(TRAITS)
        self.requests = []
        """(method, path with query) of each request."""
        self.before = lambda method, path: None
        """Called before each answer: a second writer."""
        self.failure = None
        """What answers instead of Placement: keywords of requests-mock, or what is raised."""

    @property
    def node(self):
        return self.providers[UUID]

    @property
    def writes(self):
        return [request for request in self.requests if request[0] != 'GET']

    def install(self, mocker):
        mocker.register_uri(
            requests_mock.ANY, re.compile('^' + re.escape(URL) + '/'), text=self._answer
        )

    def count(self, work):
        before = len(self.requests)
        work()
        return self.requests[before:]

    def write_inventory(self, **changes):
        self.node.inventories['MEMORY_MB'] = inventory(**changes)
        self.node.generation += 1

    def allocate(self, mib, consumer='c1'):
        self.node.allocations.pop(consumer, None)
        if mib:
            self.node.allocations[consumer] = {'resources': {'MEMORY_MB': mib, 'VCPU': 1}}
        self.node.generation += 1

    def _answer(self, request, context):
        # requests-mock lower-cases request.path and request.query.
        url = urllib.parse.urlsplit(request.url)
        path = url.path.removeprefix('/placement')
        query = urllib.parse.unquote(url.query)
        self.requests.append((request.method, f'{path}?{query}' if query else path))
        self.before(request.method, path)
        if isinstance(self.failure, Exception):
            raise self.failure
        if self.failure is not None:
            context.status_code = self.failure.get('status_code', 200)
            context.headers.update(self.failure.get('headers', {}))
            return self.failure['text']
        if request.headers.get('OpenStack-API-Version') != 'placement 1.26':
            status, body = 406, error('Unacceptable version header')
        else:
            parameters = dict(urllib.parse.parse_qsl(url.query))
            sent = request.json() if request.text else None
            status, body = self._respond(request.method, path, parameters, sent)
        context.status_code = status
        context.headers['Content-Type'] = 'application/json'
        return '' if body is None else json.dumps(body)

    def _respond(self, method, path, query, body):
        match path.strip('/').split('/'):
            case ['traits']:
                traits = self.traits & set(query['name'].removeprefix('in:').split(','))
                if query.get('associated') == 'true':
                    traits &= {trait for one in self.providers.values() for trait in one.traits}
                return 200, {'traits': sorted(traits)}
            case ['traits', name] if method == 'PUT':
                status = 204 if name in self.traits else 201
                self.traits.add(name)
                return status, None
            case ['resource_providers']:
                found = [
                    provider
                    for uuid, provider in self.providers.items()
                    if query in ({'name': provider.name}, {'uuid': uuid})
                    or query.get('required') in provider.traits
                ]
                return 200, {'resource_providers': [described(p) for p in found]}
            case ['resource_providers', uuid, *rest]:
                provider = self.providers.get(uuid)
                if provider is None:
                    detail = f'No resource provider with uuid {uuid} found'
                    return 404, error(detail, 'placement.undefined_code')
                return self._of_provider(method, provider, rest, body)
        raise AssertionError(f'the fake knows no {method} {path}')

    def _of_provider(self, method, provider, rest, body):
        generation = {'resource_provider_generation': provider.generation}
        if method == 'PUT' and body['resource_provider_generation'] != provider.generation:
            return 409, error('resource provider generation conflict', CONFLICT)
        match method, rest:
            case 'GET', ['inventories']:
                return 200, {**generation, 'inventories': provider.inventories}
            case 'GET', ['traits']:
                return 200, {**generation, 'traits': sorted(provider.traits)}
            case 'GET', ['allocations']:
                return 200, {**generation, 'allocations': provider.allocations}
            case 'PUT', ['inventories', name]:
                if name not in provider.inventories:
                    return 400, error(f'No inventory record with resource class {name}')
                del body['resource_provider_generation']
                provider.inventories[name] = body
                provider.generation += 1
                return 200, {'resource_provider_generation': provider.generation, **body}
            case 'PUT', ['traits']:
                if unknown := set(body['traits']) - self.traits:
                    return 400, error(f'No such trait(s): {", ".join(sorted(unknown))}')
                provider.traits = set(body['traits'])
                provider.generation += 1
                return 200, {**body, 'resource_provider_generation': provider.generation}
        raise AssertionError(f'the fake knows no {method} {rest}')


CONFLICT = 'placement.concurrent_update'


def error(detail, code='placement.undefined_code'):
    return {'errors': [{'status': 0, 'title': 'Title', 'detail': detail, 'code': code}]}


def described(provider):
    return {
        'uuid': provider.uuid,
        'name': provider.name,
        'generation': provider.generation,
        'parent_provider_uuid': provider.parent,
        'root_provider_uuid': provider.parent or provider.uuid,
    }

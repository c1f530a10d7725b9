# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Nova's client of Placement, with a few providers in memory."""

import json
import urllib.parse

import requests

TRAITS = frozenset(
    {
        'CUSTOM_FILE_BACKED_MEMORY',
        'CUSTOM_FILE_BACKED_MEMORY_DISK',
        'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY',
    }
)


def response(status, body):
    """Return a response: an object as JSON, or a text."""
    made = requests.Response()
    made.status_code = status
    made._content = (body if isinstance(body, str) else json.dumps(body)).encode()
    return made


class FakeClient:
    """Answers ``get`` and ``put`` as nova.scheduler.client.report does."""

    def __init__(self):
        self.traits = set(TRAITS)
        """The traits that exist."""
        self.providers = {}
        """The traits of each provider, whose name is its UUID."""
        self.sent = []
        """(method, URL, microversion, request id) of each request."""
        self.error = None
        """What comes instead of an answer: an exception or a response."""
        self.before = lambda url: None
        """Called before each answer."""

    @property
    def urls(self):
        """The method and decoded URL of each request."""
        return [f'{method} {urllib.parse.unquote(url)}' for method, url, *_ in self.sent]

    def get(self, url, version=None, global_request_id=None):
        """Answer."""
        return self._answer('GET', url, version, global_request_id)

    def put(self, url, data, version=None, global_request_id=None):
        """Answer."""
        assert data is None
        return self._answer('PUT', url, version, global_request_id)

    def _answer(self, method, url, version, request_id):
        self.sent.append((method, url, version, request_id))
        self.before(url)
        if isinstance(self.error, Exception):
            raise self.error
        if self.error is not None:
            return self.error
        path, _, query = url.partition('?')
        if method == 'PUT':
            self.traits.add(path.removeprefix('/traits/'))
            return response(201, '')
        if path == '/traits':
            return response(200, {'traits': sorted(self.traits)})
        if path == '/resource_providers':
            wanted = dict(urllib.parse.parse_qsl(query))
            found = [
                {'uuid': uuid, 'name': uuid, 'parent_provider_uuid': None}
                for uuid, traits in self.providers.items()
                if wanted.get('name') == uuid or wanted.get('required') in traits
            ]
            return response(200, {'resource_providers': found})
        uuid = path.split('/')[2]
        return response(
            200, {'resource_provider_generation': 1, 'traits': sorted(self.providers[uuid])}
        )

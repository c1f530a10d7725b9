# SPDX-License-Identifier: Apache-2.0
"""The client for Placement: what is sent, what is read, and answers of the wrong shape."""

import io
import json

import pytest
import requests

from fbm_placement import errors
from fbm_placement.model import Inventory, Provider
from fbm_placement.placement.client import PlacementClient

UUID = 'a1b2c3d4-0000-4000-8000-000000000001'
NODE = f'/resource_providers/{UUID}'
INVENTORY = Inventory(
    total=4096, reserved=1, min_unit=2, max_unit=4095, step_size=3, allocation_ratio=1.0
)
RECORD = {
    'total': 4096,
    'reserved': 1,
    'min_unit': 2,
    'max_unit': 4095,
    'step_size': 3,
    'allocation_ratio': 1.0,
}
GENERATION = {'resource_provider_generation': 7}


class Placement:
    """Sends nothing: answers with the given objects, one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []

    def send(self, method, url, body):
        self.sent.append((method, url, body))
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO(json.dumps(self.answers.pop(0)).encode())
        return response


def provider(parent):
    return {'uuid': UUID, 'name': 'a&b', 'generation': 1, 'parent_provider_uuid': parent}


CALLS = {
    'providers': lambda client: client.providers(name='a&b'),
    'inventory': lambda client: client.inventory(UUID),
    'put_inventory': lambda client: client.put_inventory(UUID, 7, INVENTORY),
    'traits': lambda client: client.traits(UUID),
    'put_traits': lambda client: client.put_traits(UUID, 7, frozenset({'C', 'A', 'B'})),
    'allocations': lambda client: client.allocations(UUID),
    'missing': lambda client: client.create_missing_traits({'CUSTOM_A'}),
}
REQUESTS = {
    'providers': ('GET', '/resource_providers?name=a%26b', None),
    'inventory': ('GET', f'{NODE}/inventories', None),
    'put_inventory': ('PUT', f'{NODE}/inventories/MEMORY_MB', GENERATION | RECORD),
    'traits': ('GET', f'{NODE}/traits', None),
    'put_traits': ('PUT', f'{NODE}/traits', GENERATION | {'traits': ['A', 'B', 'C']}),
    'allocations': ('GET', f'{NODE}/allocations', None),
    'missing': ('GET', '/traits?name=in%3ACUSTOM_A', None),
}


def allocations(*resources):
    return {'allocations': {str(n): {'resources': one} for n, one in enumerate(resources)}}


@pytest.mark.parametrize(
    ('call', 'answer', 'result'),
    [
        ('providers', {'resource_providers': []}, []),
        # A provider without a parent is a root.
        (
            'providers',
            {'resource_providers': [provider(None), provider('p')]},
            [Provider(UUID, 'a&b', is_root=True), Provider(UUID, 'a&b', is_root=False)],
        ),
        (
            'inventory',
            GENERATION | {'inventories': {'MEMORY_MB': RECORD, 'VCPU': RECORD | {'total': 5}}},
            (7, INVENTORY),
        ),
        # nova-compute has not reported yet.
        ('inventory', GENERATION | {'inventories': {'VCPU': RECORD}}, (7, None)),
        ('put_inventory', {'resource_provider_generation': 8} | RECORD, 8),
        ('traits', GENERATION | {'traits': ['B', 'A']}, (7, frozenset({'A', 'B'}))),
        ('put_traits', {'resource_provider_generation': 8, 'traits': []}, 8),
        # An instance without memory is no consumer of it.
        (
            'allocations',
            allocations({'MEMORY_MB': 100, 'VCPU': 1}, {'VCPU': 1}, {'MEMORY_MB': 11}),
            (111, 2),
        ),
        ('allocations', allocations(), (0, 0)),
        # Nothing is written where nothing is missing.
        ('missing', {'traits': ['CUSTOM_A', 'OTHER']}, frozenset()),
    ],
)
def test_one_request(call, answer, result):
    """Each method sends exactly one request, and reads what is needed of the answer."""
    placement = Placement(answer)
    assert CALLS[call](PlacementClient(placement.send)) == result
    assert placement.sent == [REQUESTS[call]]


def test_only_missing_traits_are_created():
    placement = Placement({'traits': ['CUSTOM_B']}, {}, {})
    created = PlacementClient(placement.send).create_missing_traits(
        {'CUSTOM_C', 'CUSTOM_B', 'CUSTOM_A'}
    )
    assert created == {'CUSTOM_A', 'CUSTOM_C'}
    assert placement.sent == [
        ('GET', '/traits?name=in%3ACUSTOM_A%2CCUSTOM_B%2CCUSTOM_C', None),
        ('PUT', '/traits/CUSTOM_A', None),
        ('PUT', '/traits/CUSTOM_C', None),
    ]


@pytest.mark.parametrize(
    ('call', 'body'),
    [
        *(
            ('providers', body)
            for body in (
                {},
                {'resource_providers': None},
                {'resource_providers': [1]},
                {'resource_providers': [{'uuid': UUID, 'name': 'n'}]},
            )
        ),
        *(
            ('inventory', body)
            for body in ({}, GENERATION, {'inventories': {}}, GENERATION | {'inventories': []})
        ),
        *(
            ('inventory', {'resource_provider_generation': generation, 'inventories': {}})
            for generation in (None, 'x', '1', 1.7, True, float('inf'))
        ),
        *(
            ('inventory', GENERATION | {'inventories': {'MEMORY_MB': record}})
            for record in (
                {},
                [1],
                RECORD | {'total': None},
                RECORD | {'total': 'x'},
                *({k: v for k, v in RECORD.items() if k != field} for field in RECORD),
            )
        ),
        *(('traits', body) for body in ({}, GENERATION, {'traits': []})),
        # Taken for none, the next write would drop every foreign trait.
        *(
            ('traits', GENERATION | {'traits': traits})
            for traits in (None, {}, 'CUSTOM_A', [None], 7)
        ),
        *(
            ('allocations', body)
            for body in (
                {},
                {'allocations': []},
                {'allocations': {'a': 1}},
                allocations(None),
                allocations({'MEMORY_MB': None}),
            )
        ),
        ('missing', {}),
        ('missing', {'traits': None}),
        *(
            (call, body)
            for call in ('put_inventory', 'put_traits')
            for body in ({}, {'traits': []})
        ),
    ],
)
def test_json_of_the_wrong_shape(call, body):
    """JSON that isn't Placement's is one line with the path, and nothing more is written."""
    placement = Placement(body)
    with pytest.raises(errors.PlacementError) as caught:
        CALLS[call](PlacementClient(placement.send))
    assert type(caught.value) is errors.PlacementError
    path = REQUESTS[call][1].split('?')[0]
    assert str(caught.value).startswith(f'{path}: JSON that is not what Placement answers here')
    assert str(caught.value).endswith('does [placement] point to another service?')
    assert len(placement.sent) == 1


@pytest.mark.parametrize('call', ['providers', 'missing'])
def test_an_endpoint_that_is_not_placements_root(call):
    """Each Placement has these lists, so it is not that something is missing there."""

    def send(_method, _url, _body):
        response = requests.Response()
        response.status_code = 404
        response.raw = io.BytesIO(json.dumps({'errors': [{'detail': 'Not found.'}]}).encode())
        return response

    with pytest.raises(errors.PlacementError, match="this is not Placement's root") as caught:
        CALLS[call](PlacementClient(send))
    assert not isinstance(caught.value, errors.NotFoundError)

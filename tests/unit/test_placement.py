# SPDX-License-Identifier: Apache-2.0
"""The nouns of Placement: what is asked, what is sent, and answers of the wrong shape."""

import pytest

from fbm_placement import errors
from fbm_placement.connection import connect
from fbm_placement.placement import Allocations, Provider
from fbm_placement.plan import Inventory
from tests.unit import fake_placement
from tests.unit.fake_placement import URL, UUID

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


@pytest.fixture
def client(nova_conf, http):
    """Return what is tested."""
    return connect(nova_conf())


@pytest.mark.parametrize(('parent', 'is_root'), [(None, True), ('p', False)])
def test_a_provider(client, http, parent, is_root):
    """A provider without a parent is a root."""
    body = {'uuid': UUID, 'name': 'n', 'generation': 1, 'parent_provider_uuid': parent}
    http.get(f'{URL}/resource_providers?uuid={UUID}', json={'resource_providers': [body]})
    assert client.providers(uuid=UUID) == [Provider(UUID, 'n', is_root=is_root)]


def test_providers_named(client, http):
    """The name is sent as it is, whatever is in it."""
    body = {'uuid': UUID, 'name': 'a&b', 'parent_provider_uuid': None}
    http.get(URL + '/resource_providers', json={'resource_providers': [body]})
    assert client.providers(name='a&b') == [Provider(UUID, 'a&b', is_root=True)]
    assert http.last_request.url == f'{URL}/resource_providers?name=a%26b'


def test_inventory(client, http):
    """All six fields are read, and the generation of the answer."""
    body = {
        'resource_provider_generation': 7,
        'inventories': {'MEMORY_MB': RECORD, 'VCPU': RECORD | {'total': 5}},
    }
    http.get(f'{URL}{NODE}/inventories', json=body)
    assert client.inventory(UUID) == (7, INVENTORY)


def test_no_inventory(client, http):
    """A provider without MEMORY_MB is one that nova-compute has not reported yet."""
    http.get(
        f'{URL}{NODE}/inventories',
        json={'resource_provider_generation': 0, 'inventories': {'VCPU': RECORD}},
    )
    assert client.inventory(UUID) == (0, None)


def test_put_inventory(client, http):
    """Exactly the record of MEMORY_MB is replaced: six fields and the generation, no less."""
    answer = {'resource_provider_generation': 8, **RECORD}
    http.put(f'{URL}{NODE}/inventories/MEMORY_MB', json=answer)
    assert client.put_inventory(UUID, 7, INVENTORY) == 8
    assert http.last_request.json() == {'resource_provider_generation': 7, **RECORD}


def test_traits(client, http):
    """All of the provider's traits, with the generation."""
    body = {'resource_provider_generation': 7, 'traits': ['B', 'A']}
    http.get(f'{URL}{NODE}/traits', json=body)
    assert client.traits(UUID) == (7, frozenset({'A', 'B'}))


def test_put_traits(client, http):
    """The whole set is sent, sorted, with the generation."""
    http.put(f'{URL}{NODE}/traits', json={'resource_provider_generation': 8, 'traits': []})
    assert client.put_traits(UUID, 7, frozenset({'C', 'A', 'B'})) == 8
    assert http.last_request.json() == {
        'resource_provider_generation': 7,
        'traits': ['A', 'B', 'C'],
    }


def test_allocations(client, http):
    """Only memory counts; an instance without it is no consumer of it."""
    body = {
        'resource_provider_generation': 7,
        'allocations': {
            'a': {'resources': {'MEMORY_MB': 100, 'VCPU': 1}},
            'b': {'resources': {'VCPU': 1}},
            'c': {'resources': {'MEMORY_MB': 11}},
        },
    }
    http.get(f'{URL}{NODE}/allocations', json=body)
    assert client.allocations(UUID) == Allocations(allocated_mib=111, consumers=2)


def test_no_allocations(client, http):
    """An empty host."""
    http.get(f'{URL}{NODE}/allocations', json={'allocations': {}})
    assert client.allocations(UUID) == Allocations(allocated_mib=0, consumers=0)


def test_only_missing_traits_are_created(client, http):
    """One request tells what is there; one each creates the rest."""
    http.get(f'{URL}/traits', json={'traits': ['CUSTOM_B']})
    http.put(f'{URL}/traits/CUSTOM_A', status_code=201)
    http.put(f'{URL}/traits/CUSTOM_C', status_code=204)
    created = client.create_missing_traits({'CUSTOM_C', 'CUSTOM_B', 'CUSTOM_A'})
    assert created == {'CUSTOM_A', 'CUSTOM_C'}
    asked, *made = http.request_history
    assert asked.qs == {'name': ['in:custom_a,custom_b,custom_c']}
    assert [sent.url for sent in made] == [f'{URL}/traits/CUSTOM_A', f'{URL}/traits/CUSTOM_C']


def test_traits_that_are_there_cost_one_request(client, http):
    """Nothing is written where nothing is missing."""
    http.get(f'{URL}/traits', json={'traits': ['CUSTOM_A', 'OTHER']})
    assert client.create_missing_traits({'CUSTOM_A'}) == frozenset()
    assert len(http.request_history) == 1


READS = {
    'named': ('/resource_providers', lambda client: client.providers(name='a')),
    'inventory': (f'{NODE}/inventories', lambda client: client.inventory(UUID)),
    'traits': (f'{NODE}/traits', lambda client: client.traits(UUID)),
    'allocations': (f'{NODE}/allocations', lambda client: client.allocations(UUID)),
    'missing': ('/traits', lambda client: client.create_missing_traits({'CUSTOM_A'})),
}

GENERATION = {'resource_provider_generation': 7}


@pytest.mark.parametrize(
    ('read', 'body'),
    [
        ('named', {'resource_providers': [{'uuid': UUID, 'name': 'n'}]}),
        ('named', {}),
        ('named', {'resource_providers': None}),
        ('named', {'resource_providers': [1]}),
        ('named', {'resource_providers': [{'uuid': UUID}]}),
        ('inventory', {}),
        ('inventory', GENERATION),
        ('inventory', {'inventories': {}}),
        ('inventory', GENERATION | {'inventories': []}),
        ('inventory', GENERATION | {'inventories': {'MEMORY_MB': {}}}),
        ('inventory', GENERATION | {'inventories': {'MEMORY_MB': [1]}}),
        ('inventory', GENERATION | {'inventories': {'MEMORY_MB': RECORD | {'total': None}}}),
        ('inventory', GENERATION | {'inventories': {'MEMORY_MB': RECORD | {'total': 'x'}}}),
        ('inventory', {'resource_provider_generation': None, 'inventories': {}}),
        ('inventory', {'resource_provider_generation': 'x', 'inventories': {}}),
        *(
            ('inventory', GENERATION | {'inventories': {'MEMORY_MB': record}})
            for record in ({k: v for k, v in RECORD.items() if k != field} for field in RECORD)
        ),
        ('traits', {}),
        ('traits', GENERATION),
        ('traits', {'traits': []}),
        ('traits', GENERATION | {'traits': None}),
        ('allocations', {}),
        ('allocations', {'allocations': []}),
        ('allocations', {'allocations': {'a': 1}}),
        ('allocations', {'allocations': {'a': {'resources': None}}}),
        ('allocations', {'allocations': {'a': {'resources': {'MEMORY_MB': None}}}}),
        ('missing', {}),
        ('missing', {'traits': None}),
    ],
)
def test_json_of_the_wrong_shape(client, http, read, body):
    """JSON that isn't Placement's is one line with the path, and nothing is written."""
    path, work = READS[read]
    http.get(URL + path, json=body)
    with pytest.raises(errors.PlacementError) as caught:
        work(client)
    line = str(caught.value)
    assert type(caught.value) is errors.PlacementError
    assert line.startswith(f'{path}: JSON that is not what Placement answers here')
    assert line.endswith('does [placement] point to another service?')
    assert [sent.method for sent in http.request_history] == ['GET']


@pytest.mark.parametrize(
    ('path', 'write'),
    [
        ('/inventories/MEMORY_MB', lambda client: client.put_inventory(UUID, 7, INVENTORY)),
        ('/traits', lambda client: client.put_traits(UUID, 7, {'A'})),
    ],
)
@pytest.mark.parametrize(
    ('answer', 'kind'),
    [
        (
            {'status_code': 409, 'json': fake_placement.error('x', fake_placement.CONFLICT)},
            errors.ConflictError,
        ),
        (
            {'status_code': 409, 'json': fake_placement.error('x', 'placement.other')},
            errors.PlacementError,
        ),
        ({'status_code': 400, 'json': fake_placement.error('x')}, errors.BadRequestError),
        ({'status_code': 404, 'json': fake_placement.error('x')}, errors.NotFoundError),
        ({'json': {'traits': []}}, errors.PlacementError),
        ({'status_code': 204}, errors.PlacementError),
    ],
)
def test_writes_that_fail(client, http, path, write, answer, kind):
    """A write is tried once; what becomes of it is up to the pass."""
    http.put(URL + NODE + path, **answer)
    with pytest.raises(errors.PlacementError) as caught:
        write(client)
    assert type(caught.value) is kind
    assert len(http.request_history) == 1

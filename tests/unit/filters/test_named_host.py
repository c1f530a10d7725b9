# SPDX-License-Identifier: Apache-2.0
"""Which compute node a request names, read as Nova reads it."""

from unittest import mock

import pytest
from nova import context as nova_context
from nova import objects

from fbm_filters import named_host, placement
from tests.unit.filters.test_facts import spec

CONTEXT = nova_context.get_admin_context()
NODES = ('4f1c1d4e-0000-4000-8000-000000000001', '4f1c1d4e-0000-4000-8000-000000000002')


@pytest.fixture(autouse=True)
def database(monkeypatch):
    """Nova's database: the host `one` with a node, `two` with two of them."""
    found = {'one': ['one.example.org'], 'two': ['a', 'b']}

    def get_all_by_host(_context, host):
        return [
            objects.ComputeNode(host=host, hypervisor_hostname=name, uuid=uuid)
            for name, uuid in zip(found[host], NODES, strict=False)
        ]

    mapping = mock.Mock(cell_mapping=objects.CellMapping(uuid=NODES[0]))
    get_by_host = mock.Mock(return_value=mapping)
    monkeypatch.setattr(objects.ComputeNodeList, 'get_all_by_host', get_all_by_host)
    monkeypatch.setattr(objects.HostMapping, 'get_by_host', get_by_host)
    monkeypatch.setattr('nova.context.set_target_cell', lambda *_args: None)
    return get_by_host


def destination(**named):
    """Return what the API makes of a server's host, node, or both."""
    return objects.Destination(**named)


@pytest.mark.parametrize(
    ('named', 'name', 'uuid'),
    [
        ({'requested_destination': destination(host='one')}, 'one', NODES[0]),
        ({'requested_destination': destination(host='two', node='b')}, 'two', NODES[1]),
        ({'force_hosts': ['one']}, 'one', NODES[0]),
        ({'force_hosts': ['two'], 'force_nodes': ['a']}, 'two', NODES[0]),
        # A move after a forced boot: where it is to go now is what counts.
        (
            {'requested_destination': destination(host='one'), 'force_hosts': ['two']},
            'one',
            NODES[0],
        ),
    ],
)
def test_named(named, name, uuid) -> None:
    """By the request's destination, or by its availability zone."""
    node = named_host.find(CONTEXT, spec(**named))
    assert node is not None
    assert (node.host, node.uuid) == (name, uuid)


@pytest.mark.parametrize(
    'named',
    [
        {},
        {'requested_destination': None, 'force_hosts': None},
        {'requested_destination': destination(), 'force_hosts': []},
        {'force_hosts': ['two']},
        {'force_hosts': ['two'], 'force_nodes': ['c']},
    ],
)
def test_none_or_more_than_one(named) -> None:
    """Then no host can be told of."""
    assert named_host.find(CONTEXT, spec(**named)) is None


def test_a_hypervisor_alone(monkeypatch) -> None:
    """Its provider is found by that name."""
    asked = mock.Mock(side_effect=[NODES[1], None])
    monkeypatch.setattr(placement, 'provider_named', asked)
    node = named_host.find(CONTEXT, spec(requested_destination=destination(node='b')))
    assert node is not None
    assert (node.host, node.uuid) == ('b', NODES[1])
    assert named_host.find(CONTEXT, spec(requested_destination=destination(node='c'))) is None


def test_the_cell_of_a_move_is_known(database) -> None:
    """It costs no query."""
    cell = objects.CellMapping(uuid=NODES[1])
    asked = spec(requested_destination=destination(host='one', cell=cell))
    assert named_host.find(CONTEXT, asked) is not None
    database.assert_not_called()

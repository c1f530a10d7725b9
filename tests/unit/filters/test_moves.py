# SPDX-License-Identifier: Apache-2.0
"""What is a move and what a boot, and what is read of a move."""

from unittest import mock

import pytest
from nova import context as nova_context
from nova import objects

from fbm_filters import moves
from fbm_filters.rules import RequestFacts, SchedulerHost
from tests.unit.fake_placement import Provider
from tests.unit.filters.specs import ALIAS, spec, to

CONTEXT = nova_context.get_admin_context()
CELL = objects.CellMapping(uuid='4f1c1d4e-0000-4000-8000-000000000001')
UUIDS = ('4f1c1d4e-0000-4000-8000-000000000001', '4f1c1d4e-0000-4000-8000-000000000002')
ENABLED = frozenset({'CUSTOM_FILE_BACKED_MEMORY'})


@pytest.fixture(autouse=True)
def database(monkeypatch):
    found = {'one': ['one.example.org'], 'two': ['a', 'b']}

    def get_all_by_host(_context, host):
        return [
            objects.ComputeNode(host=host, hypervisor_hostname=name, uuid=uuid)
            for name, uuid in zip(found[host], UUIDS, strict=False)
        ]

    mapping = mock.Mock(cell_mapping=CELL)
    fake = mock.Mock()
    fake.mapping.return_value = mapping

    def get_by_host_and_nodename(context, host, name):
        (node,) = [
            one for one in get_all_by_host(context, host) if one.hypervisor_hostname == name
        ]
        return node

    monkeypatch.setattr(objects.ComputeNodeList, 'get_all_by_host', get_all_by_host)
    monkeypatch.setattr(objects.ComputeNode, 'get_by_host_and_nodename', get_by_host_and_nodename)
    monkeypatch.setattr(objects.HostMapping, 'get_by_host', fake.mapping)
    monkeypatch.setattr(objects.InstanceMapping, 'get_by_instance_uuid', fake.mapping)
    monkeypatch.setattr(objects.Instance, 'get_by_uuid', fake.instance)
    monkeypatch.setattr('nova.context.set_target_cell', lambda _ctxt, cell: fake.target(cell))
    return fake


@pytest.fixture(autouse=True)
def providers(placement):
    traits = {UUIDS[0]: {*ENABLED, 'COMPUTE_NODE'}, UUIDS[1]: set()}
    placement.providers = {one: Provider(one, one, traits=own) for one, own in traits.items()}


@pytest.mark.parametrize(
    ('asked', 'is_one'),
    [
        (spec(), False),
        (spec(requested_destination=None), False),
        (to(host='one'), False),
        (to(host='one', cell=None, allow_cross_cell_move=False), False),
        (to(cell=CELL), True),
        (to(host='one', cell=None, allow_cross_cell_move=True), True),
    ],
)
def test_is_a_move(asked, is_one) -> None:
    assert moves.is_move(asked) is is_one


def test_a_move_across_cells_is_read_from_its_own(database) -> None:
    """Its ports' requests are nowhere else, and it is no live migration."""
    port = objects.InstancePCIRequest(count=1, requester_id='port', **ALIAS)
    port.alias_name = None
    requests = objects.InstancePCIRequests(requests=[port])
    database.instance.return_value = mock.Mock(pci_requests=requests, task_state='resize_prep')
    asked = to(host='one', allow_cross_cell_move=True)
    read = moves.add_move(RequestFacts(needs=frozenset({'realtime'})), CONTEXT, asked)
    assert read == RequestFacts(needs=frozenset({'realtime', 'sriov'}))
    database.target.assert_called_once_with(CELL)


@pytest.mark.parametrize(
    ('named', 'destination'),
    [
        ({}, None),
        ({'host': 'one'}, SchedulerHost('one', ENABLED)),
        ({'host': 'two', 'node': 'b'}, SchedulerHost('two', frozenset())),
        # Of several compute nodes none is named.
        ({'host': 'two'}, None),
        ({'host': 'two', 'node': 'c'}, None),
    ],
)
def test_source_and_destination_of_a_live_migration(
    database, placement, named, destination
) -> None:
    """With those of their traits that the rules are about; a request for each."""
    placement.providers[UUIDS[1]].traits = {'COMPUTE_MEM_BACKING_FILE', 'COMPUTE_NODE'}
    database.instance.return_value = mock.Mock(
        pci_requests=None, task_state='migrating', host='two', node='b'
    )
    asked = to(cell=CELL, **named)
    asked.ignore_hosts = ['two']
    source = SchedulerHost('two', frozenset({'COMPUTE_MEM_BACKING_FILE'}))
    if destination is not None and destination.name == 'two':
        destination = source
    assert moves.add_move(RequestFacts(), CONTEXT, asked) == RequestFacts(
        source=source, destination=destination
    )
    assert len(placement.requests) == 1 + (destination is not None)

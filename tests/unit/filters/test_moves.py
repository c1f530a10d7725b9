# SPDX-License-Identifier: Apache-2.0
"""What is a move and what a boot, what is read of a move, and which host a request names."""

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
    monkeypatch.setattr(objects.ComputeNodeList, 'get_all_by_host', get_all_by_host)
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


ONE = SchedulerHost('one', ENABLED)
PLAIN = frozenset[str]()


@pytest.mark.parametrize(
    ('asked', 'host'),
    [
        (to(host='one'), ONE),
        (to(host='two', node='b'), SchedulerHost('two', PLAIN)),
        (spec(force_hosts=['one']), ONE),
        (spec(force_hosts=['two'], force_nodes=['a']), SchedulerHost('two', ENABLED)),
        # A move after a forced boot: where it is to go now is what counts.
        (spec(requested_destination=objects.Destination(host='one'), force_hosts=['two']), ONE),
        # A hypervisor alone: its provider is found by that name.
        (to(node=UUIDS[1]), SchedulerHost(UUIDS[1], PLAIN)),
        (to(node='unknown'), None),
        # None, or more than one.
        (spec(), None),
        (spec(requested_destination=None, force_hosts=None), None),
        (spec(requested_destination=objects.Destination(), force_hosts=[]), None),
        (spec(force_hosts=['two']), None),
        (spec(force_hosts=['two'], force_nodes=['c']), None),
    ],
)
def test_named_host(asked, host) -> None:
    """By the request's destination, or by its availability zone, read as Nova reads it."""
    assert moves.named_host(CONTEXT, asked) == host


def test_the_cell_of_a_move_is_known(database) -> None:
    assert moves.named_host(CONTEXT, to(host='one', cell=CELL)) == ONE
    database.mapping.assert_not_called()

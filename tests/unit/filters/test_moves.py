# SPDX-License-Identifier: Apache-2.0
"""What tells a move from a boot; what is read of a move that may leave its cell."""

from unittest import mock

import pytest
from nova import context as nova_context
from nova import objects

from fbm_filters import live_migration
from tests.unit.filters.test_facts import ALIAS, spec

CONTEXT = nova_context.get_admin_context()
CELL = objects.CellMapping(uuid='4f1c1d4e-0000-4000-8000-000000000001')


def to(**destination):
    """Return a request with this destination."""
    return spec(requested_destination=objects.Destination(**destination))


@pytest.mark.parametrize(
    ('asked', 'moves'),
    [
        (spec(), False),
        (spec(requested_destination=None), False),
        (to(host='one'), False),
        (to(host='one', cell=None, allow_cross_cell_move=False), False),
        (to(cell=CELL), True),
        (to(host='one', cell=None, allow_cross_cell_move=True), True),
    ],
)
def test_is_a_move(asked, moves) -> None:
    """It is limited to a cell, or allowed to leave it."""
    assert live_migration.is_move(asked) is moves


def test_a_move_across_cells_is_read_from_its_own(monkeypatch) -> None:
    """Its ports are nowhere else, and it is no live migration."""
    port = objects.InstancePCIRequest(count=1, requester_id='port', **ALIAS)
    port.alias_name = None
    requests = objects.InstancePCIRequests(requests=[port])
    instance = mock.Mock(pci_requests=requests, task_state='resize_prep')
    mapping = mock.Mock(cell_mapping=CELL)
    targeted = []
    monkeypatch.setattr('nova.context.set_target_cell', lambda _ctxt, cell: targeted.append(cell))
    monkeypatch.setattr(objects.Instance, 'get_by_uuid', mock.Mock(return_value=instance))
    monkeypatch.setattr(
        objects.InstanceMapping, 'get_by_instance_uuid', mock.Mock(return_value=mapping)
    )
    move = live_migration.find(CONTEXT, to(host='one', allow_cross_cell_move=True))
    assert move == live_migration.Move((port,))
    assert targeted == [CELL]

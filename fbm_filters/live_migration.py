# SPDX-License-Identifier: Apache-2.0
"""Is the request a move, is it a live migration, and from where? No RequestSpec field says so.

A boot is neither, and asks nobody. For a move the instance is read from its cell.
"""

from dataclasses import dataclass
from typing import Any

from nova import context as nova_context
from nova import objects
from nova.compute import task_states


@dataclass(frozen=True)
class Node:
    """A compute node and, as its UUID, its resource provider."""

    host: str
    uuid: str


@dataclass(frozen=True)
class Move:
    """What the instance that is moved tells beside its RequestSpec."""

    port_requests: 'tuple[objects.InstancePCIRequest, ...]'
    """PCI requests of its ports: of one attached after the boot no RequestSpec tells."""
    source: Node | None = None
    """Where a live migration comes from; None: it is another move."""
    destination: Node | None = None
    """The host that a live migration names; None: the scheduler chooses."""


def is_move(spec: 'objects.RequestSpec') -> bool:
    """Tell whether the request moves an instance: it has a cell, or may leave it; a boot has none.

    A cold migration to a named host has none either, where it may cross cells
    (nova/conductor/tasks/migrate.py).
    """
    return bool(requested(spec, 'cell') or requested(spec, 'allow_cross_cell_move'))


def requested(spec: 'objects.RequestSpec', name: str) -> Any:
    """Return a field of the request's destination; None where it, or that, is not set."""
    destination = spec.requested_destination if 'requested_destination' in spec else None
    return getattr(destination, name) if destination and name in destination else None


def find(context: 'nova_context.RequestContext', spec: 'objects.RequestSpec') -> Move | None:
    """Return what the move is, or None where the request is a boot.

    A live migration has ``ignore_hosts`` set (nova/conductor/tasks/live_migrate.py), as other
    moves have, but only its API sets the task state ``migrating``. The Migration record is no
    evidence: stale ones linger, and its source node isn't set yet.

    :raises nova.exception.NovaException: instance or compute node not found
    :raises oslo_db.exception.DBError: the cell's database can't be asked
    """
    if not is_move(spec):
        return None
    # Elevated: an instance is else only found by its own project.
    with nova_context.target_cell(context.elevated(), _cell(context, spec)) as cell:
        instance = objects.Instance.get_by_uuid(
            cell, spec.instance_uuid, expected_attrs=['pci_requests']
        )
        requests = instance.pci_requests.requests if instance.pci_requests else ()
        ports = tuple(r for r in requests if r.source == objects.InstancePCIRequest.NEUTRON_PORT)
        ignores = 'ignore_hosts' in spec and spec.ignore_hosts
        if not ignores or instance.task_state != task_states.MIGRATING:
            return Move(ports)
        source = objects.ComputeNode.get_by_host_and_nodename(cell, instance.host, instance.node)
        return Move(
            ports,
            source=Node(host=source.host, uuid=source.uuid),
            destination=_destination(cell, spec),
        )


def _cell(
    context: 'nova_context.RequestContext', spec: 'objects.RequestSpec'
) -> 'objects.CellMapping':
    if cell := requested(spec, 'cell'):
        return cell
    return objects.InstanceMapping.get_by_instance_uuid(context, spec.instance_uuid).cell_mapping


def _destination(cell: 'nova_context.RequestContext', spec: 'objects.RequestSpec') -> Node | None:
    host, name = requested(spec, 'host'), requested(spec, 'node')
    if not host:
        return None
    if name:
        node = objects.ComputeNode.get_by_host_and_nodename(cell, host, name)
    else:
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(cell, host)
    return Node(host=node.host, uuid=node.uuid)

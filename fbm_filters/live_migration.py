# SPDX-License-Identifier: Apache-2.0
"""Is the request a live migration, and from where? No field of a RequestSpec says so."""

from dataclasses import dataclass

from nova import context as nova_context
from nova import objects
from nova.compute import task_states


@dataclass(frozen=True)
class Node:
    """A compute node and, as its UUID, its resource provider."""

    host: str
    uuid: str


@dataclass(frozen=True)
class LiveMigration:
    """Where it comes from, and where it is told to go."""

    source: Node
    destination: Node | None
    """None: the scheduler chooses."""
    pci_requests: 'tuple[objects.InstancePCIRequest, ...]' = ()
    """The instance's own: those of ports attached after the boot are in no RequestSpec."""


def may_be_live_migration(spec: 'objects.RequestSpec') -> bool:
    """Tell whether the request has what every live migration has; a boot hasn't.

    conductor/tasks/live_migrate.py sets both, and so do other moves: ``find`` tells them apart.
    """
    destination = spec.requested_destination if 'requested_destination' in spec else None
    return bool(
        'ignore_hosts' in spec
        and spec.ignore_hosts
        and destination
        and 'cell' in destination
        and destination.cell
    )


def find(
    context: 'nova_context.RequestContext', spec: 'objects.RequestSpec'
) -> LiveMigration | None:
    """Return the live migration that the request is, or None where it is another move.

    Only the live migration API sets the task state ``migrating``. The Migration record is no
    evidence: stale ones linger, and its source node isn't set yet.

    :raises nova.exception.NovaException: instance or compute node not found
    :raises oslo_db.exception.DBError: the cell's database can't be asked
    """
    if not may_be_live_migration(spec):
        return None
    destination = spec.requested_destination
    # Elevated: an instance is else only found by its own project.
    with nova_context.target_cell(context.elevated(), destination.cell) as cell:
        instance = objects.Instance.get_by_uuid(
            cell, spec.instance_uuid, expected_attrs=['pci_requests']
        )
        if instance.task_state != task_states.MIGRATING:
            return None
        source = objects.ComputeNode.get_by_host_and_nodename(cell, instance.host, instance.node)
        return LiveMigration(
            source=Node(host=source.host, uuid=source.uuid),
            destination=_destination(cell, destination),
            pci_requests=tuple(instance.pci_requests.requests) if instance.pci_requests else (),
        )


def _destination(cell: 'nova_context.RequestContext', named: 'objects.Destination') -> Node | None:
    if 'host' not in named or not named.host:
        return None
    if 'node' in named and named.node:
        node = objects.ComputeNode.get_by_host_and_nodename(cell, named.host, named.node)
    else:
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(cell, named.host)
    return Node(host=node.host, uuid=node.uuid)

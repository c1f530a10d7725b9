# SPDX-License-Identifier: Apache-2.0
"""Where an instance comes from and where it is to go: what no field of a RequestSpec has.

A boot costs nothing. For a move the instance is read from its cell.
"""

from dataclasses import replace
from typing import Any

from nova import objects
from nova.compute import task_states
from nova.context import RequestContext, target_cell
from nova.objects.request_spec import RequestSpec

from fbm_filters import facts, placement
from fbm_filters.rules import RequestFacts, SchedulerHost


def is_move(spec: RequestSpec) -> bool:
    """Return whether the request moves an instance: then it has a cell, or may leave its cell.

    A cold migration to a named host has none where it may (nova/conductor/tasks/migrate.py).
    """
    return bool(_requested(spec, 'cell') or _requested(spec, 'allow_cross_cell_move'))


def add_move(asked: RequestFacts, context: RequestContext, spec: RequestSpec) -> RequestFacts:
    """Return the facts with what is known of a moving instance; the same ones for a boot.

    That is its ports' needs (of a port attached after the boot no RequestSpec has any), and source
    and destination of a live migration. One has ``ignore_hosts`` set, as other moves have, but
    only its API sets the task state ``migrating`` (nova/conductor/tasks/live_migrate.py). The
    Migration record is no evidence: stale ones linger, and its source node isn't set yet.

    :raises nova.exception.NovaException: instance or compute node not found
    :raises oslo_db.exception.DBError: the cell's database can't be read
    :raises PlacementError: the traits of source or destination can't be read
    """
    if not is_move(spec):
        return asked
    # Elevated: an instance is else only found by its own project.
    with target_cell(context.elevated(), _cell(context, spec)) as cell:
        instance = objects.Instance.get_by_uuid(
            cell, spec.instance_uuid, expected_attrs=['pci_requests']
        )
        requests = instance.pci_requests.requests if instance.pci_requests else ()
        ports = [r for r in requests if r.source == objects.InstancePCIRequest.NEUTRON_PORT]
        asked = replace(asked, needs=asked.needs | frozenset(facts.kinds_of(ports)))
        ignores = 'ignore_hosts' in spec and spec.ignore_hosts
        if not ignores or instance.task_state != task_states.MIGRATING:
            return asked
        node = objects.ComputeNode.get_by_host_and_nodename(cell, instance.host, instance.node)
        named = _requested(spec, 'host')
        return replace(
            asked,
            source=_host(cell, node.host, node.uuid),
            destination=_compute(cell, named, _requested(spec, 'node')) if named else None,
        )


def _compute(cell: RequestContext, host: str, node: str | None) -> SchedulerHost | None:
    nodes = objects.ComputeNodeList.get_all_by_host(cell, host)
    fitting = [one for one in nodes if not node or one.hypervisor_hostname == node]
    return _host(cell, host, fitting[0].uuid) if len(fitting) == 1 else None


def _host(context: RequestContext, name: str, uuid: str) -> SchedulerHost:
    _, traits = placement.client(context).traits(uuid)
    return SchedulerHost(name, traits & placement.TRAITS)


def _cell(context: RequestContext, spec: RequestSpec) -> 'objects.CellMapping':
    if cell := _requested(spec, 'cell'):
        return cell
    return objects.InstanceMapping.get_by_instance_uuid(context, spec.instance_uuid).cell_mapping


def _requested(spec: RequestSpec, name: str) -> Any:
    """Return a field of the request's destination; None where it, or that, is not set."""
    destination = spec.requested_destination if 'requested_destination' in spec else None
    return getattr(destination, name) if destination and name in destination else None

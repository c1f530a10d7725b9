# SPDX-License-Identifier: Apache-2.0
"""The host that a boot or a cold move names, so that a refusal can name it too.

Placement leaves a host that does not fit out of its answer anyway, but without a word of why. For
a live migration see ``live_migration.py``: what it names is part of the rules there.
"""

from typing import Any

from nova import context as nova_context
from nova import objects

from fbm_filters import placement
from fbm_filters.live_migration import Node, requested


def find(context: 'nova_context.RequestContext', spec: 'objects.RequestSpec') -> Node | None:
    """Return what the request names; None: nothing, or more than one compute node.

    Read as Nova reads it (``resources_from_request_spec`` in nova/scheduler/utils.py), so the
    query to Placement is about this node only. It costs a boot two queries, a move one; where only
    a hypervisor's hostname is named one request.

    :raises nova.exception.NovaException: there is no such host
    :raises oslo_db.exception.DBError: a database can't be asked
    :raises PlacementUnknownError: Placement can't be asked
    """
    host = requested(spec, 'host') or _first(spec, 'force_hosts')
    node = requested(spec, 'node') or _first(spec, 'force_nodes')
    if not host:
        return _provider_of(context, node) if node else None
    cell = requested(spec, 'cell')
    if cell is None:
        cell = objects.HostMapping.get_by_host(context, host).cell_mapping
    with nova_context.target_cell(context.elevated(), cell) as in_cell:
        found = objects.ComputeNodeList.get_all_by_host(in_cell, host)
    fitting = [one for one in found if not node or one.hypervisor_hostname == node]
    return Node(host=host, uuid=fitting[0].uuid) if len(fitting) == 1 else None


def _provider_of(context: 'nova_context.RequestContext', node: str) -> Node | None:
    uuid = placement.provider_named(context, node)
    return None if uuid is None else Node(host=node, uuid=uuid)


def _first(spec: 'objects.RequestSpec', name: str) -> Any:
    names = getattr(spec, name) if name in spec else None
    return names[0] if names else None

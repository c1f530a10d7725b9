# SPDX-License-Identifier: Apache-2.0
"""What the scheduler's side reads from Placement, through Nova's own client."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from nova.context import RequestContext
from nova.scheduler.client import report
from oslo_log import log

from fbm_filters.fresh import Fresh
from fbm_placement.constants import MICROVERSION, OWN_TRAITS
from fbm_placement.placement.client import PlacementClient

LOG = log.getLogger(__name__)

FALLBACK_INTERVALS = 5
"""For so many refresh intervals an old snapshot is better than none."""

Snapshot = Mapping[str, frozenset[str]]
"""By each of the three traits, the UUIDs of the providers that have it."""


def client(context: RequestContext) -> PlacementClient:
    """Return a client whose requests bear the id of the request that is scheduled."""

    def send(method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        novas = report.report_client_singleton()
        extra = {'version': MICROVERSION, 'global_request_id': context.global_id}
        return novas.get(url, **extra) if method == 'GET' else novas.put(url, body, **extra)

    return PlacementClient(send)


def ensured_traits(seconds: float, clock: Callable[[], float] = time.monotonic) -> Fresh[None]:
    """Return what creates missing traits: a name that doesn't exist would stop every boot.

    :param seconds: after which it checks again: a trait may have been deleted
    """

    def create(context: RequestContext) -> None:
        for trait in sorted(client(context).create_missing_traits(OWN_TRAITS)):
            LOG.info('Created trait %s in Placement', trait)

    return Fresh(create, seconds, clock=clock)


def snapshots(
    traits: Fresh[None], seconds: float, clock: Callable[[], float] = time.monotonic
) -> Fresh[Snapshot]:
    """Return what reads all providers of the cloud that have one of the traits: three requests."""

    def read(context: RequestContext) -> Snapshot:
        traits.get(context)
        placement = client(context)
        return {
            trait: frozenset(one.uuid for one in placement.providers(required=trait))
            for trait in sorted(OWN_TRAITS)
        }

    return Fresh(read, seconds, FALLBACK_INTERVALS * seconds, clock)

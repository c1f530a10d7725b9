# SPDX-License-Identifier: Apache-2.0
"""What the scheduler's side reads from Placement, through Nova's report client."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import nova.conf
from keystoneauth1 import loading
from nova.context import RequestContext
from nova.scheduler.client import report
from oslo_log import log

from fbm_filters.rules import TRAIT_OF_NOVA
from fbm_placement.constants import MICROVERSION, OWN_TRAITS
from fbm_placement.errors import PlacementError
from fbm_placement.placement.client import PlacementClient

LOG = log.getLogger(__name__)

ANSWER_SECONDS = 10
"""No request waits longer for an answer; a shorter ``[placement]timeout`` is kept."""

TRAITS = OWN_TRAITS | {TRAIT_OF_NOVA}
"""What the rules name."""

Snapshot = Mapping[str, frozenset[str]]
"""By each of TRAITS, the UUIDs of the providers that have it."""


def client(context: RequestContext) -> PlacementClient:
    """Return a client whose requests bear the id of the request that is scheduled."""

    def send(method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        novas = connection(os.getpid())
        extra = {'version': MICROVERSION, 'global_request_id': context.global_id}
        return novas.get(url, **extra) if method == 'GET' else novas.put(url, body, **extra)

    return PlacementClient(send)


@functools.lru_cache(maxsize=1)
def connection(_process: int) -> 'report.SchedulerReportClient':
    """Return a client like Nova's own, which waits for an answer without limit by default.

    A process has its own: connections are not to be shared over a fork.
    """
    conf = nova.conf.CONF
    auth = loading.load_auth_from_conf_options(conf, 'placement')
    timeout = min(conf.placement.timeout or ANSWER_SECONDS, ANSWER_SECONDS)
    session = loading.load_session_from_conf_options(conf, 'placement', auth=auth, timeout=timeout)
    adapter = loading.load_adapter_from_conf_options(
        conf,
        'placement',
        session=session,
        auth=auth,
        raise_exc=False,
        connect_retries=0,
        status_code_retries=0,
    )
    return report.SchedulerReportClient(adapter=adapter)


def traits_in_use(context: RequestContext) -> frozenset[str]:
    """Return those of TRAITS that a provider has: Placement lets no client delete these.

    Creates this project's traits where they are missing: a flavor may name them.
    """
    placement = client(context)
    in_use = placement.existing_traits(TRAITS, associated='true')
    if not in_use >= OWN_TRAITS:
        try:
            for trait in sorted(placement.create_missing_traits(OWN_TRAITS)):
                LOG.info('Created trait %s in Placement', trait)
        except PlacementError as exc:
            # What was read is true all the same, and each agent creates them, too.
            LOG.debug('Traits are not created: %s', exc)
    return in_use


def providers_by_trait(context: RequestContext) -> Snapshot:
    """Return all providers of the cloud that have one of TRAITS."""
    in_use = traits_in_use(context)
    placement = client(context)
    return {
        trait: frozenset(
            [one.uuid for one in placement.providers(required=trait)] if trait in in_use else ()
        )
        for trait in sorted(TRAITS)
    }

# SPDX-License-Identifier: Apache-2.0
"""From a RequestSpec to the rules' answer: reads the facts, and decides what a failure means.

An unexpected error never stops a request that has nothing to do with file-backed memory, and
never lets one through that has.
"""

from dataclasses import replace

from nova import context as nova_context
from nova import exception, objects
from oslo_db import exception as db_exception
from oslo_log import log

from fbm_filters import errors, facts, live_migration, placement
from fbm_filters.rules import SUBJECT, Answer, Host, Policy, RequestFacts, decide

LOG = log.getLogger(__name__)

_EXPECTED = (exception.NovaException, db_exception.DBError, errors.PlacementUnknownError)
"""What befalls a request when a database or Placement is away; anything else is a bug."""


def answer_for(
    context: 'nova_context.RequestContext', spec: 'objects.RequestSpec', policy: Policy
) -> Answer:
    """Return the rules' answer for one request; it never raises."""
    try:
        return decide(_facts(context, spec), policy)
    except Exception as exc:
        LOG.log(
            log.WARNING if isinstance(exc, _EXPECTED) else log.ERROR,
            'Instance %s: what it needs of a host could not be found out: %s',
            spec.instance_uuid,
            exc,
            exc_info=not isinstance(exc, _EXPECTED),
        )
        if facts.mentions_rules(spec) or live_migration.may_be_live_migration(spec):
            return Answer((), refusal=_refusal(exc))
        return decide(RequestFacts(), policy)


def _facts(context: 'nova_context.RequestContext', spec: 'objects.RequestSpec') -> RequestFacts:
    asked = facts.read(spec)
    move = live_migration.find(context, spec)
    if move is None:
        return asked
    return replace(
        asked,
        needs=asked.needs | frozenset(facts.kinds_of(move.pci_requests)),
        source=_host(context, move.source),
        destination=None if move.destination is None else _host(context, move.destination),
    )


def _host(context: 'nova_context.RequestContext', node: live_migration.Node) -> Host:
    return Host(name=node.host, own_traits=placement.own_traits_of(context, node.uuid))


def _refusal(exc: Exception) -> str:
    return f"{SUBJECT}: cannot tell where this instance may go, see nova-scheduler's log ({exc})"

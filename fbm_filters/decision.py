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

from fbm_filters import errors, facts, live_migration, named_host, placement
from fbm_filters.rules import SUBJECT, Answer, Host, Policy, RequestFacts, decide

LOG = log.getLogger(__name__)

_EXPECTED = (exception.NovaException, db_exception.DBError, errors.PlacementUnknownError)
"""What befalls a request when a database or Placement is away; anything else is a bug."""

CANNOT_TELL = (
    f'{SUBJECT}: where this instance may go could not be found out; try again later, or ask the '
    "operator to look into nova-scheduler's log"
)


def answer_for(
    context: 'nova_context.RequestContext', spec: 'objects.RequestSpec', policy: Policy
) -> Answer:
    """Return the rules' answer for one request; what can't be found out is a refusal, if need be.

    What a user reads of a failure has no details: they are the operator's, and in the log.
    """
    try:
        asked = facts.read(spec)
    except exception.NovaException as exc:
        # Nova finds the request itself wrong, and would a few lines later: its own words.
        return Answer((), refusal=str(exc))
    except Exception:
        LOG.exception('Instance %s: what it asks for could not be read', spec.instance_uuid)
        if facts.mentions_rules(spec) or live_migration.is_move(spec):
            return Answer((), refusal=CANNOT_TELL)
        asked = RequestFacts()
    try:
        return decide(_with_move(asked, context, spec), policy)
    except _EXPECTED as exc:
        LOG.warning('Instance %s: where it may go is not known: %s', spec.instance_uuid, exc)
    except Exception:
        LOG.exception('Instance %s: where it may go is not known', spec.instance_uuid)
        if not facts.mentions_rules(spec) and not live_migration.is_move(spec):
            return decide(RequestFacts(), policy)
    return Answer((), refusal=CANNOT_TELL)


def goes_on_without_placement(spec: 'objects.RequestSpec', answer: Answer, exc: Exception) -> bool:
    """Tell whether a request goes on although Placement did not say which hosts fit; log why."""
    uuid = spec.instance_uuid
    if not isinstance(exc, errors.PlacementUnknownError):
        LOG.error('Instance %s: looking for the traits', uuid, exc_info=exc)
    if answer.concerns_file_backed_memory:
        LOG.error(
            'Instance %s: %s, but no host can be known to fit: %s',
            uuid,
            answer.restrictions[0],
            exc,
        )
        return False
    LOG.warning(
        'Instance %s: %s; it has nothing to do with file-backed memory and goes on, but '
        'unhealthy hosts are not left out',
        uuid,
        exc,
    )
    return True


def _with_move(
    asked: RequestFacts, context: 'nova_context.RequestContext', spec: 'objects.RequestSpec'
) -> RequestFacts:
    move = live_migration.find(context, spec)
    if move is not None:
        asked = replace(asked, needs=asked.needs | frozenset(facts.kinds_of(move.port_requests)))
    if move is None or move.source is None:
        return replace(asked, destination=_named_host(context, spec))
    return replace(
        asked,
        source=_host(context, move.source),
        destination=None if move.destination is None else _host(context, move.destination),
    )


def _named_host(
    context: 'nova_context.RequestContext', spec: 'objects.RequestSpec'
) -> Host | None:
    """Return the host that a request names which is no live migration.

    Only the words depend on it, Placement keeps the rule anyway: so what fails here is no failure.
    """
    try:
        node = named_host.find(context, spec)
        return None if node is None else _host(context, node)
    except Exception as exc:  # noqa: BLE001 - it is logged
        LOG.debug('Instance %s: the host that it names: %r', spec.instance_uuid, exc)
        return None


def _host(context: 'nova_context.RequestContext', node: live_migration.Node) -> Host:
    return Host(name=node.host, own_traits=placement.own_traits_of(context, node.uuid))

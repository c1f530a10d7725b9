# SPDX-License-Identifier: Apache-2.0
"""From a RequestSpec to the rules' answer: reads the facts, and decides what a failure means.

An unexpected error never stops a request that has nothing to do with file-backed memory, and
never lets one through that has.
"""

from dataclasses import replace

from nova import exception
from nova.context import RequestContext
from nova.objects.request_spec import RequestSpec
from oslo_db import exception as db_exception
from oslo_log import log

from fbm_filters import facts, moves
from fbm_filters.rules import SUBJECT, Answer, Policy, RequestFacts, decide
from fbm_placement.errors import FileBackedMemoryError

LOG = log.getLogger(__name__)

_EXPECTED = (exception.NovaException, db_exception.DBError, FileBackedMemoryError)
"""What a request meets when a database or Placement is away; anything else is a bug."""

NOT_KNOWN = (
    f'{SUBJECT}: where this instance may go could not be determined; try again later, or ask the '
    "operator to check nova-scheduler's log"
)


def answer_for(context: RequestContext, spec: RequestSpec, policy: Policy) -> Answer:
    """Return the rules' answer for one request; what is not known is a refusal, if need be.

    A refusal that a user reads has no details of a failure: the log has them.
    """
    uuid = spec.instance_uuid
    try:
        asked = facts.read(spec)
    except exception.NovaException as exc:
        # Nova finds the request itself wrong, and would a few lines later with this message.
        return Answer((), refusal=str(exc))
    except Exception:
        LOG.exception('Instance %s: its request could not be read', uuid)
        if _must_be_known(spec):
            return Answer((), refusal=NOT_KNOWN)
        asked = RequestFacts()
    try:
        return decide(_with_hosts(asked, context, spec), policy)
    except _EXPECTED as exc:
        LOG.warning('Instance %s: where it may go is not known: %s', uuid, exc)
    except Exception:
        LOG.exception('Instance %s: where it may go is not known', uuid)
        if not _must_be_known(spec):
            return decide(RequestFacts(), policy)
    return Answer((), refusal=NOT_KNOWN)


def continues_without_traits(spec: RequestSpec, answer: Answer, exc: Exception) -> bool:
    """Return whether a request goes on although Placement failed to answer; log why."""
    uuid = spec.instance_uuid
    if not isinstance(exc, FileBackedMemoryError):
        LOG.error('Instance %s: the traits could not be read', uuid, exc_info=exc)
    if answer.concerns_file_backed_memory:
        rule = answer.restrictions[0]
        LOG.error('Instance %s: %s, but no host is known to fit: %s', uuid, rule, exc)
        return False
    LOG.warning(
        'Instance %s: %s; it has nothing to do with file-backed memory and goes on, but '
        'unhealthy hosts are not left out',
        uuid,
        exc,
    )
    return True


def _must_be_known(spec: RequestSpec) -> bool:
    return facts.mentions_rules(spec) or moves.is_move(spec)


def _with_hosts(asked: RequestFacts, context: RequestContext, spec: RequestSpec) -> RequestFacts:
    asked = moves.add_move(asked, context, spec)
    if asked.source is not None:
        return asked
    try:
        return replace(asked, destination=moves.named_host(context, spec))
    except Exception as exc:  # noqa: BLE001 - it is logged, and Placement applies the rule anyway
        LOG.debug('Instance %s: the host that it names: %r', spec.instance_uuid, exc)
        return asked

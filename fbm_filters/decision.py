# SPDX-License-Identifier: Apache-2.0
"""From a RequestSpec to the rules' answer: reads the facts, and decides what a failure means.

An unexpected error never stops a request that has nothing to do with file-backed memory, and
never lets one through that has.
"""

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
    named = described(spec)
    try:
        asked = facts.read(spec)
    except exception.NovaException as exc:
        # Nova finds the request itself wrong, and would a few lines later with this message.
        return Answer((), refusal=str(exc))
    except Exception:
        LOG.exception('%s: its request could not be read', named)
        if _must_be_known(spec):
            return Answer((), refusal=NOT_KNOWN)
        asked = RequestFacts()
    try:
        return decide(moves.add_move(asked, context, spec), policy)
    except _EXPECTED as exc:
        LOG.warning('%s: where it may go is not known: %s', named, exc)
    except Exception:
        LOG.exception('%s: where it may go is not known', named)
        if not _must_be_known(spec):
            return decide(RequestFacts(), policy)
    return Answer((), refusal=NOT_KNOWN)


def continues_without_traits(spec: RequestSpec, answer: Answer, exc: Exception) -> bool:
    """Return whether a request goes on although Placement failed to answer; log why."""
    named = described(spec, answer)
    if answer.concerns_file_backed_memory:
        rule = answer.restrictions[0]
        LOG.error('%s: %s, but no host is known to fit: %s', named, rule, exc)
        return False
    LOG.warning(
        '%s: %s; it has nothing to do with file-backed memory and goes on, but unhealthy hosts '
        'are not left out',
        named,
        exc,
    )
    return True


def described(spec: RequestSpec, answer: Answer | None = None) -> str:
    """Return for the log which instances a request is for, and the hosts of a live migration.

    Of instances that are made together a pre-filter sees the first and their number; each keeps
    the number for its later moves.
    """
    text = f'Instance {spec.instance_uuid}'
    others = spec.num_instances - 1 if 'num_instances' in spec else 0
    if others > 0 and not moves.is_move(spec):
        text += f' and {others} more'
    return f'{text} ({answer.hosts})' if answer is not None and answer.hosts else text


def _must_be_known(spec: RequestSpec) -> bool:
    return facts.mentions_rules(spec) or moves.is_move(spec)

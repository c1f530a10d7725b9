# SPDX-License-Identifier: Apache-2.0
"""The request pre-filter: the rules' answer goes into the query that Nova sends to Placement.

Nova has no plug point for pre-filters, but a plain list, the same in every release from 18 to 34
(``ALL_REQUEST_FILTERS`` in nova/scheduler/request_filter.py).
"""

import threading

from nova import exception
from nova.context import RequestContext
from nova.objects.request_spec import RequestSpec
from nova.scheduler import request_filter
from nova.scheduler import utils as scheduler_utils
from oslo_log import log

from fbm_filters.cache import Cache
from fbm_filters.decision import NOT_KNOWN, answer_for, continues_without_traits, described
from fbm_filters.rules import SUBJECT, Policy
from fbm_placement.constants import OWN_TRAITS

LOG = log.getLogger(__name__)

_registering = threading.Lock()


class PreFilter:
    """Decides about each request, and adds required and forbidden traits to it."""

    def __init__(self, policy: Policy, traits_in_use: Cache[frozenset[str]]) -> None:
        """Decide by ``policy``, and forbid only traits that some provider has."""
        self._policy = policy
        self._traits_in_use = traits_in_use
        self.__name__ = 'file_backed_memory_filter'  # Nova logs functions by their names

    def __call__(self, context: RequestContext, spec: RequestSpec) -> bool:
        """Restrict one request; return whether it did, as Nova's own pre-filters do.

        :raises nova.exception.RequestFilterFailed: there is no fitting host, or it can't be known
        """
        try:
            return self._restrict(context, spec)
        except exception.RequestFilterFailed:
            raise
        except Exception as exc:
            # Anything else that leaves a pre-filter leaves servers in ERROR, or moves hanging.
            LOG.exception('File-backed memory: the pre-filter failed')
            raise exception.RequestFilterFailed(reason=NOT_KNOWN) from exc

    def _restrict(self, context: RequestContext, spec: RequestSpec) -> bool:
        if scheduler_utils.request_is_rebuild(spec):
            return False
        answer = answer_for(context, spec, self._policy)
        if answer.refusal is not None:
            LOG.info('%s: %s', described(spec, answer), answer.refusal)
            raise exception.RequestFilterFailed(reason=answer.refusal)
        try:
            in_use = self._traits_in_use.get().value
        except Exception as exc:
            if continues_without_traits(spec, answer, exc):
                return False
            rule = answer.restrictions[0]
            reason = f'{SUBJECT}: {rule}, but Placement does not answer; try again later'
            raise exception.RequestFilterFailed(reason=reason) from exc
        # A query that forbids a trait that does not exist is an error, and stops the request. One
        # that a host has can't be deleted. A live migration to the first host that has one would
        # end badly; all others fail there and are tried elsewhere.
        known = in_use | OWN_TRAITS if answer.is_live_migration else in_use
        spec.root_required.update(answer.required)
        spec.root_forbidden.update(answer.forbidden & known)
        if answer.concerns_file_backed_memory:
            LOG.info(
                '%s: required %s, forbidden %s, because %s',
                described(spec, answer),
                sorted(answer.required),
                sorted(answer.forbidden & known),
                '; '.join(dict.fromkeys(rule.explained for rule in answer.restrictions)),
            )
        return True


def register(prefilter: PreFilter | None) -> None:
    """Make ``prefilter`` the one of ours in Nova's list; None removes an earlier one."""
    with _registering:
        others = [f for f in request_filter.ALL_REQUEST_FILTERS if not _is_ours(f)]
        ours = [] if prefilter is None else [request_filter.trace_request_filter(prefilter)]
        # Last: it has to see what all others require. One assignment, as requests are under way.
        request_filter.ALL_REQUEST_FILTERS[:] = [*others, *ours]


def _is_ours(listed: object) -> bool:
    return isinstance(getattr(listed, '__wrapped__', None), PreFilter)

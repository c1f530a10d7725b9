# SPDX-License-Identifier: Apache-2.0
"""The host filter: loads the pre-filter, or does its work where that is switched off."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import nova.conf
from nova import context as nova_context
from nova.objects.request_spec import RequestSpec
from nova.scheduler import filters
from nova.scheduler import utils as scheduler_utils
from oslo_log import log

from fbm_filters import logs, options, placement, prefilter
from fbm_filters.cache import Cache
from fbm_filters.decision import answer_for, continues_without_traits, described
from fbm_filters.rules import Answer, Restriction

LOG = log.getLogger(__name__)

_EXAMPLES = 3

USABLE_INTERVALS = 5
"""For so many refresh intervals an answer is used while Placement gives no younger one."""

TRAITS_SECONDS = 5.0
"""The pre-filter forbids a trait so soon after the first host has got it."""


class FileBackedMemoryFilter(filters.BaseHostFilter):
    """Keeps instances off hosts whose file-backed memory does not fit them.

    With ``[file_backed_memory]prefilter`` (the default) Placement has left those hosts out already
    and this passes all. Without it this gives the same hosts, among those that Placement returned.
    """

    RUN_ON_REBUILD = False
    # Its answer is the same for each instance of a multi-create.
    run_filter_once_per_request = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Register options and pre-filter; cfg.ConfigFileValueError ends nova-scheduler."""
        super().__init__()
        logs.ensure_written()
        options.register_opts(nova.conf.CONF)
        own = nova.conf.CONF.file_backed_memory
        self._policy = options.read_policy(nova.conf.CONF)
        self._prefilter_active: bool = own.prefilter
        read = placement.traits_in_use if own.prefilter else placement.providers_by_trait
        interval = own.refresh_interval
        seconds = min(interval, TRAITS_SECONDS) if own.prefilter else interval
        self.cache: Cache[Any] = Cache(read, seconds, USABLE_INTERVALS * interval, clock)
        """Nova never closes it: the thread ends with the process."""
        active = prefilter.PreFilter(self._policy, self.cache) if own.prefilter else None
        prefilter.register(active)
        LOG.info('File-backed memory: prefilter = %s, %s', own.prefilter, self._policy)

    def filter_all(self, filter_obj_list: Sequence[Any], spec_obj: RequestSpec) -> Sequence[Any]:
        """Return the hosts that fit, for a rebuild all: overriding it bypasses RUN_ON_REBUILD."""
        if self._prefilter_active or scheduler_utils.request_is_rebuild(spec_obj):
            return filter_obj_list
        begun_at = self.cache.now()
        context = nova_context.get_admin_context()
        answer = answer_for(context, spec_obj, self._policy)
        if answer.refusal is not None:
            LOG.info('%s: %s', described(spec_obj, answer), answer.refusal)
            return []
        hosts = list(filter_obj_list)
        try:
            # On a host that has become another kind since, it would end badly.
            earliest = begun_at if answer.is_live_migration else None
            snapshot = self.cache.get(earliest).value
        except Exception as exc:  # noqa: BLE001 - it is logged there
            return hosts if continues_without_traits(spec_obj, answer, exc) else []
        passed, rejections = apply(answer, hosts, snapshot)
        if rejections:
            named, text = described(spec_obj, answer), '; '.join(rejections)
            LOG.info('%s: file-backed memory rejected %s', named, text)
            LOG.debug('%s: left %s', named, passed)
        return passed


def apply(
    answer: Answer, hosts: list[Any], snapshot: placement.Snapshot
) -> tuple[list[Any], list[str]]:
    """Return the hosts that keep every rule, and for the log what each rule has rejected.

    :param hosts: HostStates; their ``uuid`` is their resource provider's
    """
    rejections = []
    left: frozenset[str] | None = None
    for rule in answer.restrictions:
        having = snapshot[rule.trait]
        # This runs over ten thousand hosts: a comparison more, or a loop in vain, costs a third.
        if rule.required:
            kept = [host for host in hosts if host.uuid in having]
            left = having if left is None else left & having
        elif not having or having.isdisjoint(
            [host.uuid for host in hosts] if left is None else left
        ):
            continue
        else:
            kept = [host for host in hosts if host.uuid not in having]
        if len(kept) < len(hosts):
            rejections.append(_rejection(rule, hosts, having, len(hosts) - len(kept)))
        hosts = kept
    return hosts, rejections


def _rejection(rule: Restriction, hosts: list[Any], having: frozenset[str], count: int) -> str:
    rejected = (host.host for host in hosts if (host.uuid in having) != rule.required)
    examples = ', '.join(itertools.islice(rejected, _EXAMPLES))
    more = ', ...' if count > _EXAMPLES else ''
    return f'{count} hosts ({examples}{more}) because {rule.explained}'

# SPDX-License-Identifier: Apache-2.0
"""The host filter: loads the pre-filter, or does its work where that is switched off."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nova.conf
from nova import context as nova_context
from nova import objects
from nova.scheduler import filters
from nova.scheduler import utils as scheduler_utils
from oslo_log import log

from fbm_filters import policy, prefilter
from fbm_filters.decision import answer_for, goes_on_without_placement
from fbm_filters.placement import EnsuredTraits
from fbm_filters.rules import Answer, Restriction
from fbm_filters.snapshot import Snapshot, Snapshots

LOG = log.getLogger(__name__)

_EXAMPLES = 3


@dataclass(frozen=True)
class Rejection:
    """The hosts that one rule has rejected."""

    restriction: Restriction
    hosts: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        """Tell it for the log."""
        more = ', ...' if self.hosts > len(self.examples) else ''
        some = f'{", ".join(self.examples)}{more}'
        return f'{self.hosts} hosts ({some}) because {self.restriction.explained}'


class FileBackedMemoryFilter(filters.BaseHostFilter):
    """Keeps instances off hosts whose file-backed memory does not fit them.

    With ``[file_backed_memory]prefilter`` (the default) Placement has left those hosts out already
    and this passes all. Without it this gives the same hosts, among those that Placement returned.
    """

    RUN_ON_REBUILD = False
    # Its answer is the same for each instance of a multi-create.
    run_filter_once_per_request = True

    def __init__(self) -> None:
        """Register options and pre-filter.

        :raises oslo_config.cfg.ConfigFileValueError: an option is wrong; nova-scheduler ends
        """
        super().__init__()
        conf = nova.conf.CONF
        policy.register_opts(conf)
        own = conf.file_backed_memory
        self._policy = policy.read_policy(conf)
        self._prefilter_active: bool = own.prefilter
        traits = EnsuredTraits(own.refresh_interval)
        self._snapshots = Snapshots(traits, own.refresh_interval)
        if self._prefilter_active:
            prefilter.register(prefilter.PreFilter(self._policy, traits))
            LOG.info('File-backed memory: the pre-filter decides, %s', self._policy)
        else:
            prefilter.register(None)
            LOG.info('File-backed memory: prefilter = false, the filter decides, %s', self._policy)

    def filter_all(
        self, filter_obj_list: Sequence[Any], spec_obj: 'objects.RequestSpec'
    ) -> Sequence[Any]:
        """Return the hosts that the request may go to.

        Overriding this bypasses RUN_ON_REBUILD, so a rebuild is looked for here.
        """
        if self._prefilter_active or scheduler_utils.request_is_rebuild(spec_obj):
            return filter_obj_list
        begun_at = self._snapshots.now()
        context = nova_context.get_admin_context()
        answer = answer_for(context, spec_obj, self._policy)
        if answer.refusal is not None:
            LOG.info('Instance %s: %s', spec_obj.instance_uuid, answer.refusal)
            return []
        hosts = list(filter_obj_list)
        try:
            # What is new on a host that was disabled must not be missed: there it fails late.
            earliest = begun_at if answer.is_live_migration else None
            snapshot = self._snapshots.recent(context, earliest)
            passed, rejections = apply(answer, hosts, snapshot)
            if rejections and snapshot.begun_at < begun_at:
                snapshot = self._snapshots.recent(context, begun_at)
                passed, rejections = apply(answer, hosts, snapshot)
        except Exception as exc:  # noqa: BLE001 - it is logged there
            return hosts if goes_on_without_placement(spec_obj, answer, exc) else []
        if rejections:
            LOG.info(
                'Instance %s: file-backed memory rejected %s',
                spec_obj.instance_uuid,
                '; '.join(map(str, rejections)),
            )
            LOG.debug('Instance %s: left %s', spec_obj.instance_uuid, passed)
        return passed


def apply(
    answer: Answer, hosts: list[Any], snapshot: Snapshot
) -> tuple[list[Any], list[Rejection]]:
    """Return the hosts that keep every rule, and what each rule has rejected.

    :param hosts: HostStates; their ``uuid`` is their resource provider's
    """
    rejections = []
    for restriction in answer.restrictions:
        having = snapshot.providers[restriction.trait]
        # Two loops: this runs over ten thousand hosts, and a comparison more costs a third.
        if restriction.required:
            kept = [host for host in hosts if host.uuid in having]
        elif having:
            kept = [host for host in hosts if host.uuid not in having]
        else:
            continue
        if len(kept) < len(hosts):
            broken = (h.host for h in hosts if (h.uuid in having) != restriction.required)
            examples = tuple(itertools.islice(broken, _EXAMPLES))
            rejections.append(Rejection(restriction, len(hosts) - len(kept), examples))
        hosts = kept
    return hosts, rejections

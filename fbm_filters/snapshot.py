# SPDX-License-Identifier: Apache-2.0
"""Which providers have which of the three traits: the whole cloud in three requests."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nova import context as nova_context
from oslo_log import log

from fbm_filters import errors, placement
from fbm_filters.placement import EnsuredTraits
from fbm_placement.names import OWN_TRAITS

LOG = log.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """What Placement said at one time."""

    begun_at: float
    """When the first request was sent, by the clock of ``Snapshots``."""
    providers: Mapping[str, frozenset[str]]
    """The UUIDs of the providers that have a trait, by trait."""


class Snapshots:
    """Keeps the latest snapshot; one thread fetches, the others wait for what it brings."""

    def __init__(
        self,
        traits: EnsuredTraits,
        refresh_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep a snapshot for ``refresh_interval`` seconds."""
        self._traits = traits
        self._refresh_interval = refresh_interval
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: Snapshot | None = None
        self._failed_at: float | None = None

    def now(self) -> float:
        """Return the time by which snapshots are dated."""
        return self._clock()

    def recent(self, context: 'nova_context.RequestContext') -> Snapshot:
        """Return a snapshot that is not older than the refresh interval.

        :raises PlacementUnknownError: there is none at all, and Placement doesn't answer
        """
        return self.since(context, self._clock() - self._refresh_interval)

    def since(self, context: 'nova_context.RequestContext', earliest: float) -> Snapshot:
        """Return a snapshot begun at ``earliest`` or later, or an older one if Placement fails.

        :raises PlacementUnknownError: there is none at all, and Placement doesn't answer
        """
        latest = self._latest
        if latest is not None and latest.begun_at >= earliest:
            return latest
        asked_at = self._clock()
        with self._lock:
            latest = self._latest
            if latest is not None and latest.begun_at >= earliest:
                return latest
            # Who waited while another failed doesn't wait for a time-out of its own too.
            if latest is not None and self._failed_at is not None and self._failed_at >= asked_at:
                return latest
            try:
                self._latest = self._fetch(context)
            except errors.PlacementUnknownError as exc:
                self._failed_at = self._clock()
                if latest is None:
                    raise
                LOG.warning('%s; going on with what it said %.0f s ago', exc, self._age(latest))
                return latest
            return self._latest

    def _fetch(self, context: 'nova_context.RequestContext') -> Snapshot:
        begun_at = self._clock()
        self._traits.ensure(context)
        providers = {
            trait: placement.providers_with(context, trait) for trait in sorted(OWN_TRAITS)
        }
        return Snapshot(begun_at, providers)

    def _age(self, snapshot: Snapshot) -> float:
        return self._clock() - snapshot.begun_at

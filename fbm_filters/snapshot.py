# SPDX-License-Identifier: Apache-2.0
"""Which providers have which of the three traits: the whole cloud in three requests."""

import math
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

MOST_INTERVALS = 5
"""For so many refresh intervals a snapshot is better than none."""


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
        self._failed_at = -math.inf
        self._failure: errors.PlacementUnknownError | None = None

    def now(self) -> float:
        """Return the time by which snapshots are dated."""
        return self._clock()

    def recent(
        self, context: 'nova_context.RequestContext', earliest: float | None = None
    ) -> Snapshot:
        """Return a snapshot begun at ``earliest`` or later; None: a refresh interval ago.

        Where Placement fails it is an older one, for MOST_INTERVALS.

        :raises PlacementUnknownError: there is none that is young enough
        """
        asked_at = self._clock()
        if earliest is None:
            earliest = asked_at - self._refresh_interval
        latest = self._latest
        if latest is not None and latest.begun_at >= earliest:
            return latest
        with self._lock:
            latest = self._latest
            if latest is not None and latest.begun_at >= earliest:
                return latest
            # Who waited while another failed doesn't wait for a time-out of its own too.
            if self._failure is None or self._failed_at < asked_at:
                try:
                    self._latest = self._fetch(context)
                except errors.PlacementUnknownError as exc:
                    self._failed_at, self._failure = self._clock(), exc
                else:
                    self._failure = None
                    return self._latest
            return self._still_good(self._failure)

    def _still_good(self, failure: errors.PlacementUnknownError) -> Snapshot:
        latest = self._latest
        age = None if latest is None else self._clock() - latest.begun_at
        if latest is None or age is None or age > MOST_INTERVALS * self._refresh_interval:
            raise failure
        LOG.warning('%s; going on with what it said %.0f s ago', failure, age)
        return latest

    def _fetch(self, context: 'nova_context.RequestContext') -> Snapshot:
        begun_at = self._clock()
        self._traits.ensure(context)
        providers = {
            trait: placement.providers_with(context, trait) for trait in sorted(OWN_TRAITS)
        }
        return Snapshot(begun_at, providers)

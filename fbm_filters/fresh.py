# SPDX-License-Identifier: Apache-2.0
"""A cache for what is read from Placement: one thread fetches, the others wait for the result."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nova.context import RequestContext
from oslo_log import log

from fbm_placement.errors import FileBackedMemoryError

LOG = log.getLogger(__name__)

T = TypeVar('T')


@dataclass(frozen=True)
class Fetched(Generic[T]):
    """A value, and when the first request for it was sent, by the clock of its ``Fresh``."""

    value: T
    begun_at: float


class Fresh(Generic[T]):
    def __init__(
        self,
        fetch: Callable[[RequestContext], T],
        seconds: float,
        fallback_seconds: float = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fetch a value again after so many seconds.

        :param fetch: may raise FileBackedMemoryError
        :param fallback_seconds: where fetching fails, an older value is returned up to this age
        """
        self._fetch = fetch
        self._seconds = seconds
        self._fallback_seconds = fallback_seconds
        self._lock = threading.Lock()
        self._latest: Fetched[T] | None = None
        self._failed_at = -math.inf
        self._failure: FileBackedMemoryError | None = None
        self.now = clock

    def get(self, context: RequestContext, earliest: float | None = None) -> Fetched[T]:
        """Return a value begun at ``earliest`` or later, by default a fresh one, or raise."""
        called_at = self.now()
        if earliest is None:
            earliest = called_at - self._seconds
        if found := self._since(earliest):
            return found
        with self._lock:
            if found := self._since(earliest):
                return found
            # After another thread's time-out there is no time-out of one's own.
            if self._failure is None or self._failed_at < called_at:
                begun_at = self.now()
                try:
                    self._latest = Fetched(self._fetch(context), begun_at)
                except FileBackedMemoryError as exc:
                    self._failed_at, self._failure = self.now(), exc
                else:
                    self._failure = None
                    return self._latest
            return self._fallback(self._failure)

    def _since(self, earliest: float) -> Fetched[T] | None:
        latest = self._latest
        return latest if latest is not None and latest.begun_at >= earliest else None

    def _fallback(self, failure: FileBackedMemoryError) -> Fetched[T]:
        latest, now = self._latest, self.now()
        if latest is None or now - latest.begun_at > self._fallback_seconds:
            raise failure
        LOG.warning('%s; using what Placement answered %.0f s ago', failure, now - latest.begun_at)
        return latest

# SPDX-License-Identifier: Apache-2.0
"""A cache of what Placement answers: one thread reads, requests take what it has read last."""

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nova import context as nova_context
from nova.context import RequestContext
from oslo_log import log

from fbm_placement.errors import FileBackedMemoryError, PlacementError
from fbm_placement.notices import is_due

LOG = log.getLogger(__name__)

RETRY_SECONDS = 5.0
"""After a failure the next attempt begins earlier than after a success."""

WAIT_SECONDS = 10.0
"""A request waits no longer than that, and only where nothing usable is known."""

READ_SECONDS = 60.0
"""After that a read is given up: its thread hangs, and another one takes over."""

T = TypeVar('T')


@dataclass(frozen=True)
class Answered(Generic[T]):
    """A value, and when the first request for it was sent, by the clock of its ``Cache``."""

    value: T
    begun_at: float


class Cache(Generic[T]):
    def __init__(
        self,
        read: Callable[[RequestContext], T],
        seconds: float,
        usable_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read a value every so many seconds, from the first ``get`` on.

        :param read: may raise FileBackedMemoryError
        :param usable_seconds: for so long a value is used while Placement gives no younger one
        """
        self._read = read
        self.seconds = seconds
        self.usable_seconds = usable_seconds
        self._readers: dict[int, _Reader[T]] = {}
        self.now = clock

    def get(self, earliest: float | None = None) -> Answered[T]:
        """Return the last value; it is young enough to be used, or begun at ``earliest``.

        Waits only where there is none, and not where the last attempt to read one has failed.

        :raises FileBackedMemoryError: there is no such value
        """
        if earliest is None:
            earliest = self.now() - self.usable_seconds
        # A thread and its locks do not survive a fork, and nova-scheduler forks its workers.
        pid = os.getpid()
        reader = self._readers.get(pid)
        if reader is None:
            new = _Reader(self._read, self.seconds, self.usable_seconds, self.now)
            reader = self._readers.setdefault(pid, new)
        return reader.get(earliest)

    def close(self) -> None:
        """End this process's thread, after the request that it has sent."""
        if reader := self._readers.pop(os.getpid(), None):
            reader.close()


class _Reader(Generic[T]):
    """What one process knows, and its thread."""

    def __init__(
        self,
        read: Callable[[RequestContext], T],
        seconds: float,
        usable_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._usable_seconds = usable_seconds
        self._now = now
        self._changed = threading.Condition()
        self._latest: Answered[T] | None = None
        self._failure: Exception | None = None
        self._failures = 0
        self._wanted = False
        self._thread = 0
        """The number of the thread that reads; one of another number has been replaced."""
        self._reading_since = -math.inf
        """Infinity between two reads, and at first so long ago that a thread is missing."""

    def get(self, earliest: float) -> Answered[T]:
        if self._hangs():
            self._start()
        if found := self._since(earliest):
            return found
        with self._changed:
            is_coming = earliest <= self._reading_since < math.inf
            if not (self._failure or is_coming or self._since(earliest)):
                self._wanted = True
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._failure or self._since(earliest), WAIT_SECONDS)
            if found := self._since(earliest):
                return found
            if self._failure is None:
                self._failure = PlacementError(f'no answer in {WAIT_SECONDS:.0f} s')
            # Of all requests that raise it; else it would keep them all, and grow with each.
            raise self._failure.with_traceback(None)

    def close(self) -> None:
        with self._changed:
            self._thread = 0
            self._changed.notify_all()

    def _since(self, earliest: float) -> Answered[T] | None:
        latest = self._latest
        return latest if latest is not None and latest.begun_at >= earliest else None

    def _hangs(self) -> bool:
        return self._now() - self._reading_since > READ_SECONDS

    def _start(self) -> None:
        with self._changed:
            if self._hangs():
                if self._thread:
                    self._note_failure(PlacementError(f'no answer in {READ_SECONDS:.0f} s'))
                number = self._thread + 1
                name = f'file-backed-memory-{number}'
                threading.Thread(target=self._run, args=(number,), name=name, daemon=True).start()
                # Not before: where no thread can be started, the next request tries again.
                self._thread, self._reading_since = number, math.inf

    def _run(self, thread: int) -> None:
        while True:
            with self._changed:
                if thread != self._thread:
                    return
                self._wanted = False
                self._reading_since = begun_at = self._now()
            failure = None
            try:
                value = self._read(nova_context.get_admin_context())
            except Exception as exc:  # noqa: BLE001 - it is logged, and raised in the requests
                failure = exc
            with self._changed:
                if thread != self._thread:
                    return
                self._reading_since = math.inf
                if failure is None:
                    self._note(Answered(value, begun_at))
                else:
                    self._note_failure(failure)
                self._changed.notify_all()
                self._changed.wait_for(
                    lambda: self._wanted or thread != self._thread,
                    self._seconds if failure is None else min(self._seconds, RETRY_SECONDS),
                )

    def _note(self, answered: Answered[T]) -> None:
        if self._failures:
            LOG.info('File-backed memory: Placement answers again')
        self._latest, self._failure, self._failures = answered, None, 0

    def _note_failure(self, failure: Exception) -> None:
        self._failure = failure
        self._failures += 1
        if not is_due(self._failures):
            return
        if not isinstance(failure, FileBackedMemoryError):
            LOG.error('File-backed memory: the traits could not be read', exc_info=failure)
        age = math.inf if self._latest is None else self._now() - self._latest.begun_at
        if age <= self._usable_seconds:
            LOG.warning(
                'File-backed memory: %s; using what Placement answered %.0f s ago, until it is '
                '%.0f s old',
                failure,
                age,
                self._usable_seconds,
            )
        else:
            LOG.warning('File-backed memory: %s; which hosts fit is not known', failure)

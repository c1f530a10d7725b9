# SPDX-License-Identifier: Apache-2.0
"""Signals without handlers: they stay pending until the agent asks for them.

A handler would run inside a request, or deadlock on an Event that the main thread is just taking.
Blocked signals do neither: a wait ends at once, and a request is never cut.
"""

import signal
from typing import Self

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
_ALL = _STOP | {signal.SIGHUP}


class Signals:
    """Holds SIGTERM, SIGINT and SIGHUP back, for the time of a ``with`` block."""

    def __init__(self) -> None:
        self._stop = False
        self._reload = False

    def __enter__(self) -> Self:
        """Block the signals, for this thread and all that it starts."""
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        return self

    def __exit__(self, *_: object) -> None:
        """Take the pending ones, which would end the process now, and restore the mask."""
        while signal.sigtimedwait(_ALL, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def wait(self, seconds: float) -> bool:
        """Wait; True at once if a signal is pending or comes, False when the time is over."""
        if not self._stop and not self._reload:
            info = signal.sigtimedwait(_ALL, max(seconds, 0.0))
            self._stop = info is not None and info.si_signo in _STOP
            self._reload = info is not None and not self._stop
        return self._stop or self._reload

    @property
    def stop(self) -> bool:
        return self._stop or bool(signal.sigpending() & _STOP)

    def take_reload(self) -> bool:
        """Return whether the agent was asked to reload, once for each time."""
        asked, self._reload = self._reload, False
        return asked

# SPDX-License-Identifier: Apache-2.0
"""Signals without handlers: they stay pending until the agent asks for them.

A handler would run inside a request, or deadlock on an Event that the main thread is just taking.
Blocked signals do neither: a wait ends at once, a request is never cut, and between two requests
the agent looks whether one has come.
"""

import signal
from types import TracebackType
from typing import Self

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
_RELOAD = frozenset({signal.SIGHUP})


class Signals:
    """Holds SIGTERM, SIGINT and SIGHUP back, for the time of a ``with`` block."""

    def __init__(self) -> None:
        """Start with nothing asked."""
        self._stop = False
        self._reload = False

    def __enter__(self) -> Self:
        """Block the signals, for this thread and all that it starts."""
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP | _RELOAD)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take what is left, so that it doesn't hit on the way out, and restore the mask."""
        while signal.sigtimedwait(_STOP | _RELOAD, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def wait(self, seconds: float) -> bool:
        """Wait; True at once when a signal has come or comes, False when the time is over."""
        if self._stop or self._reload:
            return True
        info = signal.sigtimedwait(_STOP | _RELOAD, max(seconds, 0.0))
        if info is None:
            return False
        if info.si_signo in _STOP:
            self._stop = True
        else:
            self._reload = True
        return True

    @property
    def stop(self) -> bool:
        """Whether somebody asked the agent to end."""
        return self._stop or bool(signal.sigpending() & _STOP)

    def take_reload(self) -> bool:
        """Return whether somebody asked to read the configuration again, once for each time."""
        asked, self._reload = self._reload, False
        return asked

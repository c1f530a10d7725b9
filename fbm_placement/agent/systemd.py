# SPDX-License-Identifier: Apache-2.0
"""The messages that systemd understands (sd_notify(3)); none is sent where none is expected.

Written here because what exists is a C extension (systemd-python), brings eventlet along
(oslo.service), or is no longer maintained (sdnotify).
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

# Not blocking: a receiver that doesn't read must never keep the agent from its work.
_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK

READY_SECONDS = 30.0
"""READY is sent after this time at the latest: a start that never ends holds up the host's boot,
and makes a reload wait. Most restarts of Placement and Keystone are shorter."""


class Notifier:
    """Sends READY, STATUS, RELOADING, WATCHDOG and STOPPING to systemd."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read where to send (NOTIFY_SOCKET), and how often (WATCHDOG_USEC)."""
        self.is_ready = False
        """Whether READY was sent."""
        self._clock = clock
        self._ready_at = clock() + READY_SECONDS
        self._address = environ.get('NOTIFY_SOCKET', '')
        if self._address.startswith('@'):
            self._address = '\0' + self._address[1:]
        self.watchdog_interval = _watchdog_interval(environ)
        """Seconds between two WATCHDOG: half of what systemd allows; None: not asked for."""

    def send(self, **assignments: str | int) -> None:
        """Send assignments as sd_notify(3) lists them; a line break would begin another one."""
        lines = (f'{name}={" ".join(str(value).split())}' for name, value in assignments.items())
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, _DATAGRAM) as sock:
            sock.sendto('\n'.join(lines).encode(errors='replace'), self._address)

    def ready(self, **assignments: str | int) -> None:
        """Send that the start is over."""
        self.is_ready = True
        self.send(READY=1, **assignments)

    def alive(self) -> None:
        """Send what is due: WATCHDOG where systemd asked for it, READY after READY_SECONDS."""
        if self.watchdog_interval is not None:
            self.send(WATCHDOG=1)
        if not self.is_ready and self._clock() >= self._ready_at:
            self.ready()

    def pause(self, seconds: float) -> float:
        """Return how many of these seconds may pass before the next call of ``alive``."""
        pause = min(seconds, self.watchdog_interval or seconds)
        return pause if self.is_ready else min(pause, max(self._ready_at - self._clock(), 0.0))


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    if environ.get('WATCHDOG_PID', str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get('WATCHDOG_USEC', ''))
    except ValueError:
        return None
    return microseconds / 2_000_000 if microseconds > 0 else None

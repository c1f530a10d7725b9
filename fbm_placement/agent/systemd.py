# SPDX-License-Identifier: Apache-2.0
"""The messages that systemd understands (sd_notify(3)); none is sent where none is expected.

Written here because what exists is a C extension (systemd-python), brings eventlet along
(oslo.service), or is no longer maintained (sdnotify).
"""

import contextlib
import os
import socket
from collections.abc import Mapping

# Not blocking: a receiver that doesn't read must never keep the agent from its work.
_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


class Notifier:
    """Sends READY, STATUS, RELOADING, WATCHDOG and STOPPING to systemd."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Read where to send (NOTIFY_SOCKET), and how often (WATCHDOG_USEC)."""
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

    def watchdog(self) -> None:
        """Send that the service is alive, where systemd asked for it."""
        if self.watchdog_interval is not None:
            self.send(WATCHDOG=1)


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    if environ.get('WATCHDOG_PID', str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get('WATCHDOG_USEC', ''))
    except ValueError:
        return None
    return microseconds / 2_000_000 if microseconds > 0 else None

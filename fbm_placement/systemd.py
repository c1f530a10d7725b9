# SPDX-License-Identifier: Apache-2.0
"""The messages that systemd understands (sd_notify(3)); silent where nobody listens.

Written here because what exists is a C extension (systemd-python), brings eventlet along
(oslo.service), or isn't kept any more (sdnotify).
"""

import os
import socket
from collections.abc import Mapping

# Not blocking: a listener that doesn't read must never keep the agent from its work.
_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


class Notifier:
    """Tells systemd READY, STATUS, RELOADING, WATCHDOG and STOPPING."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Find out who listens (NOTIFY_SOCKET) and how often it wants to hear (WATCHDOG_USEC)."""
        self._address = environ.get('NOTIFY_SOCKET', '')
        if self._address.startswith('@'):
            self._address = '\0' + self._address[1:]
        self.watchdog_interval = _watchdog_interval(environ)
        """Seconds between two signs of life: half of what systemd allows; None: not asked for."""

    def ready(self, status: str) -> None:
        """Tell that the service does its work."""
        self._send(f'READY=1\nSTATUS={_line(status)}')

    def status(self, status: str) -> None:
        """Tell one line for ``systemctl status``."""
        self._send(f'STATUS={_line(status)}')

    def reloading(self) -> None:
        """Tell that the configuration is read again; ``ready`` ends it."""
        self._send('RELOADING=1')

    def watchdog(self) -> None:
        """Tell that the service is alive."""
        if self.watchdog_interval is not None:
            self._send('WATCHDOG=1')

    def stopping(self) -> None:
        """Tell that the service ends."""
        self._send('STOPPING=1')

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, _DATAGRAM) as sock:
                sock.sendto(message.encode(errors='replace'), self._address)
        except OSError:
            return


def _line(text: str) -> str:
    # A line break would begin another assignment.
    return ' '.join(text.split())


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    if environ.get('WATCHDOG_PID', str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get('WATCHDOG_USEC', ''))
    except ValueError:
        return None
    return microseconds / 2_000_000 if microseconds > 0 else None

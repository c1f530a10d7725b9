# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: ``fbm-agent`` as systemd runs it, on a compute host of a test's own."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.services.nova_compute import NovaCompute
from tests.services.nova_conf import NovaConf, admin_token
from tests.services.process import PATIENCE, ChildProcess, child_environment, program, run
from tests.services.store import CAPACITY_MIB, small_store

CAPACITY = CAPACITY_MIB
"""[libvirt]file_backed_memory of the hosts here, MiB."""


class AgentHost(NovaConf):
    """A compute host's configuration files, and agents that run there.

    :param directory: its home; nova.conf and compute_id are in here
    :param placement: options of ``[placement]`` that differ, or the URL to speak to
    """

    def __init__(
        self, directory: Path, compute: NovaCompute, placement: str | Mapping[str, str] = ''
    ) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.compute = compute
        if isinstance(placement, str):
            placement = admin_token(placement or compute.url)
        sections: dict[str, Mapping[str, object]] = {
            'DEFAULT': {'state_path': directory / 'state'},
            'libvirt': {'file_backed_memory': CAPACITY},
            'placement': placement,
            'file_backed_memory': {'interval': 5, 'memory_backing_dir': small_store()},
        }
        super().__init__(directory / 'nova.conf', sections)
        self.compute_id = directory / 'compute_id'
        self.compute_id.write_text(compute.uuid + '\n')
        self.state_file = directory / 'run' / 'host.json'

    def speak_to(self, url: str) -> None:
        self.configure('placement', endpoint=url)

    def argv(self, *flags: str) -> list[str]:
        return [program('fbm-agent'), '--config-file', str(self.path), *flags]

    def environment(self, **extra: str) -> dict[str, str]:
        """Return an environment in which nothing of the caller's home is found."""
        directories = {'HOME': self.directory, 'RUNTIME_DIRECTORY': self.state_file.parent}
        return child_environment(**{k: str(v) for k, v in directories.items()}, **extra)

    def run(self, *flags: str) -> 'Ended':
        return self.run_argv(self.argv(*flags))

    def once(self, *flags: str) -> 'Ended':
        return self.run('--once', *flags)

    def run_argv(self, argv: list[str]) -> 'Ended':
        environment = self.environment()
        return Ended(run(argv, environment=environment, cwd=self.directory, timeout=PATIENCE))

    def child(self, *flags: str, **extra: str) -> ChildProcess:
        return ChildProcess(
            self.argv(*flags),
            self.directory / 'fbm-agent.log',
            environment=self.environment(**extra),
            cwd=self.directory,
        )

    @contextmanager
    def daemon(self, *flags: str, **extra: str) -> Iterator['Daemon']:
        with NotifySocket() as notify:
            child = self.child(*flags, **{'NOTIFY_SOCKET': notify.name, **extra})
            with child:
                yield Daemon(child, notify)

    @contextmanager
    def ready_daemon(self, *flags: str, **extra: str) -> Iterator['Daemon']:
        with self.daemon(*flags, **extra) as daemon:
            daemon.wait_for('READY')
            yield daemon


class Ended:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr

    @property
    def line(self) -> str:
        (line,) = self.stderr.splitlines()
        return line

    @property
    def is_clean(self) -> bool:
        return (self.status, self.stderr) == (0, '')


class NotifySocket:
    """systemd's end of sd_notify(3): receives, with a thread, so that no sender ever waits."""

    def __init__(self, path: Path | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # An empty name lets the kernel choose one that is no file.
        self._socket.bind(str(path) if path else '')
        address = self._socket.getsockname()
        self.name: str = address if path else '@' + address[1:].decode()
        self.messages: list[dict[str, str]] = []
        """Everything received so far: the assignments of each message."""
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        # A datagram of its own, as closing a socket does not wake its reader.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b'END', self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while (message := self._socket.recv(65536)) != b'END':
            lines = message.decode().splitlines()
            self.messages.append(dict(line.split('=', 1) for line in lines))


class Daemon:
    """A running agent, and what it sends to systemd."""

    def __init__(self, child: ChildProcess, notify: NotifySocket) -> None:
        self.child = child
        self.notify = notify

    @property
    def log(self) -> str:
        return self.child.output

    def log_lines(self, text: str) -> list[str]:
        return [line for line in self.log.splitlines() if text in line]

    def notified(self, *variables: str) -> list[tuple[str, str]]:
        return [
            (name, value)
            for message in self.notify.messages
            for name, value in message.items()
            if not variables or name in variables
        ]

    def wait_for(self, variable: str, text: str = '', after: int = 0) -> int:
        """Wait for a message that sets the variable to something with the text in it.

        :param after: skip the messages up to this position
        :returns: the position after that message
        """
        found: list[int] = []

        def came() -> bool:
            for number, message in enumerate(self.notify.messages[after:], after + 1):
                if text in message.get(variable, '') and variable in message:
                    found.append(number)
                    return True
            return False

        self.wait_until(came, f'{variable}={text} sent to systemd')
        return found[0]

    def wait_until(self, happened: Callable[[], Any], what: str) -> None:
        """Wait until it has happened; the agent has to run all the time."""
        self.child.wait_until(happened, what)

    def reload(self) -> int:
        """Send SIGHUP; return the number of messages that came before."""
        before = len(self.notify.messages)
        self.child.send_signal(signal.SIGHUP)
        return before

    def pass_now(self) -> str:
        """Have a ready agent read its configuration again and make a pass; return its status."""
        reloaded = self.wait_for('READY', after=self.reload())
        done = self.wait_for('STATUS', after=reloaded)
        return self.notify.messages[done - 1]['STATUS']

    def terminate(self) -> tuple[int, float]:
        start = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(), time.monotonic() - start

# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: `fbm-agent` on a compute host of a test's own."""

import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fbm_placement import names
from tests.services.nova_compute import NovaCompute
from tests.services.process import ChildProcess, child_environment, program
from tests.services.server import write_ini
from tests.services.store import CAPACITY_MIB, small_store

CAPACITY = CAPACITY_MIB
"""[libvirt]file_backed_memory of the hosts here, MiB."""

ENABLED = {
    'total': CAPACITY,
    'reserved': 0,
    'min_unit': 1,
    'max_unit': CAPACITY,
    'step_size': 1,
    'allocation_ratio': 1.0,
}
"""The six fields that Placement should show then."""

ENABLED_TRAITS = {names.TRAIT_ENABLED}
"""Of a host whose store is a tmpfs."""

TIMEOUT = 30.0
"""Seconds. Nothing here takes that long, unless it never comes."""


@dataclass(frozen=True)
class Ended:
    """An agent that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """The one line on stderr."""
        (line,) = self.stderr.splitlines()
        return line


class AgentHost:
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
        if not isinstance(placement, Mapping):
            placement = {
                'auth_type': 'admin_token',
                'endpoint': placement or compute.url,
                'token': 'admin',
            }
        self._sections: dict[str, dict[str, object]] = {
            'DEFAULT': {
                'state_path': directory / 'state',
                'ram_allocation_ratio': 1.0,
                'reserved_host_memory_mb': 0,
            },
            'libvirt': {'file_backed_memory': CAPACITY},
            'placement': dict(placement),
            'file_backed_memory': {'interval': 5, 'memory_backing_dir': small_store()},
        }
        self.nova_conf = directory / 'nova.conf'
        self.configure()
        self.compute_id = directory / 'compute_id'
        self.compute_id.write_text(compute.uuid + '\n')

    def configure(self, section: str = 'DEFAULT', **options: object) -> None:
        """Write nova.conf with these options changed; None takes one out."""
        changed = self._sections.setdefault(section, {}) | options
        self._sections[section] = {k: v for k, v in changed.items() if v is not None}
        write_ini(self.nova_conf, self._sections)

    def speak_to(self, url: str) -> None:
        """Name another endpoint of Placement in nova.conf."""
        self.configure('placement', endpoint=url)

    def argv(self, *flags: str) -> list[str]:
        """Return the command line of an agent on this host."""
        return [program('fbm-agent'), '--config-file', str(self.nova_conf), *flags]

    def environment(self, **extra: str) -> dict[str, str]:
        """Return an environment in which nothing of the caller's home is found."""
        run = str(self.directory / 'run')
        return child_environment(HOME=str(self.directory), RUNTIME_DIRECTORY=run, **extra)

    def run(self, *flags: str) -> Ended:
        """Run ``fbm-agent`` until it ends by itself."""
        return self.run_argv(self.argv(*flags))

    def once(self, *flags: str) -> Ended:
        """Run ``fbm-agent --once``."""
        return self.run('--once', *flags)

    def run_argv(self, argv: list[str]) -> Ended:
        """Run any command line on this host until it ends by itself."""
        done = subprocess.run(
            argv,
            env=self.environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def child(self, *flags: str, **extra: str) -> ChildProcess:
        """Return an agent that is yet to be started."""
        return ChildProcess(
            self.argv(*flags),
            self.directory / 'fbm-agent.log',
            environment=self.environment(**extra),
            cwd=self.directory,
        )

    @contextmanager
    def daemon(self, *flags: str, **extra: str) -> Iterator['Daemon']:
        """Run ``fbm-agent`` as systemd would, until the block ends."""
        with NotifySocket() as notify:
            child = self.child(*flags, **{'NOTIFY_SOCKET': notify.name, **extra})
            with child:
                yield Daemon(child, notify)

    @contextmanager
    def ready_daemon(self, *flags: str, **extra: str) -> Iterator['Daemon']:
        """Run ``fbm-agent`` as ``daemon`` does, from its first good pass on."""
        with self.daemon(*flags, **extra) as daemon:
            daemon.wait_for('READY')
            yield daemon


class NotifySocket:
    """systemd's end of sd_notify(3): receives, with a thread, so that no sender ever waits."""

    def __init__(self, path: Path | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # An empty name lets the kernel choose one that is no file.
        self._socket.bind(str(path) if path else '')
        address = self._socket.getsockname()
        self.name: str = address if path else '@' + address[1:].decode()
        self._messages: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        # A datagram of its own, as closing a socket does not wake its reader.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b'END', self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    @property
    def messages(self) -> list[dict[str, str]]:
        """Everything received so far: the assignments of each message."""
        return list(self._messages)

    def _receive(self) -> None:
        while (message := self._socket.recv(65536)) != b'END':
            lines = message.decode().splitlines()
            self._messages.append(dict(line.split('=', 1) for line in lines))


class Daemon:
    """A running agent, and what it tells systemd."""

    def __init__(self, child: ChildProcess, notify: NotifySocket) -> None:
        self.child = child
        self.notify = notify

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.child.output

    def log_lines(self, text: str) -> list[str]:
        """Return the lines of the log that hold the text."""
        return [line for line in self.log.splitlines() if text in line]

    def told(self, *variables: str) -> list[tuple[str, str]]:
        """Return what systemd was told, in order; only these variables, if any are named."""
        return [
            (name, value)
            for message in self.notify.messages
            for name, value in message.items()
            if not variables or name in variables
        ]

    def wait_for(self, variable: str, text: str = '', after: int = 0) -> int:
        """Wait for a message that sets the variable to something with the text in it.

        :param after: look only at messages from this position on
        :returns: the position after that message
        """
        found: list[int] = []

        def came() -> bool:
            for number, message in enumerate(self.notify.messages[after:], after + 1):
                if text in message.get(variable, '') and variable in message:
                    found.append(number)
                    return True
            return False

        self.child.wait_until(came, f'{variable}={text} told to systemd', TIMEOUT)
        return found[0]

    def wait_until(self, happened: Callable[[], Any], what: str) -> None:
        """Wait until it has happened; the agent has to run all the time."""
        self.child.wait_until(lambda: bool(happened()), what, TIMEOUT)

    def hang_up(self) -> int:
        """Send SIGHUP; return the number of messages that came before."""
        before = len(self.notify.messages)
        self.child.send_signal(signal.SIGHUP)
        return before

    def pass_now(self) -> str:
        """Have a ready agent read its configuration again and make a pass; return its status."""
        reloaded = self.wait_for('READY', after=self.hang_up())
        done = self.wait_for('STATUS', after=reloaded)
        return self.notify.messages[done - 1]['STATUS']

    def terminate(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds that it took."""
        start = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(TIMEOUT), time.monotonic() - start


def foreign(compute: NovaCompute) -> dict[str, Any]:
    """Return all that Placement holds about the provider and that isn't the agent's."""
    everything = compute.everything()
    everything['inventories'].pop(names.MEMORY_MB, None)
    everything['traits'] -= names.OWN_TRAITS
    return everything


def own_traits(compute: NovaCompute) -> set[str]:
    """Return those of the provider's traits that are the agent's."""
    return compute.traits() & names.OWN_TRAITS


def promise_is_kept(compute: NovaCompute) -> bool:
    """Whether the enabled trait stands only beside the right inventory."""
    # The trait first: it must not have come before the inventory that is read after it.
    return names.TRAIT_ENABLED not in compute.traits() or compute.inventory() == ENABLED


def is_enabled(compute: NovaCompute) -> bool:
    """Whether Placement says what it should of an enabled host."""
    return compute.inventory() == ENABLED and own_traits(compute) == ENABLED_TRAITS


def add_foreign_things(compute: NovaCompute) -> NovaCompute:
    """Give the provider what others may keep there; return a child of it, with its own."""
    compute.allocate(memory_mib=16)
    compute.allocate(memory_mib=4, vcpus=4)
    compute.change_traits(add={'CUSTOM_RACK_7', 'CUSTOM_FILE_BACKED_MEMORY_TIER_2'})
    compute.call('PUT', '/resource_classes/CUSTOM_LICENSE')
    path = f'/resource_providers/{compute.uuid}'
    body: dict[str, Any] = {'resource_class': 'CUSTOM_LICENSE', 'total': 3}
    compute.call('POST', f'{path}/inventories', body=body)
    body = {
        'resource_provider_generation': compute.generation(),
        'aggregates': [str(uuid.uuid4())],
    }
    compute.call('PUT', f'{path}/aggregates', body=body)
    child = NovaCompute(compute.url, compute.token, name=f'{compute.name}_NUMA0')
    body = {'uuid': child.uuid, 'name': child.name, 'parent_provider_uuid': compute.uuid}
    compute.call('POST', '/resource_providers', body=body)
    body = {'resource_class': names.MEMORY_MB, 'total': 4096, 'allocation_ratio': 1.5}
    compute.call('POST', f'/resource_providers/{child.uuid}/inventories', body=body)
    return child


def make_enabled(compute: NovaCompute) -> None:
    """Have Placement say what an agent on this host made it say earlier."""
    compute.overwrite_inventory(**ENABLED)
    compute.change_traits(add=ENABLED_TRAITS)
    assert is_enabled(compute)

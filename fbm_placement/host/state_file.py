# SPDX-License-Identifier: Apache-2.0
"""What the agent knows of its host, for libvirt's hook and for ``fbm-status``.

The hook's shell part reads it line by line, so each top-level key begins a line of its own. No
file, a stale one or another version: whoever reads it has no opinion.
"""

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

from fbm_placement import errors

VERSION = 1
DIRECTORY = '/run/fbm-agent'
NAME = 'host.json'


@dataclass(frozen=True)
class StoreState:
    """Where the store is."""

    path: str
    mount_point: str | None
    """Where it is expected to be mounted; None: it was never seen mounted."""
    filesystem: str | None


@dataclass(frozen=True)
class Recovery:
    """What was wrong, and in how many looks since it wasn't."""

    reason: str
    good_looks: int


@dataclass(frozen=True)
class HostState:
    """One look at the host, as told to others."""

    written_by: str
    """Program and version."""
    host: str
    looked_at: str
    """UTC, ISO 8601, for people."""
    valid_until_uptime: int
    """Seconds since boot, as the first number of /proc/uptime; after that it is stale."""
    hook_mode: str
    configured: str
    """``enabled`` or ``disabled``: how nova-compute makes guests."""
    may_restart: tuple[str, ...] = ()
    """UUIDs of the guests of the other kind that run here while the host drains."""
    unhealthy: tuple[str, ...] = ()
    store: StoreState | None = None
    pid: int = 0
    """Of the agent that runs as a service; 0: it was a single pass."""
    store_recovery: Recovery | None = None
    drain_recovery: Recovery | None = None


def path() -> str:
    """Return where it is: systemd says it to a service that has a RuntimeDirectory."""
    return os.path.join(os.environ.get('RUNTIME_DIRECTORY') or DIRECTORY, NAME)


def uptime() -> float:
    """Return the seconds since boot; whoever sets the clock doesn't change them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write(state: HostState, where: str) -> None:
    """Replace the file at once; a reader sees the old one or the new one.

    :raises OSError: it can't be written; the old one stays
    """
    directory = os.path.dirname(where)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f'.{NAME}.', dir=directory)
    try:
        with open(descriptor, 'w', encoding='utf-8') as file:
            file.write(render(state))
        # libvirt's hook may run as another user; there is nothing secret in it.
        os.chmod(temporary, 0o644)
        os.replace(temporary, where)
    except BaseException:
        os.unlink(temporary)
        raise


def remove(where: str) -> None:
    """Take it away: nobody has an opinion then."""
    try:
        os.unlink(where)
    except FileNotFoundError:
        return


def render(state: HostState) -> str:
    """Return the file's text."""
    return json.dumps({'version': VERSION, **asdict(state)}, indent=1) + '\n'


def read(where: str, now_uptime: float | None) -> HostState:
    """Return what the agent wrote.

    :param now_uptime: None: however old it is
    :raises HostError: there is none, it can't be read, it is stale, or of another version
    """
    try:
        with open(where, encoding='utf-8') as file:
            loaded = json.load(file)
    except FileNotFoundError as exc:
        raise errors.HostError(f'no {where}: is fbm-agent running on this host?') from exc
    except (OSError, ValueError) as exc:
        raise errors.HostError(f'{where}: {exc}; restart fbm-agent, which writes it') from exc
    state = _parse(loaded, where)
    if now_uptime is not None and now_uptime > state.valid_until_uptime:
        raise errors.HostError(
            f'{where} is stale, the last look was at {state.looked_at}: is fbm-agent running?'
        )
    return state


def _parse(loaded: Any, where: str) -> HostState:
    version = loaded.pop('version', None) if isinstance(loaded, dict) else None
    if version != VERSION:
        raise errors.HostError(
            f'{where} is of version {version!r}, this is for {VERSION}: restart fbm-agent, and '
            'install the hook again (fbm-status hook install)'
        )
    try:
        for name, kind in _PARTS.items():
            loaded[name] = None if loaded[name] is None else kind(**loaded[name])
        loaded |= {name: tuple(loaded[name]) for name in ('may_restart', 'unhealthy')}
        state = HostState(**loaded)
    except (LookupError, TypeError) as exc:
        raise errors.HostError(_NOT_OURS.format(where=where)) from exc
    numbers = (state.valid_until_uptime, state.pid)
    texts = (state.configured, state.looked_at, *state.may_restart, *state.unhealthy)
    if not (all(type(n) is int for n in numbers) and all(isinstance(t, str) for t in texts)):
        raise errors.HostError(_NOT_OURS.format(where=where))
    return state


_PARTS = {'store': StoreState, 'store_recovery': Recovery, 'drain_recovery': Recovery}
_NOT_OURS = '{where} is not what fbm-agent writes: restart fbm-agent, which writes it anew'

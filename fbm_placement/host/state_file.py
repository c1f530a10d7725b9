# SPDX-License-Identifier: Apache-2.0
"""What the agent knows of its host, for libvirt's hook and for ``fbm-status``.

The hook's shell part reads it line by line, so each top-level key begins a line of its own.
"""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fbm_placement import errors
from fbm_placement.hook import install, program
from fbm_placement.model import Recovery, Settings

DIRECTORY = '/run/fbm-agent'
NAME = 'host.json'

uptime = program.uptime


@dataclass(frozen=True)
class StoreState:
    path: str
    mount_point: str | None
    """Where it is expected to be mounted; None: it was never seen mounted."""
    filesystem: str | None


@dataclass(frozen=True)
class HostState:
    """The host as one pass of the agent observed it; the fields are the file's keys."""

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
    capacity_mib: int | None = None
    """``[libvirt]file_backed_memory`` as the agent goes by it; None: an older agent wrote this."""
    reserved_mib: int | None = None
    may_restart: tuple[str, ...] = ()
    """UUIDs of the guests of the other kind that run here while the host drains."""
    unhealthy: tuple[str, ...] = ()
    store: StoreState | None = None
    pid: int = 0
    """Of the agent that runs as a service; 0: it was a single pass."""
    store_recovery: Recovery | None = None
    drain_recovery: Recovery | None = None

    @property
    def enabled(self) -> bool:
        return self.configured == 'enabled'

    def settings(self, others: Settings) -> Settings:
        """Return what the agent went by; what is not known here is that of ``others``."""
        if self.capacity_mib is None or self.reserved_mib is None:
            return others
        settings = replace(others, capacity_mib=self.capacity_mib, reserved_mib=self.reserved_mib)
        # A disabled host may have any ratio.
        return settings if settings.enabled else replace(settings, ram_allocation_ratio=None)


def path() -> str:
    """Return the file's path, in the unit's RuntimeDirectory where systemd names one."""
    return os.path.join(os.environ.get('RUNTIME_DIRECTORY') or DIRECTORY, NAME)


def write(state: HostState, where: str) -> None:
    """Replace the file as a whole; OSError: it can't be written; the old one stays."""
    directory = os.path.dirname(where)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    # libvirt's hook may run as another user; there is nothing secret in it.
    install.replace_file(where, render(state).encode(), 0o644, directory)


def render(state: HostState) -> str:
    return json.dumps({'version': program.STATE_VERSION, **asdict(state)}, indent=1) + '\n'


def read(where: str, now_uptime: float | None) -> HostState:
    """Return what the agent wrote; HostError: nothing, or it is stale at ``now_uptime``."""
    try:
        state = program.read_state(where)
        if now_uptime is not None:
            program.check_age(state, where, now_uptime)
        return _parse(state)
    except FileNotFoundError as exc:
        raise errors.HostError(f'no {where}: is fbm-agent running on this host?') from exc
    except program.StateError as exc:
        raise errors.HostError(str(exc)) from exc
    except (LookupError, TypeError) as exc:
        raise errors.HostError(where + program.NOT_OURS) from exc


def _parse(state: dict[str, Any]) -> HostState:
    """Return the state of a file that suits the hook; LookupError or TypeError: it is not ours."""
    for name, kind in _PARTS.items():
        state[name] = None if state[name] is None else kind(**state[name])
    state |= {name: tuple(state[name]) for name in ('may_restart', 'unhealthy')}
    texts = (state['looked_at'], *state['unhealthy'])
    recoveries = (state['store_recovery'], state['drain_recovery'])
    optional = [state.get('capacity_mib'), state.get('reserved_mib')]
    optional += [one and one.good_looks for one in recoveries]
    numbers = (state['pid'], *(one for one in optional if one is not None))
    if {*map(type, texts)} - {str} or {*map(type, numbers)} - {int}:
        raise TypeError
    # A newer agent may write more.
    known = {field.name for field in fields(HostState)}
    return HostState(**{name: state[name] for name in known & state.keys()})


_PARTS = {'store': StoreState, 'store_recovery': Recovery, 'drain_recovery': Recovery}

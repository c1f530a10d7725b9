# SPDX-License-Identifier: Apache-2.0
"""Tells what a look at the host found: operators in the log, libvirt's hook in the state file."""

import datetime
import socket

from oslo_log import log

import fbm_placement
from fbm_placement.host import state_file
from fbm_placement.host.look import View
from fbm_placement.host.state_file import HostState, StoreState
from fbm_placement.host.store import Store
from fbm_placement.settings import AgentOptions, Settings
from fbm_placement.words import skeleton

LOG = log.getLogger(__name__)

VALID_INTERVALS = 3
VALID_MORE_SECONDS = 120
"""A look is believed for so many intervals and seconds: passes are late when Placement is slow."""


class Announcer:
    """Remembers what was told, so that the same is not told again at each pass."""

    def __init__(self) -> None:
        """Nothing has been told yet."""
        self._reasons: tuple[str, ...] = ()
        self._trouble: str | None = None
        self._doubt: str | None = None

    def announce(self, view: View, settings: Settings, options: AgentOptions) -> None:
        """Log what is new, and write the state file; where that fails, log it."""
        self._log(view.facts.unhealthy)
        if view.doubt is not None and view.doubt != self._doubt:
            LOG.warning('%s', view.doubt)
        self._doubt = view.doubt
        trouble = _write(state_of(view, settings, options))
        if trouble is not None and trouble != self._trouble:
            LOG.warning('%s', trouble)
        self._trouble = trouble

    def fall_silent(self) -> None:
        """Take the state file away: the hook has no opinion any more."""
        where = state_file.path()
        try:
            state_file.remove(where)
        except OSError as exc:
            trouble = exc.strerror
        else:
            return
        LOG.warning('%s: %s; remove it by hand', where, trouble)

    def _log(self, reasons: tuple[str, ...]) -> None:
        # Their numbers change at each look.
        told = {skeleton(reason) for reason in self._reasons}
        for reason in reasons:
            if skeleton(reason) not in told:
                LOG.error('This host takes no new instance: %s', reason)
        if self._reasons and not reasons:
            LOG.info('This host takes new instances again')
        self._reasons = reasons


def state_of(view: View, settings: Settings, options: AgentOptions) -> HostState:
    """Return what others are told of this look."""
    valid = VALID_INTERVALS * options.interval + VALID_MORE_SECONDS
    return HostState(
        written_by=f'fbm-agent {fbm_placement.version()}',
        host=socket.gethostname(),
        looked_at=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        valid_until_uptime=int(state_file.uptime()) + valid,
        hook_mode=options.hook_mode,
        configured='enabled' if settings.enabled else 'disabled',
        may_restart=view.may_restart,
        unhealthy=view.facts.unhealthy,
        store=None if view.store is None else _store_state(view.store),
    )


def _store_state(store: Store) -> StoreState:
    filesystem, seen = None, ''
    if store.mount is not None:
        filesystem, seen = store.mount.filesystem, store.mount.mount_point
    expected = max(seen, store.expected_mount or '', key=len)
    return StoreState(store.path, expected if expected not in ('', '/') else None, filesystem)


def _write(state: HostState) -> str | None:
    """Write the state file; return what went wrong."""
    where = state_file.path()
    try:
        state_file.write(state, where)
    except OSError as exc:
        return (
            f"{where}: {exc.strerror}; without it libvirt's hook has no opinion: run the agent as "
            'its unit does, or as root'
        )
    return None

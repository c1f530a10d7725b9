# SPDX-License-Identifier: Apache-2.0
"""Tells what a look at the host found: operators in the log, libvirt's hook in the state file."""

import datetime
import errno
import logging
import os
import socket

from oslo_log import log

import fbm_placement
from fbm_placement import errors
from fbm_placement.host import state_file
from fbm_placement.host.look import HostView
from fbm_placement.host.state_file import HostState, StoreState
from fbm_placement.host.store import Store
from fbm_placement.model import Problem
from fbm_placement.settings import AgentOptions, Settings
from fbm_placement.words import state_name, without_numbers

LOG = log.getLogger(__name__)

VALID_INTERVALS = 3
VALID_MORE_SECONDS = 120
"""A look is believed for so many intervals and seconds: passes are late when Placement is slow."""


class StatePublisher:
    """Remembers what was told, so that the same is not told again at each pass."""

    def __init__(self, pid: int = 0) -> None:
        """Nothing has been told yet.

        :param pid: of this process, if it runs as a service; 0: it makes a single pass
        """
        self._pid = pid
        self._problems: tuple[Problem, ...] = ()
        self._warning: str | None = None
        self.error: str | None = None
        """Why the hook could not be told."""

    def publish(self, view: HostView, settings: Settings, options: AgentOptions) -> None:
        """Log what is new, and write the state file; where that fails, log it."""
        self._log(view.facts.unhealthy)
        if view.warning is not None and view.warning != self._warning:
            LOG.warning('%s', view.warning)
        self._warning = view.warning
        if not self._pid and running_agent() is not None:
            # The service's own looks count, this one is beside it.
            return
        before, self.error = self.error, _write(state_of(view, settings, options, self._pid))
        if self.error is not None and self.error != before:
            LOG.warning('%s', self.error)
        if before is not None and self.error is None:
            LOG.info('%s is written again', state_file.path())

    def clear(self) -> None:
        """Take the state file away: the hook has no opinion any more."""
        where = state_file.path()
        try:
            state_file.remove(where)
        except OSError as exc:
            trouble = exc.strerror
        else:
            return
        LOG.warning('%s: %s; remove it by hand', where, trouble)

    def _log(self, problems: tuple[Problem, ...]) -> None:
        # Their numbers change at each check.
        logged = {without_numbers(problem.text) for problem in self._problems}
        for problem in problems:
            if without_numbers(problem.text) not in logged:
                level = logging.INFO if problem.recovering else logging.ERROR
                LOG.log(level, 'This host takes no new instance: %s', problem)
        if self._problems and not problems:
            LOG.info('This host takes new instances again')
        self._problems = problems


def running_agent() -> int | None:
    """Return the process of the agent that runs here as a service; None: there is none."""
    try:
        pid = state_file.read(state_file.path(), None).pid
        with open(f'/proc/{pid}/cmdline', 'rb') as file:
            words = file.read().split(b'\0')
    except (errors.HostError, OSError):
        return None
    runs = any(word.endswith(b'fbm-agent') for word in words[:3])
    return pid if runs and pid not in (0, os.getpid()) else None


def state_of(view: HostView, settings: Settings, options: AgentOptions, pid: int = 0) -> HostState:
    """Return what others are told of this look."""
    valid = VALID_INTERVALS * options.interval + VALID_MORE_SECONDS
    return HostState(
        written_by=f'fbm-agent {fbm_placement.version()}',
        host=socket.gethostname(),
        looked_at=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        valid_until_uptime=int(state_file.uptime()) + valid,
        hook_mode=options.hook_mode,
        configured=state_name(settings.enabled),
        may_restart=view.draining_uuids,
        unhealthy=tuple(problem.text for problem in view.facts.unhealthy),
        store=None if view.store is None else _store_state(view.store),
        pid=pid,
        store_recovery=view.store_recovery,
        drain_recovery=view.drain_recovery,
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
        mend = _MEND.get(exc.errno or 0, 'run the agent as its unit does, or as root')
        return (
            f"{where} is not written: {exc.strerror}; without it libvirt's hook has no opinion "
            f'before long: {mend.format(os.path.dirname(where))}'
        )
    return None


_MEND = {
    errno.ENOSPC: 'make room on its filesystem (df {0})',
    errno.EISDIR: 'remove what is in its place',
    errno.EROFS: 'its filesystem is read-only (findmnt -T {0})',
}

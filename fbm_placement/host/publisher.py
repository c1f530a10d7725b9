# SPDX-License-Identifier: Apache-2.0
"""What a check of the host found: for operators in the log, for the hook in the state file."""

import contextlib
import datetime
import logging
import os
import socket

from oslo_log import log

import fbm_placement
from fbm_placement import errors
from fbm_placement.host import processes, state_file
from fbm_placement.host.observer import HostView
from fbm_placement.host.state_file import HostState, StoreState
from fbm_placement.model import AgentOptions, Problem, Settings
from fbm_placement.notices import Notices
from fbm_placement.rules import draining
from fbm_placement.text import state_name

LOG = log.getLogger(__name__)

VALID_INTERVALS = 3
VALID_MORE_SECONDS = 120
"""A state is valid for so many intervals and seconds: passes are late when Placement is slow."""


class StatePublisher:
    """Logs what changed, and writes the state file."""

    def __init__(self, notices: Notices, pid: int = 0) -> None:
        """:param pid: of this process, if it runs as a service; 0: it makes a single pass."""
        self._notices = notices
        self._pid = pid
        self.error: str | None = None
        """Why the state file could not be written."""

    def publish(self, view: HostView, settings: Settings, options: AgentOptions) -> None:
        """Log what changed, and write the state file; where that fails, log it."""
        self._log_problems(view.facts.unhealthy)
        self._warn('host', view.warning)
        # A single pass does not replace what the service writes.
        if self._pid or running_agent() is None:
            where, self.error = state_file.path(), None
            try:
                state_file.write(_state(view, settings, options, self._pid), where)
            except OSError as exc:
                self.error = (
                    f"{where} is not written: {exc.strerror}; libvirt's hook will soon not "
                    'enforce: run the agent as its unit does or as root, and check the filesystem '
                    f'(findmnt -T {os.path.dirname(where)}, df)'
                )
            if self._warn('state file', self.error) and self.error is None:
                LOG.info('%s is written again', where)

    def clear(self) -> None:
        """Remove the state file, and its directory: the hook does not enforce."""
        where = state_file.path()
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where)
        except OSError as exc:
            LOG.warning('%s: %s; remove it by hand', where, exc.strerror)
        # systemd removes that of a service.
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(where))

    def _warn(self, topic: str, warning: str | None) -> str | None:
        """Log a warning that is new; return the one before."""
        before: str | None = self._notices.replace(topic, warning)
        if warning is not None and warning != before:
            LOG.warning('%s', warning)
        return before

    def _log_problems(self, problems: tuple[Problem, ...]) -> None:
        keys = {(problem.key, problem.recovering) for problem in problems}
        before = self._notices.replace('problems', keys) or set()
        for problem in problems:
            if (problem.key, problem.recovering) not in before:
                level = logging.INFO if problem.recovering else logging.ERROR
                if problem.key == draining.KEY:
                    # The operator's own change of nova.conf: it needs action, but nothing broke.
                    level = min(level, logging.WARNING)
                LOG.log(level, 'This host takes no new instance: %s', problem)
        if before and not problems:
            LOG.info('This host takes new instances again')


def running_agent() -> int | None:
    """Return the process of the agent that runs here as a service; None: there is none."""
    try:
        pid = state_file.read(state_file.path(), None).pid
    except errors.HostError:
        return None
    runs = processes.program_of(processes.command_line(pid)) == 'fbm-agent'
    return pid if runs and pid != os.getpid() else None


def _state(view: HostView, settings: Settings, options: AgentOptions, pid: int) -> HostState:
    store = None
    if view.store is not None:
        filesystem = view.store.mount.filesystem if view.store.mount else None
        store = StoreState(view.store.path, view.store.expected_mount, filesystem)
    valid = VALID_INTERVALS * options.interval + VALID_MORE_SECONDS
    return HostState(
        written_by=f'fbm-agent {fbm_placement.version()}',
        host=socket.gethostname(),
        looked_at=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        valid_until_uptime=int(state_file.uptime()) + valid,
        hook_mode=options.hook_mode,
        configured=state_name(settings.enabled),
        capacity_mib=settings.capacity_mib,
        reserved_mib=settings.reserved_mib,
        may_restart=view.draining_uuids,
        unhealthy=tuple(problem.text for problem in view.facts.unhealthy),
        store=store,
        pid=pid,
        store_recovery=view.store_recovery,
        drain_recovery=view.drain_recovery,
    )

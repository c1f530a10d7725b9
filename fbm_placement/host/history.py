# SPDX-License-Identifier: Apache-2.0
"""What the check of a host needs to know of the checks before it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Self

from fbm_placement import errors
from fbm_placement.host import state_file
from fbm_placement.host.state_file import HostState
from fbm_placement.host.store import Store
from fbm_placement.model import Problem
from fbm_placement.rules.hysteresis import Hysteresis


class History:
    """What earlier checks found, as far as the next one needs it."""

    def __init__(self, state: HostState | None = None) -> None:
        """Continue where the process that wrote this state was; None: start without one."""
        self.store = Hysteresis('store', needed=3)
        # A guest that restarts has no process for a moment; the host is not yet without it.
        self.draining = Hysteresis('draining', needed=2)
        self.draining_uuids: tuple[str, ...] = ()
        self._mount_points: dict[str, str] = {}
        if state is not None:
            self.store.restore(state.store_recovery)
            self.draining.restore(state.drain_recovery)
            self.draining_uuids = state.may_restart
            if state.store is not None and state.store.mount_point is not None:
                self._mount_points[state.store.path] = state.store.mount_point

    @classmethod
    def from_state_file(cls) -> Self:
        """Continue where the last process was, however long ago: a restart ends no problem."""
        try:
            return cls(state_file.read(state_file.path(), None))
        except errors.HostError:
            return cls()

    def drain(self, problem: Problem | None, uuids: Iterable[str]) -> tuple[Problem, ...]:
        """Return the problem that counts, after a check that found these guests left."""
        problems = self.draining.after((problem,) if problem else ())
        # A guest that is between two processes is still there.
        known = dict.fromkeys((*self.draining_uuids, *uuids))
        self.draining_uuids = tuple(known) if problems else ()
        return problems

    def with_expected_mount(self, store: Store) -> Store:
        """Expect the store where it was mounted before: an unmount leaves a directory behind."""
        before = self._mount_points.get(store.path, '')
        expected = max(before, store.expected_mount or '', key=len)
        seen = store.mount.mount_point if store.mount is not None else '/'
        if seen != '/' and len(seen) >= len(expected):
            self._mount_points[store.path] = seen
        return replace(store, expected_mount=expected or None)

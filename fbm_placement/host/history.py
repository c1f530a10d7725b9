# SPDX-License-Identifier: Apache-2.0
"""What the check of a host needs to know of the checks before it."""

import contextlib
from dataclasses import replace

from fbm_placement import errors
from fbm_placement.host import state_file
from fbm_placement.model import Guest, Problem, Store
from fbm_placement.rules import draining
from fbm_placement.rules.hysteresis import Hysteresis


class History:
    """What earlier checks found, also those of an earlier process: a restart ends no problem."""

    def __init__(self) -> None:
        state = None
        with contextlib.suppress(errors.HostError):
            state = state_file.read(state_file.path(), None)
        self.store = Hysteresis('store', 3, state.store_recovery if state else None, settles=True)
        # A guest that restarts has no process for a moment; the host is not yet without it.
        self.draining = Hysteresis(draining.KEY, 2, state.drain_recovery if state else None)
        self.draining_uuids = state.may_restart if state else ()
        self._mount_points: dict[str, str] = {}
        if state and state.store and state.store.mount_point:
            self._mount_points[state.store.path] = state.store.mount_point

    def drain(self, enabled: bool, guests: tuple[Guest, ...]) -> tuple[Problem, ...]:
        """Return the problem that counts, after a check that found these guests."""
        problem = draining.problem(enabled, guests)
        problems = self.draining.after((problem,) if problem else ())
        # A guest that is between two processes is still there.
        found = (guest.uuid for guest in draining.remaining_guests(enabled, guests))
        known = dict.fromkeys((*self.draining_uuids, *found))
        self.draining_uuids = tuple(known) if problems else ()
        return problems

    def with_expected_mount(self, store: Store) -> Store:
        """Expect the store where it was mounted before: an unmount leaves a directory behind."""
        seen = store.mount.mount_point if store.mount else ''
        before = self._mount_points.get(store.path, '')
        expected = max(seen, before, store.expected_mount or '', key=len)
        if expected == seen:
            self._mount_points[store.path] = seen
        return replace(store, expected_mount=expected if expected not in ('', '/') else None)

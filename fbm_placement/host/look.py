# SPDX-License-Identifier: Apache-2.0
"""The check of the host in each pass: its guests, its store, and what follows from them."""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from fbm_placement import errors
from fbm_placement.hook import installation
from fbm_placement.host import draining, health, hook_status, libvirt, mounts, processes
from fbm_placement.host.guests import Guest
from fbm_placement.host.history import History
from fbm_placement.host.probe import Probe
from fbm_placement.host.state_file import Recovery
from fbm_placement.host.store import Store, observe_store
from fbm_placement.model import Problem
from fbm_placement.plan import HostFacts
from fbm_placement.settings import AgentOptions, Settings

RELEASE_SECONDS = 1.0
"""libvirt removes a RAM file after the guest's process has ended, and XFS frees it later still."""


@dataclass(frozen=True)
class HostView:
    """What one check found."""

    facts: HostFacts
    store: Store | None = None
    """None: the host is disabled, so it has none, or its place is not known."""
    draining_uuids: tuple[str, ...] = ()
    """UUIDs of the guests of the other kind that run here or did so since the host drains."""
    warning: str | None = None
    """What can't be seen, where that closes no host."""
    store_recovery: Recovery | None = None
    drain_recovery: Recovery | None = None


class HostObserver:
    """Checks this host, and remembers what one check alone can't know."""

    def __init__(
        self,
        *,
        proc: str = processes.PROC,
        qemu_conf: str = libvirt.QEMU_CONF,
        hooks_dir: str = installation.HOOKS_DIR,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Check this ``/proc``, what this qemu.conf says, and the hook in there."""
        self._proc = proc
        self._qemu_conf = qemu_conf
        self._hooks_dir = hooks_dir
        self._wait = wait
        self._guest_probe = Probe()
        self._store_probe = Probe()

    @functools.cached_property
    def _history(self) -> History:
        return History()

    def observe(self, settings: Settings, options: AgentOptions) -> HostView:
        """Check guests and store; what can't be seen is a problem of the host, not an error."""
        guests: tuple[Guest, ...] = ()
        warning = None
        try:
            guests = self.guests()
            facts = self._facts_of(guests, settings)
        except errors.HostError as exc:
            facts, warning = _unseen(settings, str(exc))
        store = None
        if settings.enabled:
            store, problems = self.store(settings, options, guests)
            problems += hook_status.problems(options.hook_mode, self._hooks_dir)
            facts = replace(
                facts,
                store_is_disk=store.is_disk if store else True,
                unhealthy=(*facts.unhealthy, *self._history.store.after(problems)),
            )
        return HostView(
            facts,
            store,
            self._history.draining_uuids,
            warning,
            self._history.store.recovery,
            self._history.draining.recovery,
        )

    def _facts_of(self, guests: tuple[Guest, ...], settings: Settings) -> HostFacts:
        remaining = draining.remaining_guests(settings.enabled, guests)
        problems = self._history.drain(
            draining.problem(settings.enabled, guests), (guest.uuid for guest in remaining)
        )
        return HostFacts(
            draining=bool(problems),
            guests_enabled=draining.common_state(guests),
            unhealthy=problems,
        )

    def guests(self) -> tuple[Guest, ...]:
        """Return every guest that runs here.

        :raises HostError: they can't be seen
        """
        reason = processes.hidden(mounts.read_mounts())
        if reason is not None:
            raise errors.HostError(reason)
        return processes.ask(self._guest_probe, self._read_guests)

    def _read_guests(self) -> tuple[Guest, ...]:
        try:
            owners = libvirt.read_qemu_conf(self._qemu_conf).uids
        except errors.HostError:
            owners = frozenset()
        return processes.running_guests(self._proc, owners | {0} if owners else None)

    def store(
        self, settings: Settings, options: AgentOptions, guests: tuple[Guest, ...]
    ) -> tuple[Store | None, tuple[Problem, ...]]:
        """Return the store, None where its place is not known, and why it isn't fit."""
        path, qemu_uids = options.memory_backing_dir, frozenset[int]()
        try:
            conf = libvirt.read_qemu_conf(self._qemu_conf)
            path, qemu_uids = path or conf.memory_backing_dir, conf.uids
        except errors.HostError as exc:
            if path is None:
                return None, (Problem('qemu.conf', str(exc)),)
        store = self._observe_store(path, guests)
        lacking_mib = health.lacking_mib(store, settings.allocatable_mib)
        if lacking_mib > 0 and self._history.store.last_was_good:
            self._wait(RELEASE_SECONDS)
            store = self._observe_store(path, guests)
        trusted = frozenset({0, os.geteuid()})
        return store, health.problems(store, settings.allocatable_mib, qemu_uids, trusted)

    def _observe_store(self, path: str, guests: tuple[Guest, ...]) -> Store:
        return self._history.with_expected_mount(observe_store(path, guests, self._store_probe))


def _unseen(settings: Settings, reason: str) -> tuple[HostFacts, str | None]:
    """Leave the published state as it is where guests can't be seen; close an enabled host."""
    facts = HostFacts(draining=True, guests_seen=False)
    if not settings.enabled:
        return facts, reason
    return replace(facts, unhealthy=(Problem('guests-unseen', reason),)), None

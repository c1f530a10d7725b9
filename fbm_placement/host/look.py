# SPDX-License-Identifier: Apache-2.0
"""One look at the host, once a pass: the guests, the store, and what follows from them."""

import os
import time
from dataclasses import dataclass, replace

from fbm_placement import errors
from fbm_placement.hook import installation
from fbm_placement.host import draining, health, hook_status, libvirt, mounts, processes
from fbm_placement.host.guests import Guest
from fbm_placement.host.probe import Probe
from fbm_placement.host.state_file import HostState, Recovery
from fbm_placement.host.store import Store, observe_store
from fbm_placement.model import Problem
from fbm_placement.plan import HostFacts
from fbm_placement.rules.hysteresis import Hysteresis
from fbm_placement.settings import AgentOptions, Settings

EMPTY_LOOKS = 2
"""A guest that restarts has no process for a moment; that is not yet a host without it."""

GOING_SECONDS = 1.0
"""libvirt removes a RAM file after the guest's process has ended, and XFS frees it later still."""


@dataclass(frozen=True)
class HostView:
    """What one look found."""

    facts: HostFacts
    store: Store | None
    """None: the host is disabled, so it has none, or nobody knows where it is."""
    draining_uuids: tuple[str, ...]
    """UUIDs of the guests of the other kind that run here or did so since the host drains."""
    warning: str | None = None
    """What can't be seen, where that closes no host."""
    store_recovery: Recovery | None = None
    drain_recovery: Recovery | None = None


class HostObserver:
    """Looks at this host, and remembers what one look alone can't tell."""

    def __init__(
        self,
        *,
        proc: str = processes.PROC,
        qemu_conf: str = libvirt.QEMU_CONF,
        hooks_dir: str = installation.HOOKS_DIR,
    ) -> None:
        """Look at this ``/proc``, at what this qemu.conf says, and for a hook in there."""
        self._hooks_dir = hooks_dir
        self._proc = proc
        self._qemu_conf = qemu_conf
        self._guest_probe = Probe()
        self._store_probe = Probe()
        self._store_health = Hysteresis('store', health.GOOD_CHECKS)
        self._drained = Hysteresis('draining', EMPTY_LOOKS)
        self._draining_uuids: dict[str, None] = {}
        self._mounted: tuple[str, str] | None = None
        self._lacks_room = False

    def restore(self, state: HostState) -> None:
        """Go on where the process was that wrote this: a restart heals nothing."""
        if state.store is not None and state.store.mount_point is not None:
            self._mounted = (state.store.path, state.store.mount_point)
        self._store_health.restore(state.store_recovery)
        self._drained.restore(state.drain_recovery)
        self._draining_uuids.update(dict.fromkeys(state.may_restart))

    def observe(self, settings: Settings, options: AgentOptions) -> HostView:
        """Look at guests and store; what can't be seen is a reason, not an error."""
        try:
            guests = self.guests()
        except errors.HostError as exc:
            return self._blind(settings, options, str(exc))
        left = draining.remaining_guests(settings.enabled, guests)
        changed = sum(guest.is_nova for guest in guests) - len(left)
        found: tuple[Problem, ...] = ()
        if left:
            found = (Problem('draining', draining.tell(settings.enabled, left, changed)),)
        drains = self._drained.after(found)
        # One that is between two lives is still there.
        self._draining_uuids.update(dict.fromkeys(guest.uuid for guest in left))
        if not drains:
            self._draining_uuids.clear()
        facts = HostFacts(
            draining=bool(drains),
            guests_enabled=draining.common_state(guests),
            unhealthy=drains,
        )
        return self._with_store(settings, options, guests, facts)

    def _blind(self, settings: Settings, options: AgentOptions, reason: str) -> HostView:
        """Leave the published state as it is where guests can't be seen."""
        unhealthy = (Problem('guests-unseen', reason),) if settings.enabled else ()
        facts = HostFacts(draining=True, guests_seen=False, unhealthy=unhealthy)
        view = self._with_store(settings, options, (), facts)
        return view if settings.enabled else replace(view, warning=reason)

    def _with_store(
        self,
        settings: Settings,
        options: AgentOptions,
        guests: tuple[Guest, ...],
        facts: HostFacts,
    ) -> HostView:
        store = None
        if settings.enabled:
            store, problems = self.store(settings, options, guests)
            problems += hook_status.problems(options.hook_mode, self._hooks_dir)
            facts = replace(
                facts,
                store_is_disk=store.is_disk if store else True,
                unhealthy=(*facts.unhealthy, *self._store_health.after(problems)),
            )
        return HostView(
            facts,
            store,
            tuple(self._draining_uuids),
            store_recovery=self._store_health.recovery,
            drain_recovery=self._drained.recovery,
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
        """Return the store, None where nobody knows which, and why it isn't fit."""
        path, qemu_uids = options.memory_backing_dir, frozenset[int]()
        try:
            conf = libvirt.read_qemu_conf(self._qemu_conf)
            path, qemu_uids = path or conf.memory_backing_dir, conf.uids
        except errors.HostError as exc:
            if path is None:
                return None, (Problem('qemu.conf', str(exc)),)
        trusted = frozenset({0, os.geteuid()})
        store = self._see_store(path, guests)
        if health.lacking_mib(store, settings.promised_mib) > 0 and not self._lacks_room:
            time.sleep(GOING_SECONDS)
            store = self._see_store(path, guests)
        self._lacks_room = health.lacking_mib(store, settings.promised_mib) > 0
        return store, health.problems(store, settings.promised_mib, qemu_uids, trusted)

    def _see_store(self, path: str, guests: tuple[Guest, ...]) -> Store:
        novas = [file for guest in guests if guest.is_nova for file in guest.ram_files]
        others = [file for guest in guests if not guest.is_nova for file in guest.ram_files]
        return self._as_remembered(observe_store(path, novas, self._store_probe, others))

    def _as_remembered(self, store: Store) -> Store:
        """Expect the store where it was mounted before: an unmount leaves a directory behind."""
        if self._mounted is not None and self._mounted[0] == store.path:
            expected = max(self._mounted[1], store.expected_mount or '', key=len)
            store = replace(store, expected_mount=expected)
        seen = store.mount.mount_point if store.mount is not None else '/'
        if seen != '/' and len(seen) >= len(store.expected_mount or ''):
            self._mounted = (store.path, seen)
        return store

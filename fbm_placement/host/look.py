# SPDX-License-Identifier: Apache-2.0
"""One look at the host, once a pass: the guests, the store, and what follows from them."""

import os
from dataclasses import dataclass, replace

from fbm_placement import errors
from fbm_placement.host import draining, health, libvirt, mounts, processes
from fbm_placement.host.guests import Guest
from fbm_placement.host.probe import Probe
from fbm_placement.host.store import Store, see_store
from fbm_placement.plan import HostFacts
from fbm_placement.settings import AgentOptions, Settings

EMPTY_LOOKS = 2
"""A guest that restarts has no process for a moment; that is not yet a host without it."""


@dataclass(frozen=True)
class View:
    """What one look found."""

    facts: HostFacts
    store: Store | None
    """None: the host is disabled, so it has none."""
    may_restart: tuple[str, ...]


class Host:
    """Looks at this host, and remembers what one look alone can't tell."""

    def __init__(self, *, proc: str = processes.PROC, qemu_conf: str = libvirt.QEMU_CONF) -> None:
        """Look at this ``/proc``, and at what this qemu.conf says."""
        self._proc = proc
        self._qemu_conf = qemu_conf
        self._probe = Probe()
        self._store_health = health.Convalescence()
        self._drained = health.Convalescence(EMPTY_LOOKS)
        self._remaining: tuple[Guest, ...] = ()
        self._mounted: tuple[str, str] | None = None

    def look(self, settings: Settings, options: AgentOptions) -> View:
        """Look at guests and store; what can't be seen is a reason, not an error."""
        try:
            guests = self.guests()
        except errors.HostError as exc:
            # The published state stays as it is, and nothing new comes.
            return View(HostFacts(draining=True, unhealthy=(str(exc),)), None, ())
        left = draining.remaining_guests(settings.enabled, guests)
        drains = self._drained.after((draining.tell(settings.enabled, left),) if left else ())
        if left or not drains:
            self._remaining = left
        facts = HostFacts(draining=bool(drains), unhealthy=drains)
        store = None
        if settings.enabled:
            store, ailments = self.store(settings, options, guests)
            facts = replace(
                facts,
                store_is_disk=store.is_disk if store else True,
                unhealthy=(*drains, *self._store_health.after(ailments)),
            )
        return View(facts, store, tuple(guest.uuid for guest in self._remaining))

    def guests(self) -> tuple[Guest, ...]:
        """Return every guest that runs here.

        :raises HostError: they can't be seen
        """
        reason = processes.hidden(mounts.read_mounts())
        if reason is not None:
            raise errors.HostError(reason)
        return processes.running_guests(self._proc)

    def store(
        self, settings: Settings, options: AgentOptions, guests: tuple[Guest, ...]
    ) -> tuple[Store | None, tuple[str, ...]]:
        """Return the store, None where nobody knows which, and why it isn't fit."""
        path, qemu_uids = options.memory_backing_dir, frozenset[int]()
        try:
            conf = libvirt.read_qemu_conf(self._qemu_conf)
            path, qemu_uids = path or conf.memory_backing_dir, conf.uids
        except errors.HostError as exc:
            if path is None:
                return None, (str(exc),)
        files = [file for guest in guests for file in guest.ram_files]
        store = self._as_remembered(see_store(path, files, self._probe))
        trusted = frozenset({0, os.geteuid()})
        return store, health.ailments(store, settings.promised_mib, qemu_uids, trusted)

    def _as_remembered(self, store: Store) -> Store:
        """Expect the store where it was mounted before: an unmount leaves a directory behind."""
        if self._mounted is not None and self._mounted[0] == store.path:
            expected = max(self._mounted[1], store.expected_mount or '', key=len)
            store = replace(store, expected_mount=expected)
        seen = store.mount.mount_point if store.mount is not None else '/'
        if seen != '/' and len(seen) >= len(store.expected_mount or ''):
            self._mounted = (store.path, seen)
        return store

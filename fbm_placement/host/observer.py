# SPDX-License-Identifier: Apache-2.0
"""The check of the host in each pass: its guests, its store, and what follows from them."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from fbm_placement import errors
from fbm_placement.hook import install
from fbm_placement.host import hook_status, mounts, origin, processes, qemu_conf
from fbm_placement.host.history import History
from fbm_placement.host.probe import Probe
from fbm_placement.host.store import observe_store
from fbm_placement.model import AgentOptions, Guest, HostFacts, Problem, Recovery, Settings, Store
from fbm_placement.rules import draining
from fbm_placement.rules import store as store_rules

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
        qemu_conf: str = qemu_conf.QEMU_CONF,
        hooks_dir: str = install.HOOKS_DIR,
        run_time_xml: str = origin.RUN_TIME_XML,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._proc = proc
        self._qemu_conf = qemu_conf
        self._hooks_dir = hooks_dir
        self._run_time_xml = run_time_xml
        self._wait = wait
        self._guest_probe = Probe()
        self._store_probe = Probe()
        self._history = History()

    def observe(self, settings: Settings, options: AgentOptions) -> HostView:
        """Check guests and store; what can't be seen is a problem of the host, not an error."""
        guests: tuple[Guest, ...] = ()
        facts = HostFacts(draining=True, guests_seen=False)
        store = warning = None
        try:
            guests = self.guests(settings.instance_name_template)
            problems = self._history.drain(settings.enabled, guests)
            facts = HostFacts(
                draining=bool(problems),
                guests_enabled=draining.common_state(guests),
                unhealthy=problems,
            )
        except errors.HostError as exc:
            # The published state stays as it is; only an enabled host is closed.
            if settings.enabled:
                facts = replace(facts, unhealthy=(Problem('guests-unseen', str(exc)),))
            else:
                warning = str(exc)
        if settings.enabled:
            store, problems = self.store(settings, options, guests)
            problems += hook_status.problems(options.hook_mode, self._hooks_dir)
            facts = replace(
                facts,
                store_is_disk=store_rules.is_disk(store) if store else True,
                unhealthy=(*facts.unhealthy, *self._history.store.after(problems)),
                settling=self._history.store.settling,
            )
        history = self._history
        recoveries = history.store.recovery, history.draining.recovery
        return HostView(facts, store, history.draining_uuids, warning, *recoveries)

    def guests(self, name_template: str) -> tuple[Guest, ...]:
        """Return every guest that runs here, or raise HostError: they can't be seen.

        :param name_template: ``[DEFAULT]instance_name_template``
        """
        reason = processes.hidden_reason(mounts.read_mounts(), self._proc)
        if reason is not None:
            raise errors.HostError(reason)
        return processes.ask(
            self._guest_probe,
            lambda: processes.running_guests(name_template, self._proc, self._run_time_xml),
        )

    def store(
        self, settings: Settings, options: AgentOptions, guests: tuple[Guest, ...]
    ) -> tuple[Store | None, tuple[Problem, ...]]:
        """Return the store, None where its place is not known, and why it isn't fit."""
        path, qemu_uids = options.memory_backing_dir, frozenset[int]()
        try:
            conf = qemu_conf.read_qemu_conf(self._qemu_conf)
            path, qemu_uids = path or conf.memory_backing_dir, conf.uids
        except errors.HostError as exc:
            if path is None:
                return None, (Problem('qemu.conf', str(exc)),)
        if (problem := store_rules.misplaced(path)) is not None:
            return None, (problem,)

        def check(path: str) -> tuple[Store, tuple[Problem, ...]]:
            store = observe_store(path, guests, self._store_probe)
            store = self._history.with_expected_mount(store)
            trusted = frozenset({0, os.geteuid()})
            return store, store_rules.problems(store, settings.allocatable_mib, qemu_uids, trusted)

        store, problems = check(path)
        too_small = any(problem.key == store_rules.TOO_SMALL for problem in problems)
        if too_small and self._history.store.last_was_good:
            self._wait(RELEASE_SECONDS)
            return check(path)
        return store, problems

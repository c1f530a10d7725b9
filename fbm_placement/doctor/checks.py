# SPDX-License-Identifier: Apache-2.0
"""All checks of the doctor, in the order in which they are told.

Each looks by itself: a Placement that is away hides nothing of what is wrong on the host.
"""

import functools
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from oslo_config import cfg
from oslo_upgradecheck.upgradecheck import Result, UpgradeCommands

from fbm_placement import connection, errors, plan, provider, report, settings
from fbm_placement.conf import reader
from fbm_placement.doctor import rights, rules, versions
from fbm_placement.hook import inspection, installation
from fbm_placement.host import hook_status, libvirt, processes, state_file
from fbm_placement.host.announce import running_agent
from fbm_placement.host.guests import Guest
from fbm_placement.host.look import HostObserver
from fbm_placement.host.store import Store
from fbm_placement.model import Problem
from fbm_placement.placement import PlacementClient, Provider
from fbm_placement.reconcile import Reconciler
from fbm_placement.rules import config
from fbm_placement.words import config_error_text

HOOK = installation.paths(installation.HOOKS_DIR)[installation.HOOK]
NOVA_COMPUTE = ('nova-compute',)
DEFAULT_CONNECTION_URI = 'qemu:///system'
"""What nova-compute takes for virt_type kvm and qemu."""


@dataclass(frozen=True)
class Seen:
    """The host's provider in Placement."""

    placement: PlacementClient
    provider: Provider
    goal: plan.Target
    observation: plan.Observation


def _told(check: Callable[['Doctor'], Result]) -> Callable[['Doctor'], Result]:
    """Make an error of a check its result."""

    @functools.wraps(check)
    def told(doctor: 'Doctor') -> Result:
        try:
            return check(doctor)
        except _UnknownError as exc:
            return rules.warning(str(exc))
        except errors.FileBackedMemoryError as exc:
            return rules.failure(str(exc))
        except (cfg.Error, ValueError, OSError) as exc:
            return rules.failure(config_error_text(exc))

    return told


class _UnknownError(errors.FileBackedMemoryError):
    """What a check needs isn't there, for a reason that another check tells."""


class Doctor(UpgradeCommands):
    """Looks at the host, at nova.conf and at Placement, and writes nowhere."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """Take the files that nova-compute reads; nothing has been looked at yet."""
        self._conf = conf
        self._host = HostObserver()
        self._reasons: tuple[str, ...] = ()
        self._settings, self._options = settings.DISABLED, settings.AgentOptions(None, 60)
        try:
            self._settings, self._options = reader.read_all(conf)
        except errors.ConfigurationError as exc:
            self._reasons = exc.reasons

    # The host

    def configuration(self) -> Result:
        """Check the options by which nova-compute refuses to start."""
        warnings = config.warnings(self._settings)
        return rules.configuration(self._settings, self._reasons, warnings)

    def qemu(self) -> Result:
        """Check QEMU's version."""
        return rules.version('QEMU', self._versions.qemu, rules.QEMU_NEEDED, rules.QEMU_DISCARDS)

    def libvirt(self) -> Result:
        """Check libvirt's version."""
        return rules.version(
            'libvirt', self._versions.libvirt, rules.LIBVIRT_NEEDED, rules.LIBVIRT_DISCARDS
        )

    def store(self) -> Result:
        """Check the store, on a disabled host the one that it would have."""
        seen, problems = self._store
        edited = _newer_than(libvirt.DAEMONS, (libvirt.QEMU_CONF,))
        texts = [str(problem) for problem in problems]
        return rules.store(self._settings, seen, texts, edited)

    def guests(self) -> Result:
        """Check whether the running guests are what the host should be."""
        return rules.guests(self._settings, self._guests)

    def post_copy(self) -> Result:
        """Check post-copy against the kind of store."""
        permitted = self._conf.libvirt.live_migration_permit_post_copy
        return rules.post_copy(permitted, self._store[0], self._settings)

    # Placement

    def placement(self) -> Result:
        """Check whether Placement answers and has this host's provider."""
        if isinstance(self._look, errors.FileBackedMemoryError):
            raise self._look
        found = self._look.provider
        doubt = provider.warning(found, self._options.resource_provider, self._conf)
        if doubt is not None:
            return rules.failure(doubt)
        return rules.success(f'{found.name} ({found.uuid}) was found')

    def rights(self) -> Result:
        """Check whether the user in ``[placement]`` may write what the agent writes."""
        seen = self._seen()
        return rules.rights(
            rights.missing_rights(seen.placement, seen.provider.uuid, seen.observation)
        )

    def allocations(self) -> Result:
        """Check what is allocated against what is promised."""
        seen = self._seen()
        return rules.allocations(seen.goal, seen.observation)

    def two_views(self) -> Result:
        """Check whether nova-compute and the agent want the same."""
        seen = self._seen()
        files = (*self._conf.config_file, *self._conf.config_dir)
        edited = _newer_than(NOVA_COMPUTE, files)
        return rules.two_views(seen.goal, seen.observation, report.dram_mib(), edited)

    # What is installed here

    def agent(self) -> Result:
        """Check whether the agent runs."""
        try:
            state = state_file.read(state_file.path(), state_file.uptime())
        except errors.HostError as exc:
            return rules.agent(str(exc), self._settings)
        runs = running_agent() is not None
        return rules.agent(
            None,
            self._settings,
            state.unhealthy,
            runs=runs,
            configured=state.enabled,
        )

    def hook(self) -> Result:
        """Check whether the hook is installed and answers."""
        findings = [str(finding) for finding in inspection.check()]
        older = _newer_than(libvirt.DAEMONS, (HOOK,))
        return rules.hook(
            findings,
            self._settings,
            unknown_to_libvirtd=older is not None,
            silent=hook_status.not_enforcing_reason(),
        )

    @functools.cached_property
    def _versions(self) -> versions.Versions:
        return versions.read_versions(self._conf.libvirt.connection_uri or DEFAULT_CONNECTION_URI)

    @functools.cached_property
    def _guests(self) -> tuple[Guest, ...]:
        return self._host.guests()

    @functools.cached_property
    def _store(self) -> tuple[Store | None, tuple[Problem, ...]]:
        return self._host.store(self._settings, self._options, self._guests)

    @functools.cached_property
    def _look(self) -> Seen | errors.FileBackedMemoryError:
        try:
            placement = connection.connect(self._conf)
            lookup = provider.lookup_for(self._options.resource_provider, self._conf)
            found = provider.find_provider(placement, lookup)
            facts = self._host.observe(self._settings, self._options).facts
            goal = plan.target(self._settings, facts)
            observation = Reconciler(found).dry_run(placement, goal).seen
        except errors.FileBackedMemoryError as exc:
            return exc
        return Seen(placement, found, goal, observation)

    def _seen(self) -> Seen:
        """Return what Placement said.

        :raises _UnknownError: it said nothing, which is told once
        """
        if isinstance(self._look, errors.FileBackedMemoryError):
            raise _UnknownError('not known, because the check "Placement" failed')
        return self._look

    _upgrade_checks = (
        ('Configuration', _told(configuration)),
        ('QEMU', _told(qemu)),
        ('libvirt', _told(libvirt)),
        ('Store', _told(store)),
        ('Guests', _told(guests)),
        ('Post-copy', _told(post_copy)),
        ('Placement', _told(placement)),
        ('Rights in Placement', _told(rights)),
        ('Allocations', _told(allocations)),
        ('nova-compute and fbm-agent', _told(two_views)),
        ('fbm-agent', _told(agent)),
        ('libvirt hook', _told(hook)),
    )


def _newer_than(programs: Collection[str], files: Iterable[str]) -> str | None:
    """Return a file that was changed after one of these programs was started."""
    for pid in processes.running(programs):
        for file in files:
            try:
                status = os.stat(file)
                # A file that was copied keeps an old mtime.
                changed = max(status.st_mtime, status.st_ctime)
                if changed > processes.started_at(pid):
                    return file
            except OSError:
                continue
    return None

# SPDX-License-Identifier: Apache-2.0
"""What the doctor's checks need to know: each fact is read once, when the first check needs it."""

import contextlib
import functools
import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from oslo_config import cfg

from fbm_placement import errors
from fbm_placement.agent import provider, reconcile
from fbm_placement.conf import reader
from fbm_placement.hook import check, install
from fbm_placement.host import (
    definitions,
    hook_status,
    numa,
    processes,
    provider_config,
    publisher,
    qemu_conf,
    state_file,
)
from fbm_placement.host.observer import HostObserver
from fbm_placement.host.state_file import HostState
from fbm_placement.model import (
    DISABLED,
    AgentOptions,
    Guest,
    Problem,
    Provider,
    Settings,
    Store,
)
from fbm_placement.placement import session
from fbm_placement.placement.client import PlacementClient
from fbm_placement.rules import publish
from fbm_placement.rules.restarts import Definition

NO_GENERATION = -1
_NO_CUSTOM_NAME = 'FILE_BACKED_MEMORY_WITHOUT_THE_PREFIX_CUSTOM'

Version = tuple[int, ...]

_PATTERNS = {
    'QEMU': re.compile(r'(?:Running hypervisor: QEMU|QEMU emulator version) (\d+(?:\.\d+)+)'),
    'libvirt': re.compile(r'(?:Running against daemon: |\(libvirt\) )(\d+(?:\.\d+)+)'),
}
_PROGRAMS = (
    'libvirtd',
    'virtqemud',
    'qemu-system-x86_64',
    '/usr/libexec/qemu-kvm',
    'qemu-system-aarch64',
)


@dataclass(frozen=True)
class PlacementView:
    """The host's provider in Placement, and what the agent would make of it."""

    client: PlacementClient
    provider: Provider
    warning: str | None
    """Why it may be the provider of another host."""
    goal: publish.Target
    observation: publish.Observation

    def missing_rights(self) -> list[str]:
        """Return Placement's refusal of each write of the agent that the user has no right for.

        Nothing is written. Placement checks the right first (403); with it, it still refuses each
        of these: the provider can't have this generation (409) and no trait this name (400).

        :raises PlacementError: any other error
        """
        uuid, inventory = self.provider.uuid, self.observation.inventory
        attempts: list[Callable[[], object]] = [
            lambda: self.client.put_traits(uuid, NO_GENERATION, self.observation.traits),
            lambda: self.client.create_trait(_NO_CUSTOM_NAME),
        ]
        if inventory is not None:
            attempts.append(lambda: self.client.put_inventory(uuid, NO_GENERATION, inventory))
        refusals = []
        for attempt in attempts:
            try:
                attempt()
            except (errors.ConflictError, errors.BadRequestError):
                continue
            except errors.ForbiddenError as exc:
                refusals.append(str(exc))
        return refusals


class Facts:
    """Reads nova.conf, this host and Placement; writes nowhere.

    A fact that can't be read raises FileBackedMemoryError, cfg.Error, ValueError or OSError, so it
    fails the checks that need it and no other.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._host = HostObserver()
        self.forbidden: tuple[str, ...] = ()
        """Why nova.conf forbids to run; the settings are then those of a disabled host."""
        try:
            self.settings, self._options = reader.read_all(conf)
        except errors.ConfigurationError as exc:
            self.settings, self._options, self.forbidden = DISABLED, AgentOptions(), exc.reasons

    @property
    def post_copy(self) -> bool:
        return bool(self._conf.libvirt.live_migration_permit_post_copy)

    @functools.cached_property
    def versions(self) -> dict[str, Version]:
        """Of QEMU and libvirt, where they are known."""
        # The default of nova-compute for virt_type kvm and qemu.
        return read_versions(self._conf.libvirt.connection_uri or 'qemu:///system')

    @functools.cached_property
    def guests(self) -> tuple[Guest, ...]:
        return self._host.guests(reader.read_instance_name_template(self._conf))

    @functools.cached_property
    def definitions(self) -> tuple[Definition, ...]:
        """Nova's guests, running or stopped."""
        return definitions.read_definitions()

    @property
    def cells_mib(self) -> dict[int, int]:
        return {cell: kib // 1024 for cell, kib in numa.cells_kib().items()}

    @functools.cached_property
    def store(self) -> tuple[Store | None, tuple[Problem, ...]]:
        """The store, on a disabled host the one that it would have, and its problems."""
        return self._host.store(self.settings, self._options, self.guests)

    @functools.cached_property
    def placement(self) -> PlacementView | errors.FileBackedMemoryError:
        """The provider as Placement shows it, or why that is unknown."""
        option = self._options.resource_provider
        try:
            client = session.connect(self._conf)
            lookup = provider.lookup_for(option, self._conf)
            found = provider.find_provider(client, lookup)
            warning = provider.warning(found, option, self._conf)
            facts = self._host.observe(self.settings, self._options).facts
            goal = publish.target(self.settings, facts)
            observation = reconcile.observe(client, found.uuid)
        except errors.FileBackedMemoryError as exc:
            return exc
        return PlacementView(client, found, warning, goal, observation)

    @property
    def dram_mib(self) -> int | None:
        return numa.dram_mib()

    @property
    def agent_state(self) -> HostState:
        """The last check of the agent; HostError: there is none, or it is stale."""
        return state_file.read(state_file.path(), state_file.uptime())

    @property
    def agent_runs(self) -> bool:
        return publisher.running_agent() is not None

    @property
    def agent_behind(self) -> str | None:
        """Why the running agent goes by another memory than nova.conf has; None: it does not."""
        with contextlib.suppress(errors.HostError):
            if self.agent_runs and not self.forbidden:
                return behind(self.agent_state, self.settings)
        return None

    @property
    def hook_findings(self) -> Sequence[str]:
        return check.check()

    @property
    def hook_not_enforcing(self) -> str | None:
        return hook_status.not_enforcing_reason()

    @property
    def hook_newer_than_libvirtd(self) -> bool:
        """Whether the hook was installed while libvirtd ran."""
        hook = install.paths(install.HOOKS_DIR)[install.HOOK]
        return newer_than(qemu_conf.DAEMONS, (hook,)) is not None

    @property
    def edited_qemu_conf(self) -> str | None:
        """Configuration file of libvirt, if it was changed while libvirtd ran."""
        return newer_than(qemu_conf.DAEMONS, (qemu_conf.QEMU_CONF,))

    @property
    def edited_nova_conf(self) -> str | None:
        """A configuration file that was changed while nova-compute ran."""
        return newer_than(('nova-compute',), (*self._conf.config_file, *self._conf.config_dir))

    @property
    def provider_configs(self) -> Sequence[str]:
        """Files of nova-compute that name one of the agent's traits."""
        return provider_config.naming_own_traits(self._conf.compute.provider_config_location)


def behind(state: HostState, settings: Settings) -> str | None:
    """Return that an agent goes by another memory than these settings; None: it does not."""
    goes_by = state.settings(settings)
    if str(goes_by) == str(settings) and state.enabled == settings.enabled:
        return None
    return (
        f'nova.conf has file-backed memory {settings}, but the running agent goes by '
        f'{goes_by if state.enabled == goes_by.enabled else state.configured} until nova-compute '
        'reports the new value: restart nova-compute; if that changes nothing, restart fbm-agent'
    )


def newer_than(programs: Collection[str], files: Iterable[str]) -> str | None:
    """Return a file that was changed after one of these programs was started."""
    for pid in processes.running(programs):
        for file in files:
            with contextlib.suppress(OSError):
                status = os.stat(file)
                # A file that was copied keeps an old mtime.
                if max(status.st_mtime, status.st_ctime) > processes.started_at(pid):
                    return file
    return None


def output(command: Sequence[str], seconds: float = 10.0) -> str:
    """Return what a program prints; nothing where it doesn't run, or not end in time."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs; the URI is nova.conf's
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors='replace',
            timeout=seconds,
            check=False,
            # The versions are found by their English names.
            env={'LC_ALL': 'C', 'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout


def read_versions(
    connection_uri: str, output: Callable[[Sequence[str]], str] = output
) -> dict[str, Version]:
    """Ask the libvirt that nova-compute uses; where it does not answer, the installed programs."""
    running = parse_versions(output(('virsh', '-c', connection_uri, 'version', '--daemon')))
    if len(running) == len(_PATTERNS):
        return running
    installed = '\n'.join(output((program, '--version')) for program in _PROGRAMS)
    return parse_versions(installed) | running


def parse_versions(text: str) -> dict[str, Version]:
    """Find the versions in the output of ``virsh version`` and ``--version``."""
    found = ((name, pattern.search(text)) for name, pattern in _PATTERNS.items())
    return {name: tuple(map(int, match[1].split('.'))) for name, match in found if match}

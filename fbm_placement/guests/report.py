# SPDX-License-Identifier: Apache-2.0
"""Which guests run here, how they are backed, and which RAM files have no guest."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from oslo_config import cfg

from fbm_placement import errors
from fbm_placement.conf import reader
from fbm_placement.guests import mappings, orphans
from fbm_placement.guests.mappings import Ram
from fbm_placement.guests.orphans import Orphan
from fbm_placement.host import origin, processes, qemu_conf, state_file
from fbm_placement.host.probe import Probe
from fbm_placement.model import Backing, Guest
from fbm_placement.rules import draining

PROBE_SECONDS = 15.0
"""For hundreds of processes, of which a busy one answers slowly."""


@dataclass(frozen=True)
class State:
    """What the host is configured to be, for new guests."""

    enabled: bool | None
    """None: not known."""
    source: str
    """Where that is from, or why it is not known."""


@dataclass(frozen=True)
class GuestMemory:
    """A guest, and its memory as its process maps it."""

    guest: Guest
    files: tuple[Ram, ...] = ()
    error: str | None = None
    """Why its mappings, so its backing, are not known."""

    @property
    def composition(self) -> dict[Backing, int]:
        """MiB of each kind; empty if that is not known."""
        return {} if self.error else mappings.composition(self.files, self.guest.memory_mib)

    @property
    def backing(self) -> Backing:
        return Backing.of_whole(self.composition)

    def matches(self, state: State) -> bool | None:
        """Return whether a new guest is made like this; None: not known, or not a Nova guest."""
        if not self.guest.is_nova or state.enabled is None or self.error:
            return None
        actual = replace(self.guest, backing=self.backing)
        return not draining.remaining_guests(state.enabled, [actual])


@dataclass(frozen=True)
class Report:
    guests: tuple[GuestMemory, ...]
    state: State
    orphans: tuple[Orphan, ...] | None
    """None: not known."""
    orphans_unknown: str | None = None
    """Why they are not known."""
    guests_unseen: str | None = None
    """Why more guests may run."""

    @property
    def remaining(self) -> tuple[Guest, ...]:
        """The Nova guests that don't match the state, as they really are backed."""
        return tuple(
            replace(one.guest, backing=one.backing)
            for one in self.guests
            if one.matches(self.state) is False
        )

    @property
    def errors(self) -> tuple[str, ...]:
        """Why something is not known."""
        found = [
            self.state.source if self.state.enabled is None else None,
            *(f'{one.guest}: {one.error}' for one in self.guests if one.error),
            self.guests_unseen,
            self.orphans_unknown and f'orphans are not known: {self.orphans_unknown}',
        ]
        return tuple(text for text in found if text)

    @property
    def good(self) -> bool:
        """Whether all is known and as it should be."""
        left = any(not orphan.removed for orphan in self.orphans or ())
        return not (self.remaining or left or self.errors)


def scan(
    conf: cfg.ConfigOpts,
    proc: str = processes.PROC,
    qemu_path: str = qemu_conf.QEMU_CONF,
    run_time_xml: str = origin.RUN_TIME_XML,
) -> Report:
    """Return what is seen of this host, and what isn't; HostError: a guest hangs."""
    name_template = reader.read_instance_name_template(conf)
    found, unseen = processes.ask(
        Probe(PROBE_SECONDS),
        lambda: (
            processes.running_guests(name_template, proc, run_time_xml),
            processes.unseen_reason(qemu_conf.DAEMONS, proc),
        ),
    )
    guests = sorted(found, key=lambda guest: guest.name)
    left, unknown = None, None
    try:
        store = reader.read_agent_options(conf).memory_backing_dir
        store = store or qemu_conf.read_qemu_conf(qemu_path).memory_backing_dir
        left = _orphans(store, guests)
    except errors.FileBackedMemoryError as exc:
        unknown = str(exc)
    return Report(scan_guests(guests, proc), host_state(conf), left, unknown, unseen)


def host_state(conf: cfg.ConfigOpts) -> State:
    """Return the state that the agent wrote, or else that of nova.conf."""
    try:
        written = state_file.read(state_file.path(), state_file.uptime())
    except errors.HostError as exc:
        reason = str(exc)
    else:
        return State(written.enabled, f'{written.written_by}, {written.looked_at}')
    try:
        enabled = reader.read_settings(conf).enabled
    except errors.ConfigurationError as exc:
        return State(None, f'the state of this host is not known: {reason}; and {exc}')
    return State(enabled, f'nova.conf, because {reason}')


def scan_guests(guests: Sequence[Guest], proc: str) -> tuple[GuestMemory, ...]:
    """Return the memory of these guests; one that has ended since is left out."""
    try:
        # The kernel asks the filesystem how much of a file is allocated.
        found = Probe(PROBE_SECONDS).ask(lambda: [_guest_memory(guest, proc) for guest in guests])
    except (errors.NoAnswerError, OSError) as exc:
        return tuple(_unseen(guest, exc) for guest in guests)
    return tuple(one for one in found if one is not None)


def _guest_memory(guest: Guest, proc: str) -> GuestMemory | None:
    try:
        files = mappings.read_named_ram(guest.pid, guest.ram_files, proc)
    except OSError as exc:
        return _unseen(guest, exc)
    return None if files is None else GuestMemory(guest, files)


def _unseen(guest: Guest, exc: Exception) -> GuestMemory:
    return GuestMemory(guest, error=f'its mappings cannot be read: {_error_text(exc)}')


def _orphans(store: str, guests: Sequence[Guest]) -> tuple[Orphan, ...]:
    """Return the orphans; HostError: the store can't be read, or has no leases."""
    used = {os.path.basename(os.path.dirname(path)) for one in guests for path in one.ram_files}
    try:
        return Probe(PROBE_SECONDS).ask(lambda: orphans.find(store, used, time.time()))
    except errors.NoAnswerError as exc:
        raise errors.HostError(
            f'the store {store} does not answer ({exc}); see dmesg for what became of its disk'
        ) from exc
    except OSError as exc:
        raise errors.HostError(
            f'{_error_text(exc)}; expected a store that root can read, on a filesystem with '
            'leases (ext4, XFS, btrfs, tmpfs): run fbm-status on the host itself, or remove '
            'orphans by hand'
        ) from exc


def _error_text(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return f'{exc.filename}: {exc.strerror}' if exc.filename else str(exc.strerror)
    return str(exc)

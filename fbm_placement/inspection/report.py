# SPDX-License-Identifier: Apache-2.0
"""One look at what guests run here, how they are backed, and what was left in the store."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from oslo_config import cfg

from fbm_placement import errors
from fbm_placement.conf import reader
from fbm_placement.host import draining, libvirt, processes, state_file
from fbm_placement.host.guests import Backing, Guest, guest_of
from fbm_placement.host.probe import Probe
from fbm_placement.inspection import domains, files_in_use, mappings, orphans
from fbm_placement.inspection.mappings import Ram
from fbm_placement.inspection.orphans import RamFile

PROBE_SECONDS = 15.0
"""Hundreds of processes are looked at, and a busy one answers slowly."""


@dataclass(frozen=True)
class Places:
    """Where to look."""

    proc: str = processes.PROC
    libvirt_run: str = domains.RUN_DIRECTORY
    qemu_conf: str = libvirt.QEMU_CONF


@dataclass(frozen=True)
class State:
    """What the host is configured to be, for new guests."""

    enabled: bool | None
    """None: nobody can tell."""
    source: str
    """Who tells it, or why nobody does."""


@dataclass(frozen=True)
class File:
    """A file or memfd with memory of a guest."""

    ram: Ram
    allocated_bytes: int | None
    """None: it can't be told."""


@dataclass(frozen=True)
class GuestMemory:
    """A guest, and what its process says of its memory."""

    guest: Guest
    files: tuple[File, ...] = ()
    trouble: str | None = None
    """Why its mappings could not be seen; its backing is then not known."""

    @property
    def composition(self) -> dict[Backing, int]:
        """MiB of each kind; empty if that is not known."""
        if self.trouble is not None:
            return {}
        return mappings.composition((file.ram for file in self.files), self.guest.memory_mib)

    @property
    def backing(self) -> Backing:
        """One word for all of it."""
        return Backing.of_whole(self.composition)

    def is_as(self, state: State) -> bool | None:
        """Whether it is what the host makes of a new guest; None: no opinion."""
        if not self.guest.is_nova or state.enabled is None or self.trouble is not None:
            return None
        actual = replace(self.guest, backing=self.backing)
        return not draining.remaining_guests(state.enabled, [actual])


@dataclass(frozen=True)
class Orphan:
    """A RAM file of no running guest, and what became of it."""

    file: RamFile
    age_seconds: int
    freed_bytes: int | None = None
    """None: it is still there."""
    left_because: str | None = None

    @property
    def removed(self) -> bool:
        """Whether it was taken away."""
        return self.freed_bytes is not None


@dataclass(frozen=True)
class Report:
    """All that was seen."""

    guests: tuple[GuestMemory, ...]
    state: State
    orphans: tuple[Orphan, ...] | None
    """None: not known; ``orphans_unknown`` says why."""
    orphans_unknown: str | None = None
    trouble: tuple[str, ...] = ()

    @property
    def remaining(self) -> tuple[Guest, ...]:
        """Nova's guests that aren't as the state says, as they really are backed."""
        return tuple(
            replace(one.guest, backing=one.backing)
            for one in self.guests
            if one.is_as(self.state) is False
        )

    @property
    def troubles(self) -> tuple[str, ...]:
        """Everything that kept something from being seen."""
        unknown = f'orphans are not known: {self.orphans_unknown}'
        of_guests = (f'{one.guest}: {one.trouble}' for one in self.guests if one.trouble)
        return (*self.trouble, *of_guests, *([unknown] if self.orphans_unknown else ()))

    @property
    def good(self) -> bool:
        """Whether all is as it should be."""
        left = [orphan for orphan in self.orphans or () if not orphan.removed]
        return not (self.remaining or left or self.troubles)


def look(conf: cfg.ConfigOpts, places: Places | None = None) -> Report:
    """Look at everything; what can't be seen is told in the report.

    :raises HostError: a process hangs, so that not even the guests can be told
    """
    places = places or Places()
    probe = Probe(PROBE_SECONDS)
    lines = processes.ask(probe, lambda: list(processes.command_lines(places.proc)))
    found = (guest_of(pid, argv) for pid, argv in lines)
    guests = sorted((guest for guest in found if guest is not None), key=lambda one: one.name)
    state = host_state(conf)
    trouble = [] if state.enabled is not None else [state.source]
    left, unknown = None, files_in_use.why_unseen(lines, places.proc)
    if unknown is None:
        try:
            left = _orphans(_store(conf, places), guests, places)
        except errors.FileBackedMemoryError as exc:
            unknown = str(exc)
    return Report(see_guests(guests, places.proc), state, left, unknown, tuple(trouble))


def host_state(conf: cfg.ConfigOpts) -> State:
    """Return what the agent says of this host, or else nova.conf."""
    try:
        seen = state_file.read(state_file.path(), state_file.uptime())
    except errors.HostError as exc:
        unseen = str(exc)
    else:
        return State(seen.enabled, f'{seen.written_by}, {seen.looked_at}')
    try:
        enabled = reader.read_settings(conf).enabled
    except errors.ConfigurationError as exc:
        return State(None, f'the state of this host is not known: {unseen}; and {exc}')
    return State(enabled, f'nova.conf, because {unseen}')


def see_guests(guests: Sequence[Guest], proc: str) -> tuple[GuestMemory, ...]:
    """Look at the mappings of these guests; one that has ended since is left out."""
    try:
        # The kernel asks the filesystem how much of a file is allocated.
        seen = Probe(PROBE_SECONDS).ask(lambda: [_see(guest, proc) for guest in guests])
    except (errors.NoAnswerError, OSError) as exc:
        trouble = f'its mappings cannot be seen: {_words(exc)}'
        return tuple(GuestMemory(guest, trouble=trouble) for guest in guests)
    return tuple(one for one in seen if one is not None)


def _see(guest: Guest, proc: str) -> GuestMemory | None:
    try:
        named = mappings.read_named_ram(guest.pid, guest.ram_files, proc)
    except OSError as exc:
        return GuestMemory(guest, trouble=f'its mappings cannot be seen: {_words(exc)}')
    if named is None:
        return None
    files = (File(ram, mappings.allocated_bytes(guest.pid, ram, proc)) for ram in named)
    return GuestMemory(guest, tuple(files))


def _store(conf: cfg.ConfigOpts, places: Places) -> str:
    configured = reader.read_agent_options(conf).memory_backing_dir
    return configured or libvirt.read_qemu_conf(places.qemu_conf).memory_backing_dir


def _orphans(store: str, guests: Sequence[Guest], places: Places) -> tuple[Orphan, ...]:
    """Look for them.

    :raises HostError: the store doesn't answer, or something can't be seen
    """

    def look() -> tuple[RamFile, ...]:
        # The files first: what a guest opens later is then not taken for an orphan.
        files = orphans.ram_files(store)
        if not files:
            return ()
        in_use = files_in_use.files_in_use(places.proc)
        running = running_domains(guests, places)
        return orphans.orphans(files, in_use, running)

    try:
        seen = Probe(PROBE_SECONDS).ask(look)
    except errors.NoAnswerError as exc:
        raise errors.HostError(
            f'{store}, or a process that uses it, does not answer ({exc}); see dmesg for what '
            'became of its disk'
        ) from exc
    except OSError as exc:
        raise errors.HostError(
            f'{_words(exc)}; expected that root may look at every process and at the store: run '
            'fbm-status on the host itself, not in a container'
        ) from exc
    now = time.time()
    return tuple(Orphan(file, file.age_seconds(now)) for file in seen)


def running_domains(guests: Sequence[Guest], places: Places) -> domains.Domains:
    """Return the directories of what libvirt runs and of what was seen to run."""
    known = domains.running_domains(places.libvirt_run, places.proc)
    seen = {os.path.basename(os.path.dirname(path)) for one in guests for path in one.ram_files}
    return replace(known, directories=known.directories | seen)


def _words(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return f'{exc.filename}: {exc.strerror}' if exc.filename else str(exc.strerror)
    return str(exc)

# SPDX-License-Identifier: Apache-2.0
"""The running guests, from /proc. libvirt isn't asked: it may be what is broken."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

from fbm_placement import errors
from fbm_placement.host.guests import Guest, guest_of
from fbm_placement.host.mounts import Mount
from fbm_placement.host.probe import Probe

PROC = '/proc'

T = TypeVar('T')


def running_guests(proc: str = PROC, owners: frozenset[int] | None = None) -> tuple[Guest, ...]:
    """Return every guest that runs here, Nova's and others'.

    :param owners: user ids whose processes count; None: all. Anybody can look like a guest.
    """
    found = (
        guest_of(pid, argv)
        for pid, argv in command_lines(proc)
        if owners is None or _owner(proc, pid) in owners
    )
    return tuple(guest for guest in found if guest is not None)


def ask(probe: Probe, look: Callable[[], T]) -> T:
    """Look at processes in a child: the kernel reads a command line from the process's memory.

    A guest with a dead store may hold that for ever.

    :raises HostError: one does
    """
    try:
        return probe.ask(look)
    except errors.NoAnswerError as exc:
        raise errors.HostError(
            f'the running guests cannot be seen: reading their command lines gave {exc}; a guest '
            'hangs in its store: look at the device (dmesg)'
        ) from exc


def _owner(proc: str, pid: int) -> int | None:
    try:
        return os.stat(os.path.join(proc, str(pid))).st_uid
    except OSError:
        # It has ended since.
        return None


def command_lines(proc: str = PROC) -> Iterator[tuple[int, list[str]]]:
    """Return the arguments of every process; kernel threads and zombies have none."""
    for entry in os.listdir(proc):
        if not entry.isdigit():
            continue
        try:
            with open(os.path.join(proc, entry, 'cmdline'), 'rb') as file:
                line = file.read()
        except OSError:
            # It has ended since.
            continue
        if line:
            yield int(entry), os.fsdecode(line).rstrip('\0').split('\0')


def started_at(pid: int, proc: str = PROC) -> float:
    """Return when a process was started, seconds since the epoch.

    :raises OSError: it has ended
    """
    with open(os.path.join(proc, str(pid), 'stat'), encoding='ascii', errors='replace') as file:
        # The name in parentheses may have spaces in it; the start is the 22nd field.
        ticks = int(file.read().rpartition(')')[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - since_boot + ticks / os.sysconf('SC_CLK_TCK')


def running(programs: Collection[str], proc: str = PROC) -> Iterator[int]:
    """Return the processes that are one of these programs, also where an interpreter runs it."""
    for pid, argv in command_lines(proc):
        if any(os.path.basename(word) in programs for word in argv[:2]):
            yield pid


def hidden(mounts: Iterable[Mount], proc: str = PROC) -> str | None:
    """Return why others' processes can't be seen here (hidepid, proc(5)); None: they can."""
    hiding = [
        option
        for mount in mounts
        if mount.mount_point == proc
        for option in mount.options
        if option.startswith('hidepid=') and option not in ('hidepid=0', 'hidepid=off')
    ]
    if not hiding or _can_read(os.path.join(proc, '1', 'cmdline')):
        return None
    return (
        f'{proc} is mounted with {hiding[-1]}, so the running guests cannot be seen; mount it '
        'with gid= of a group that the agent has (SupplementaryGroups= in a drop-in), or run the '
        'agent as root'
    )


def _can_read(path: str) -> bool:
    try:
        with open(path, 'rb') as file:
            file.read(1)
    except OSError:
        return False
    return True

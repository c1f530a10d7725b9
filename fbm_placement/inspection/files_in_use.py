# SPDX-License-Identifier: Apache-2.0
"""Which files any process of this host has open or mapped, from /proc."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from fbm_placement.host import libvirt
from fbm_placement.host.probe import Probe
from fbm_placement.inspection import mappings

INITIAL_PID_NAMESPACE = 'pid:[4026531836]'
"""PROC_PID_INIT_INO of include/linux/proc_ns.h: the namespace that sees all processes."""

_ENDED = (FileNotFoundError, ProcessLookupError)
"""The process has ended since, or it has closed the file."""


@dataclass(frozen=True)
class FilesInUse:
    """Inodes, as processes hold them."""

    opened: frozenset[tuple[int, int]] = frozenset()
    """st_dev and st_ino of file descriptors."""
    numbers: frozenset[int] = frozenset()
    """Inode numbers of unknown devices: btrfs shows others in maps than to stat(2)."""

    def has(self, device: int, inode: int) -> bool:
        """Whether that file may be in use; where it can't be told, it is."""
        return (device, inode) in self.opened or inode in self.numbers


def files_in_use(proc: str, *, but_of: int | None = None) -> FilesInUse:
    """Look at every process.

    :param but_of: a process that doesn't count
    :raises OSError: one may not be looked at
    """
    opened: set[tuple[int, int]] = set()
    numbers: set[int] = set()
    for entry in os.listdir(proc):
        if not entry.isdigit() or int(entry) == but_of:
            continue
        directory = os.path.join(proc, entry)
        try:
            _add_opened(directory, opened, numbers)
            numbers |= _mapped(os.path.join(directory, 'maps'))
        except _ENDED:
            continue
    return FilesInUse(frozenset(opened), frozenset(numbers))


def ask_files_in_use(probe: Probe, proc: str, *, but_of: int) -> FilesInUse:
    """Look at every process, but no longer than ``probe`` waits: one may hang in its store.

    :raises NoAnswerError: one does
    :raises OSError: one may not be looked at
    """
    return probe.ask(lambda: files_in_use(proc, but_of=but_of))


def _add_opened(directory: str, opened: set[tuple[int, int]], numbers: set[int]) -> None:
    for descriptor in os.listdir(os.path.join(directory, 'fd')):
        try:
            status = os.stat(os.path.join(directory, 'fd', descriptor))
            opened.add((status.st_dev, status.st_ino))
        except _ENDED:
            continue
        except OSError:
            # A filesystem that doesn't tell, as FUSE doesn't tell root: the kernel knows.
            numbers.add(_inode_number(os.path.join(directory, 'fdinfo', descriptor)))


def _inode_number(fdinfo: str) -> int:
    """Return what Linux 5.14 and later tell of a file descriptor (proc_pid_fdinfo(5))."""
    with open(fdinfo, encoding='ascii', errors='replace') as file:
        for line in file:
            name, _, value = line.partition(':')
            if name == 'ino':
                return int(value)
    raise OSError(0, 'this kernel does not tell the inode of a file that stat(2) fails on', fdinfo)


def _mapped(maps: str) -> set[int]:
    with open(maps, encoding='utf-8', errors='surrogateescape', newline='\n') as file:
        return mappings.mapped_files(file.read())


def why_unseen(command_lines: Iterable[tuple[int, list[str]]], proc: str) -> str | None:
    """Return why a guest could be running that can't be seen here; None: none could."""
    namespace = os.readlink(os.path.join(proc, 'self/ns/pid'))
    if namespace == INITIAL_PID_NAMESPACE:
        return None
    if any(os.path.basename(argv[0]) in libvirt.DAEMONS for _, argv in command_lines):
        return None
    return (
        f'this is {namespace}, not the host (whose is {INITIAL_PID_NAMESPACE}), and no '
        f'{" or ".join(sorted(libvirt.DAEMONS))} runs in it: guests may run that cannot be seen '
        "here; run fbm-status on the host, or in a container that has the host's processes"
    )

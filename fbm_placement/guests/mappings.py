# SPDX-License-Identifier: Apache-2.0
"""What a guest's memory is, from its process's mappings (proc_pid_maps(5)).

QEMU maps memory that has a name (a file, a memfd) once and whole, and the rest as it does its own
heap: so the DRAM of a guest is what the named parts leave of its size.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from oslo_utils import units

from fbm_placement import constants
from fbm_placement.host import mounts
from fbm_placement.host.store import SECTOR_BYTES
from fbm_placement.model import Backing

SMALLEST_RAM = units.Mi
"""QEMU aligns a guest's memory to 1 MiB at least."""

# Start, end, shared or private, device and inode, and name of what has an inode and can be
# written. The heap, stacks and anonymous memory have no inode; libraries are hardly ever written.
# btrfs shows another device here than to stat(2).
_MAPPING = re.compile(
    r'^([0-9a-f]+)-([0-9a-f]+) .w.([sp]) [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+ [1-9][0-9]*) +(.*)$',
    re.MULTILINE,
)
_DELETED = ' (deleted)'
_MEMFD = '/memfd:'
_NO_FILES = ('/dev/zero', '/SYSV', '/anon_hugepage')
"""The kernel's names for memory of filesystems that are mounted nowhere."""
_OF_LIBVIRT = re.compile(rf'/{re.escape(constants.RAM_DIRECTORY)}/[0-9]+-[^/]+/[^/]+$')


@dataclass(frozen=True)
class Ram:
    """A part of a guest's memory that has a name."""

    kind: Backing
    path: str
    deleted: bool
    size_bytes: int
    entry: str
    """In /proc/PID/map_files."""
    allocated_bytes: int | None = None
    """What the file holds of its filesystem; None: not known."""


def named_ram(
    maps: str, ram_files: Sequence[str] = (), huge_mounts: Sequence[str] = ()
) -> tuple[Ram, ...]:
    """Return the named parts, by paths on the command line and where hugetlbfs is mounted."""
    found: dict[str, Ram | None] = {}
    for start, end, access, inode, name in _MAPPING.findall(maps):
        first, last = int(start, 16), int(end, 16)
        if inode not in found:
            # The kernel escapes line ends only.
            path = name.replace('\\012', '\n').removesuffix(_DELETED)
            kind = _kind(path, access == 's', ram_files, huge_mounts)
            # A memfd never has a name in a directory.
            deleted = name.endswith(_DELETED) and kind is not Backing.MEMFD
            found[inode] = kind and Ram(kind, path, deleted, 0, f'{first:x}-{last:x}')
        if ram := found[inode]:
            # madvise(2) and mbind(2) may have split it.
            found[inode] = replace(ram, size_bytes=ram.size_bytes + last - first)
    return tuple(ram for ram in found.values() if ram and ram.size_bytes >= SMALLEST_RAM)


def _kind(
    path: str, shared: bool, ram_files: Sequence[str], huge_mounts: Sequence[str]
) -> Backing | None:
    """Return what a mapping with this name is; None: not the guest's memory."""
    if path.startswith(_MEMFD):
        # vhost's log of a migration, and its requests in flight.
        of_vhost = path.startswith(f'{_MEMFD}vhost')
        return None if of_vhost else Backing.MEMFD
    if not path.startswith('/') or path.startswith(_NO_FILES):
        return None
    if any(mounts.is_under(path, mount) for mount in huge_mounts):
        return Backing.HUGE_PAGES
    # Devices have memory in files, too (ivshmem, NVDIMM). The command line has a path as it was
    # configured, maps has no links in it: a path in libvirt's own directories counts as well.
    if path in ram_files or _OF_LIBVIRT.search(path):
        return Backing.FILE if shared else Backing.PRIVATE_FILE
    return None


def composition(named: Iterable[Ram], memory_mib: int) -> dict[Backing, int]:
    """Return what a guest's memory is made of, MiB of each kind."""
    bytes_of: dict[Backing, int] = {}
    for ram in named:
        bytes_of[ram.kind] = bytes_of.get(ram.kind, 0) + ram.size_bytes
    found = {kind: round(size / units.Mi) for kind, size in bytes_of.items()}
    rest = memory_mib - sum(found.values())
    if rest > 0:
        found[Backing.ANONYMOUS] = rest
    return found


def read_named_ram(pid: int, ram_files: Sequence[str], proc: str) -> tuple[Ram, ...] | None:
    """Return a process's named parts; None: it has ended; OSError: they can't be read."""
    directory = os.path.join(proc, str(pid))
    try:
        maps = _read(os.path.join(directory, 'maps'))
        mountinfo = _read(os.path.join(directory, 'mountinfo'))
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not maps:  # A zombie.
        return None
    lines = [line for line in mountinfo.split('\n') if ' - hugetlbfs ' in line]
    huge_mounts = [mount.mount_point for mount in mounts.parse_mountinfo(lines)]
    found = named_ram(maps, ram_files, huge_mounts)
    return tuple(replace(ram, allocated_bytes=_allocated_bytes(directory, ram)) for ram in found)


def _allocated_bytes(directory: str, ram: Ram) -> int | None:
    # The link in map_files leads to the mapped file in any mount namespace, also if it is deleted.
    paths = [os.path.join(directory, 'map_files', ram.entry)]
    if not ram.deleted:
        paths.append(os.path.join(directory, 'root') + ram.path)
    for path in paths:
        with contextlib.suppress(OSError):
            return os.stat(path).st_blocks * SECTOR_BYTES
    return None


def _read(path: str) -> str:
    with open(path, encoding='utf-8', errors='surrogateescape', newline='\n') as file:
        return file.read()

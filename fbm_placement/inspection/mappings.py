# SPDX-License-Identifier: Apache-2.0
"""What a guest's memory is, from its process's mappings (proc_pid_maps(5)).

QEMU maps memory that has a name (a file, a memfd) once and whole; what it maps without a name is
guest memory and its own heap alike, so the DRAM of a guest is what the named ones leave of its
size.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fbm_placement.host import libvirt, mounts
from fbm_placement.host.guests import Backing
from fbm_placement.host.store import SECTOR_BYTES

MIB = 2**20
SMALLEST_RAM = MIB
"""What is smaller is no memory of a guest: QEMU aligns it to 1 MiB at least."""

_MAPPING = re.compile(
    r'^([0-9a-f]+)-([0-9a-f]+) ([-rwxsp]{4}) [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) ([1-9][0-9]*) +(.*)$',
    re.MULTILINE,
)
_DELETED = ' (deleted)'
_MEMFD = '/memfd:'
_NO_FILES = (_MEMFD, '/dev/zero', '/SYSV', '/anon_hugepage')
"""Names that the kernel gives to memory of no filesystem that anybody has mounted."""
_OF_LIBVIRT = re.compile(rf'/{re.escape(libvirt.RAM_DIRECTORY)}/[0-9]+-[^/]+/[^/]+$')


@dataclass(frozen=True)
class Region:
    """A line of maps that has an inode and can be written."""

    start: int
    end: int
    permissions: str
    """As "rw-s": the last is s (shared) or p (private)."""
    device: str
    """``major:minor``, hexadecimal; btrfs shows other numbers here than to stat(2)."""
    inode: int
    path: str
    deleted: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class Ram:
    """A part of a guest's memory that has a name."""

    kind: Backing
    path: str
    deleted: bool
    size_bytes: int
    entry: str
    """In /proc/PID/map_files."""


def parse(text: str) -> Iterator[Region]:
    """Read what of maps has an inode and can be written.

    The heap, stacks and anonymous memory have none; libraries are hardly ever written.
    """
    for start, end, permissions, device, inode, name in _MAPPING.findall(text):
        if 'w' not in permissions:
            continue
        # Of all characters the kernel escapes only this one.
        path = name.replace('\\012', '\n')
        yield Region(
            start=int(start, 16),
            end=int(end, 16),
            permissions=permissions,
            device=device,
            inode=int(inode),
            path=path.removesuffix(_DELETED),
            deleted=path.endswith(_DELETED),
        )


def mapped_files(text: str) -> set[int]:
    """Return the inode numbers of all files in maps, whatever may be done with them."""
    found = {(inode, name) for *_, inode, name in _MAPPING.findall(text)}
    return {int(inode) for inode, name in found if _is_file(name)}


def _is_file(path: str) -> bool:
    """Whether it may be a file of a filesystem, not memory that only looks like one."""
    return path.startswith('/') and not path.startswith(_NO_FILES)


def named_ram(
    regions: Iterable[Region], ram_files: Sequence[str], huge_mounts: Sequence[str]
) -> tuple[Ram, ...]:
    """Return the parts of a guest's memory that have a name.

    :param ram_files: paths on its command line
    :param huge_mounts: where its process sees hugetlbfs
    """
    grouped: dict[tuple[str, int], list[Region]] = {}
    for region in regions:
        grouped.setdefault((region.device, region.inode), []).append(region)
    found = (_ram(group, ram_files, huge_mounts) for group in grouped.values())
    return tuple(ram for ram in found if ram is not None)


def _ram(
    group: Sequence[Region], ram_files: Sequence[str], huge_mounts: Sequence[str]
) -> Ram | None:
    """Return what these regions of one inode are; None: not the guest's memory."""
    # madvise(2) and mbind(2) may have split it.
    size = sum(region.size for region in group)
    if size < SMALLEST_RAM:
        return None
    first = group[0]
    kind = _kind(first, ram_files, huge_mounts)
    if kind is None:
        return None
    entry = f'{first.start:x}-{first.end:x}'
    # A memfd never has a name in a directory.
    deleted = first.deleted and kind is not Backing.MEMFD
    return Ram(kind, first.path, deleted, size, entry)


def _kind(region: Region, ram_files: Sequence[str], huge_mounts: Sequence[str]) -> Backing | None:
    if region.path.startswith(_MEMFD):
        # vhost's log of a migration, and its requests in flight.
        of_vhost = region.path.startswith(f'{_MEMFD}vhost')
        return None if of_vhost else Backing.MEMFD
    if not _is_file(region.path):
        return None
    if any(mounts.is_under(region.path, mount) for mount in huge_mounts):
        return Backing.HUGE_PAGES
    # Devices have memory in files as well (ivshmem, NVDIMM). The command line shows links in a
    # path, maps what they lead to; so libvirt's own directories tell, too.
    if region.path in ram_files or _OF_LIBVIRT.search(region.path):
        return Backing.FILE if region.permissions.endswith('s') else Backing.PRIVATE_FILE
    return None


def composition(named: Iterable[Ram], memory_mib: int) -> dict[Backing, int]:
    """Return what a guest's memory is made of, MiB of each kind."""
    bytes_of: dict[Backing, int] = {}
    for ram in named:
        bytes_of[ram.kind] = bytes_of.get(ram.kind, 0) + ram.size_bytes
    found = {kind: round(size / MIB) for kind, size in bytes_of.items()}
    rest = memory_mib - sum(found.values())
    if rest > 0:
        found[Backing.ANONYMOUS] = rest
    return found


def read_named_ram(pid: int, ram_files: Sequence[str], proc: str) -> tuple[Ram, ...] | None:
    """Look at a process; None: it has ended.

    :raises OSError: it may not be looked at
    """
    directory = os.path.join(proc, str(pid))
    try:
        text = _read(os.path.join(directory, 'maps'))
        mountinfo = _read(os.path.join(directory, 'mountinfo'))
    except (FileNotFoundError, ProcessLookupError):
        return None
    # What has no memory any more is a zombie.
    return named_ram(parse(text), ram_files, _huge_mounts(mountinfo)) if text else None


def allocated_bytes(pid: int, ram: Ram, proc: str) -> int | None:
    """Return what this file holds of its filesystem; None: nobody can tell.

    The link in map_files leads to the mapped file itself, in whatever mount namespace and even
    if it is deleted.
    """
    directory = os.path.join(proc, str(pid))
    ways = [os.path.join(directory, 'map_files', ram.entry)]
    if not ram.deleted:
        ways.append(os.path.join(directory, 'root') + ram.path)
    for way in ways:
        try:
            return os.stat(way).st_blocks * SECTOR_BYTES
        except OSError:
            continue
    return None


def _huge_mounts(mountinfo: str) -> list[str]:
    lines = [line for line in mountinfo.splitlines() if ' - hugetlbfs ' in line]
    return [mount.mount_point for mount in mounts.parse_mountinfo(lines)]


def _read(path: str) -> str:
    with open(path, encoding='utf-8', errors='surrogateescape', newline='\n') as file:
        return file.read()

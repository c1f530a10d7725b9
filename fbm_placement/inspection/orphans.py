# SPDX-License-Identifier: Apache-2.0
"""RAM files of no running guest: libvirt removes them, unless it or the host went down first.

Nothing here follows a link below the store: QEMU's user may write in it.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fbm_placement.host import libvirt
from fbm_placement.host.store import SECTOR_BYTES
from fbm_placement.inspection.domains import GUEST_DIRECTORY, Domains
from fbm_placement.inspection.files_in_use import FilesInUse

YOUNG_SECONDS = 60
"""A guest that starts or arrives has a file before it can be seen to have it."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class RamFile:
    """A file in a guest's directory in the store."""

    store: str
    """memory_backing_dir."""
    directory: str
    """Of the guest, ``<id>-<name>``."""
    name: str
    device: int
    inode: int
    size_bytes: int
    allocated_bytes: int
    modified: float
    """Seconds since the epoch."""
    links: int = 1
    """How many names it has; the last one that goes frees its space."""

    @property
    def path(self) -> str:
        """Where it is."""
        return os.path.join(libvirt.ram_directory(self.store), self.directory, self.name)

    def age_seconds(self, now: float) -> int:
        """How long ago it was written; 0 if the clock says that it is yet to be."""
        return max(0, int(now - self.modified))

    def is_young(self, now: float) -> bool:
        """Whether it must be left alone for now."""
        return self.age_seconds(now) < YOUNG_SECONDS


def orphans(files: Iterable[RamFile], in_use: FilesInUse, domains: Domains) -> tuple[RamFile, ...]:
    """Return the files that belong to nothing that runs, the largest first."""
    found = [
        file
        for file in files
        if not in_use.has(file.device, file.inode) and not domains.use(file.directory)
    ]
    return tuple(sorted(found, key=lambda file: (-file.allocated_bytes, file.path)))


def ram_files(store: str) -> tuple[RamFile, ...]:
    """Return every RAM file in the store; none where libvirt has not made its directories.

    :raises OSError: it can't be looked at
    """
    try:
        with opened_ram_directory(store) as above:
            device = os.fstat(above).st_dev
            return tuple(
                file
                for directory in os.listdir(above)
                if GUEST_DIRECTORY.match(directory)
                for file in _files_in(store, above, directory, device)
            )
    except FileNotFoundError:
        return ()


@contextlib.contextmanager
def opened_ram_directory(store: str) -> Iterator[int]:
    """Open the directory that holds a directory for each guest.

    The store itself may be a link, an operator made it; what is below may not.
    """
    with contextlib.ExitStack() as stack:
        descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        for name in libvirt.RAM_DIRECTORY.split('/'):
            try:
                descriptor = open_directory(name, descriptor)
            except NotADirectoryError as exc:
                where = libvirt.ram_directory(store)
                raise NotADirectoryError(exc.errno, f'{name} is a link or a file', where) from exc
            stack.callback(os.close, descriptor)
        yield descriptor


def open_directory(name: str, above: int) -> int:
    """Open a directory in another one; a link is an error."""
    return os.open(name, _DIRECTORY, dir_fd=above)


def ram_file(store: str, directory: str, name: str, status: os.stat_result) -> RamFile:
    """Return what ``stat`` says of it."""
    return RamFile(
        store=store,
        directory=directory,
        name=name,
        device=status.st_dev,
        inode=status.st_ino,
        size_bytes=status.st_size,
        allocated_bytes=status.st_blocks * SECTOR_BYTES,
        modified=status.st_mtime,
        links=status.st_nlink,
    )


def _files_in(store: str, above: int, directory: str, device: int) -> Iterator[RamFile]:
    try:
        descriptor = open_directory(directory, above)
    except (FileNotFoundError, NotADirectoryError):
        # It went away, or it is a link or a file: not libvirt's.
        return
    try:
        for name in os.listdir(descriptor):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                # What is mounted in there is not of the store.
                if stat.S_ISREG(status.st_mode) and status.st_dev == device:
                    yield ram_file(store, directory, name, status)
    finally:
        os.close(descriptor)

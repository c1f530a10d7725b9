# SPDX-License-Identifier: Apache-2.0
"""What can be seen of the store: the filesystem under libvirt's memory_backing_dir."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fbm_placement import errors
from fbm_placement.host import libvirt, mounts
from fbm_placement.host.mounts import Mount
from fbm_placement.host.probe import Probe

MEMORY_FILESYSTEMS = frozenset({'tmpfs', 'hugetlbfs'})
"""Their pages are DRAM: userfaultfd (post-copy) and long-term pins (VFIO) work on them."""

SECTOR_BYTES = 512
"""The unit of st_blocks, whatever the block size is (stat(2))."""


@dataclass(frozen=True)
class Directory:
    """One directory as ``stat`` shows it."""

    path: str
    mode: int
    """The permission bits."""
    uid: int

    def lets_in(self, uid: int) -> bool:
        """Whether this user can enter it."""
        return bool(self.mode & (stat.S_IXUSR if uid == self.uid else stat.S_IXOTH))

    @property
    def others_can_write(self) -> bool:
        """Whether anybody can put another file in the place of a guest's; sticky ones are safe."""
        return bool(self.mode & stat.S_IWOTH) and not self.mode & stat.S_ISVTX


@dataclass(frozen=True)
class Store:
    """What was seen of the store."""

    path: str
    """memory_backing_dir as configured."""
    mount: Mount | None = None
    """Where it is mounted; None: the directory doesn't exist."""
    is_directory: bool = True
    directories: tuple[Directory, ...] = ()
    """memory_backing_dir, and those of the two that libvirt makes below it that are there."""
    size_bytes: int = 0
    """0: the filesystem has no limit of its own."""
    free_bytes: int = 0
    """For users other than root (f_bavail)."""
    ram_bytes: int = 0
    """What the RAM files of Nova's running guests hold of it: that much is kept already."""
    exposed: tuple[str, ...] = ()
    """RAM files that any user of the host can read."""
    expected_mount: str | None = None
    """Where it was seen mounted earlier, or where fstab says."""
    error: str | None = None
    """Why nothing could be seen of it."""

    @property
    def exists(self) -> bool:
        """Whether the directory is there."""
        return self.mount is not None

    @property
    def is_disk(self) -> bool:
        """Whether it is neither tmpfs nor hugetlbfs; what isn't known counts as disk."""
        return self.mount is None or self.mount.filesystem not in MEMORY_FILESYSTEMS

    @property
    def libvirt_is_ready(self) -> bool:
        """Whether libvirt's own directories are in it: it makes them when it starts."""
        return any(d.path == libvirt.ram_directory(self.path) for d in self.directories)


def observe_store(
    path: str, ram_files: Sequence[str], probe: Probe, others_files: Sequence[str] = ()
) -> Store:
    """Return what can be seen of the store; ``error`` says why nothing can.

    :param ram_files: of running Nova guests
    :param others_files: of the other guests, which have no share of the capacity
    """
    try:
        return probe.ask(lambda: _observe(path, ram_files, others_files))
    except errors.NoAnswerError as exc:
        return Store(path, error=f'it does not answer ({exc})')
    except OSError as exc:
        return Store(path, error=f'{exc.strerror} ({exc.filename or path})')


def _observe(path: str, ram_files: Sequence[str], others_files: Sequence[str]) -> Store:
    """Make every call that asks the filesystem."""
    real_path = os.path.realpath(path)
    above = [point for point in mounts.read_fstab() if mounts.is_under(real_path, point)]
    expected_mount = max(above, key=len, default=None)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return Store(path, expected_mount=expected_mount)
    size = os.statvfs(path)
    held, exposed = _ram(ram_files, status.st_dev)
    return Store(
        path,
        mount=mounts.mount_of(real_path, mounts.read_mounts()),
        is_directory=stat.S_ISDIR(status.st_mode),
        directories=tuple(_directories(path)),
        size_bytes=size.f_blocks * size.f_frsize,
        free_bytes=size.f_bavail * size.f_frsize,
        ram_bytes=held,
        exposed=(*exposed, *_ram(others_files, status.st_dev)[1]),
        expected_mount=expected_mount,
    )


def _directories(path: str) -> Iterator[Directory]:
    ram_directory = libvirt.ram_directory(path)
    for directory in (path, os.path.dirname(ram_directory), ram_directory):
        try:
            status = os.stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            break
        yield Directory(directory, stat.S_IMODE(status.st_mode), status.st_uid)


def _ram(ram_files: Sequence[str], device: int) -> tuple[int, list[str]]:
    """Return what the files on this device hold, bytes, and those that others can read."""
    held, exposed = 0, []
    for path in ram_files:
        try:
            status = os.stat(path)
            if status.st_dev == device:
                held += status.st_blocks * SECTOR_BYTES
                if status.st_mode & stat.S_IROTH and _others_can_enter(os.path.dirname(path)):
                    exposed.append(path)
        except FileNotFoundError:
            # The guest has ended since, or it runs with a file that was deleted.
            continue
    return held, exposed


def _others_can_enter(directory: str) -> bool:
    while directory != os.path.dirname(directory):
        if not os.stat(directory).st_mode & stat.S_IXOTH:
            return False
        directory = os.path.dirname(directory)
    return True

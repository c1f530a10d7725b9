# SPDX-License-Identifier: Apache-2.0
"""The store, which is the filesystem under libvirt's memory_backing_dir, as it is observed."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fbm_placement import errors, names
from fbm_placement.host import mounts
from fbm_placement.host.guests import Guest
from fbm_placement.host.mounts import Mount
from fbm_placement.host.probe import Probe

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
        return uid == 0 or bool(self.mode & (0o100 if uid == self.uid else 0o001))


@dataclass(frozen=True)
class Store:
    """What was observed of the store."""

    path: str
    """memory_backing_dir."""
    mount: Mount | None = None
    """Where it is mounted; None: the directory doesn't exist."""
    is_directory: bool = True
    directories: tuple[Directory, ...] = ()
    """memory_backing_dir, and those of the two that libvirt makes below it that exist."""
    size_bytes: int = 0
    """0: the filesystem has no limit of its own."""
    free_bytes: int = 0
    """For users other than root (f_bavail)."""
    ram_bytes: int = 0
    """Held by the RAM files of running Nova guests: so much of the capacity is in the store."""
    exposed: tuple[str, ...] = ()
    """RAM files that every user of the host can read."""
    expected_mount: str | None = None
    """Where it was seen mounted earlier, or where fstab mounts it."""
    error: str | None = None
    """Why nothing could be observed."""

    @property
    def is_disk(self) -> bool:
        """Whether its pages aren't DRAM, so that post-copy and VFIO fail on them, or unknown."""
        return self.mount is None or self.mount.filesystem not in ('tmpfs', 'hugetlbfs')

    @property
    def ram_directory(self) -> str:
        """The directory that holds a directory for each guest."""
        return os.path.join(self.path, names.RAM_DIRECTORY)


def observe_store(path: str, guests: Iterable[Guest], probe: Probe) -> Store:
    """Return what can be observed of the store, with the RAM files of these running guests."""
    try:
        return probe.ask(lambda: _observe(path, guests))
    except errors.NoAnswerError as exc:
        return Store(path, error=f'it does not answer ({exc})')
    except OSError as exc:
        return Store(path, error=f'{exc.strerror} ({exc.filename or path})')


def _observe(path: str, guests: Iterable[Guest]) -> Store:
    """Make every call that asks the filesystem."""
    real_path = os.path.realpath(path)
    above = [point for point in mounts.read_fstab() if mounts.is_under(real_path, point)]
    expected_mount = max(above, key=len, default=None)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return Store(path, expected_mount=expected_mount)
    size = os.statvfs(path)
    held, exposed = _ram_files(guests, status.st_dev)
    return Store(
        path,
        mount=mounts.mount_of(real_path, mounts.read_mounts()),
        is_directory=stat.S_ISDIR(status.st_mode),
        directories=tuple(_directories(path)),
        size_bytes=size.f_blocks * size.f_frsize,
        free_bytes=size.f_bavail * size.f_frsize,
        ram_bytes=held,
        exposed=exposed,
        expected_mount=expected_mount,
    )


def _directories(path: str) -> Iterator[Directory]:
    ram_directory = os.path.join(path, names.RAM_DIRECTORY)
    for directory in (path, os.path.dirname(ram_directory), ram_directory):
        try:
            status = os.stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            break
        yield Directory(directory, stat.S_IMODE(status.st_mode), status.st_uid)


def _ram_files(guests: Iterable[Guest], device: int) -> tuple[int, tuple[str, ...]]:
    """Return what Nova guests hold of this device, bytes, and the files that every user can read.

    Other guests have no share of the capacity.
    """
    held, exposed = 0, []
    files = [(path, guest.is_nova) for guest in guests for path in guest.ram_files]
    for path, is_nova in files:
        # The guest may have ended, or run with a file that was deleted.
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            if status.st_dev == device:
                held += status.st_blocks * SECTOR_BYTES if is_nova else 0
                if status.st_mode & stat.S_IROTH and others_can_enter(path):
                    exposed.append(path)
    return held, tuple(exposed)


def others_can_enter(path: str) -> bool:
    """Whether every user can enter all directories above this file."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(path).parents)

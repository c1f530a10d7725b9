# SPDX-License-Identifier: Apache-2.0
"""The store, which is the filesystem under libvirt's memory_backing_dir, as it is observed."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fbm_placement import constants, errors
from fbm_placement.host import mounts
from fbm_placement.host.probe import Probe
from fbm_placement.model import Directory, Guest, Mount, Store

SECTOR_BYTES = 512
"""The unit of st_blocks, whatever the block size is (stat(2))."""


def observe_store(path: str, guests: Iterable[Guest], probe: Probe) -> Store:
    """Return what can be observed of the store, with the RAM files of these running guests."""
    try:
        return probe.ask(lambda: _observe(path, guests))
    except errors.NoAnswerError as exc:
        return Store(path, error=f'it does not answer ({exc})')
    except OSError as exc:
        return Store(path, error=f'{exc.strerror} ({exc.filename or path})')


def _observe(path: str, guests: Iterable[Guest]) -> Store:
    real_path = os.path.realpath(path)
    above = [point for point in mounts.read_fstab() if mounts.is_under(real_path, point)]
    expected_mount = max(above, key=len, default=None)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return Store(path, expected_mount=expected_mount)
    size = os.statvfs(path)
    all_mounts = mounts.read_mounts()
    held, exposed = _ram_files(guests, real_path, status.st_dev, all_mounts)
    return Store(
        path,
        mount=mounts.mount_of(real_path, all_mounts),
        is_directory=stat.S_ISDIR(status.st_mode),
        directories=tuple(_directories(path)),
        size_bytes=size.f_blocks * size.f_frsize,
        free_bytes=size.f_bavail * size.f_frsize,
        ram_bytes=held,
        exposed=exposed,
        expected_mount=expected_mount,
    )


def _directories(path: str) -> Iterator[Directory]:
    ram_directory = os.path.join(path, constants.RAM_DIRECTORY)
    for directory in (path, os.path.dirname(ram_directory), ram_directory):
        try:
            status = os.stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            break
        yield Directory(directory, stat.S_IMODE(status.st_mode), status.st_uid)


def _ram_files(
    guests: Iterable[Guest], store: str, device: int, all_mounts: Sequence[Mount]
) -> tuple[int, tuple[str, ...]]:
    """Return what Nova guests hold of the store, bytes, and the files that every user can read.

    Other guests have no share of the capacity.
    """
    exposed = []
    held: dict[tuple[int, int], int] = {}
    of_store = {device: True}
    files = [(path, guest.is_nova) for guest in guests for path in guest.ram_files]
    for path, is_nova in files:
        # The guest may have ended, or run with a file that was deleted.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(path)
            if status.st_dev not in of_store:
                # Each subvolume of btrfs has a device of its own; their mount has one for all.
                on = [mounts.mount_of(one, all_mounts) for one in (store, os.path.realpath(path))]
                of_store[status.st_dev] = len({mount and mount.device for mount in on}) == 1
            if of_store[status.st_dev]:
                if is_nova:
                    held[status.st_dev, status.st_ino] = status.st_blocks * SECTOR_BYTES
                if status.st_mode & stat.S_IROTH and others_can_enter(path):
                    exposed.append(path)
    return sum(held.values()), tuple(exposed)


def others_can_enter(path: str) -> bool:
    """Whether every user can enter all directories above this file."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(path).parents)

# SPDX-License-Identifier: Apache-2.0
"""Takes orphans away, and looks at each once more before.

Two things keep a file from being removed that somebody uses: a fresh look at all processes, and a
lease (fcntl(2), F_SETLEASE): the kernel grants it only for a file that nobody else has open or
mapped, in no namespace, and while it is held whoever opens the file waits. So no moment is left
between the look and the removal. Filesystems that know no leases have the look alone.
"""

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fbm_placement import errors
from fbm_placement.inspection import orphans
from fbm_placement.inspection.domains import Domains
from fbm_placement.inspection.files_in_use import FilesInUse
from fbm_placement.inspection.orphans import RamFile

# O_NONBLOCK: should it have become a FIFO, or be leased by others, nobody waits.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RefusedError(errors.FileBackedMemoryError):
    """Nothing is removed, because it can't be known to be right or nobody agreed."""


class LeftError(errors.FileBackedMemoryError):
    """The file stays; the message says why."""


@dataclass(frozen=True)
class Checks:
    """What is looked at right before a file is removed."""

    in_use: Callable[[], FilesInUse]
    """What processes other than this one use."""
    domains: Callable[[], Domains]
    now: Callable[[], float]
    """Seconds since the epoch."""


def remove(orphan: RamFile, checks: Checks) -> int:
    """Remove the file, and its directory if nothing is left in it; return the bytes freed.

    :raises LeftError: it is in use by now, or another file, or can't be removed
    """
    try:
        with (
            orphans.opened_ram_directory(orphan.store) as above,
            _closing(orphans.open_directory(orphan.directory, above)) as directory,
        ):
            old_directory = checks.now() - os.fstat(directory).st_mtime >= orphans.YOUNG_SECONDS
            freed = _remove_file(orphan, directory, checks)
            if old_directory and not checks.domains().use(orphan.directory):
                _remove_directory(orphan.directory, above)
    except errors.NoAnswerError as exc:
        raise LeftError(f'whether a process uses it cannot be known: {exc}') from exc
    except FileNotFoundError as exc:
        raise LeftError('it is gone: somebody else removed it') from exc
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            raise LeftError('a link or another file is in its place by now') from exc
        raise LeftError(f'{exc.strerror}') from exc
    return freed


def _remove_file(orphan: RamFile, directory: int, checks: Checks) -> int:
    with _closing(os.open(orphan.name, _FILE, dir_fd=directory)) as descriptor:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (orphan.device, orphan.inode):
            raise LeftError('another file has its name by now')
        if not stat.S_ISREG(status.st_mode):
            raise LeftError('it is no regular file')
        seen = orphans.ram_file(orphan.store, orphan.directory, orphan.name, status)
        if seen.is_young(checks.now()):
            raise LeftError(f'it was written less than {orphans.YOUNG_SECONDS} s ago')
        with _lease(descriptor):
            if not orphans.orphans([seen], checks.in_use(), checks.domains()):
                raise LeftError('it is in use by now')
            os.unlink(orphan.name, dir_fd=directory)
        return seen.allocated_bytes if seen.links == 1 else 0


@contextlib.contextmanager
def _lease(descriptor: int) -> Iterator[None]:
    # Who opens the file meanwhile makes the kernel send us this, which would end us.
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EBUSY):
                raise LeftError('a process has it open') from exc
            # No leases on this filesystem: the look at all processes has to do.
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        signal.signal(signal.SIGIO, before)


def _remove_directory(name: str, above: int) -> None:
    # Other files may be in it: ENOTEMPTY.
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=above)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)

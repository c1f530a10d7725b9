# SPDX-License-Identifier: Apache-2.0
"""RAM files of no running guest: libvirt removes them, unless it or the host went down first.

The kernel decides whether a file is in use: it grants a write lease (fcntl(2), F_SETLEASE) only
while no other process has the file open or mapped, in any namespace, and also where the descriptor
of a mapping is closed.

Nothing here follows a link below the store: QEMU's user may write in it.
"""

import contextlib
import errno
import fcntl
import os
import re
import signal
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from fbm_placement import constants
from fbm_placement.host.store import SECTOR_BYTES

YOUNG_SECONDS = 60
"""A guest that starts or arrives has a directory before it opens its file."""

_GUEST_DIRECTORY = re.compile(r'[0-9]+-.')
"""libvirt's names of them, ``<id>-<name>`` (virDomainDefGetShortName)."""

_STORE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY = _STORE | os.O_NOFOLLOW
# O_NONBLOCK: nothing waits if the file is a FIFO now, or another process has a lease on it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_IN_USE = (errno.EAGAIN, errno.EBUSY)
_REPLACED = (errno.ELOOP, errno.ENOTDIR, errno.ESTALE)
_REASONS = {
    errno.ENOENT: 'another program has removed it',
    **dict.fromkeys(_IN_USE, 'a process has it open or mapped'),
    **dict.fromkeys(_REPLACED, 'a link or another file is in its place now'),
}


@dataclass(frozen=True)
class Orphan:
    """A RAM file of no running guest, and what became of it."""

    store: str
    """memory_backing_dir."""
    directory: str
    name: str
    inode: tuple[int, int]
    """st_dev and st_ino."""
    size_bytes: int
    allocated_bytes: int
    age_seconds: int
    """Since it was last written."""
    freed_bytes: int | None = None
    """None: it was not removed."""
    left_because: str | None = None

    @property
    def path(self) -> str:
        return os.path.join(self.store, constants.RAM_DIRECTORY, self.directory, self.name)

    @property
    def removed(self) -> bool:
        return self.freed_bytes is not None

    @property
    def is_young(self) -> bool:
        """Whether it is too young to be removed."""
        return self.age_seconds < YOUNG_SECONDS


def find(store: str, used: Collection[str], now: float) -> tuple[Orphan, ...]:
    """Return what is in no directory ``used`` by a guest, the largest first; none is no error.

    :raises OSError: the store can't be read, or its filesystem has no leases
    """
    found: list[Orphan] = []
    with contextlib.suppress(FileNotFoundError), _opened_ram_directory(store) as above:
        device = os.fstat(above).st_dev
        for directory in os.listdir(above):
            if _GUEST_DIRECTORY.match(directory) and directory not in used:
                found += _in_directory(store, above, directory, device, now)
    return _largest_first(found)


def remove(orphans: Sequence[Orphan], now: float) -> tuple[Orphan, ...]:
    """Remove files, not those in use, young or replaced, and empty directories; return each."""
    done: list[Orphan] = []
    for directory in {one.directory for one in orphans}:
        done += _remove_in([one for one in orphans if one.directory == directory], now)
    return _largest_first(done)


def _largest_first(orphans: Iterable[Orphan]) -> tuple[Orphan, ...]:
    return tuple(sorted(orphans, key=lambda one: (-one.allocated_bytes, one.path)))


@contextlib.contextmanager
def _opened_ram_directory(store: str) -> Iterator[int]:
    # The store itself may be a link, an operator made it; what is below may not.
    with contextlib.ExitStack() as stack:
        descriptor = stack.enter_context(_opened(store, _STORE))
        for name in constants.RAM_DIRECTORY.split('/'):
            try:
                descriptor = stack.enter_context(_opened(name, _DIRECTORY, descriptor))
            except NotADirectoryError as exc:
                where = os.path.join(store, constants.RAM_DIRECTORY)
                raise NotADirectoryError(exc.errno, f'{name} is a link or a file', where) from exc
        yield descriptor


def _in_directory(
    store: str, above: int, directory: str, device: int, now: float
) -> Iterator[Orphan]:
    # A directory may go meanwhile; if it is a link or a file, libvirt did not make it.
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        _opened(directory, _DIRECTORY, above) as descriptor,
    ):
        for name in os.listdir(descriptor):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                # What is mounted in there is not of the store.
                if not stat.S_ISREG(status.st_mode) or status.st_dev != device:
                    continue
                orphan = _orphan(store, directory, name, status, now)
                if not _is_in_use(orphan, descriptor):
                    yield orphan


def _orphan(store: str, directory: str, name: str, status: os.stat_result, now: float) -> Orphan:
    return Orphan(
        store=store,
        directory=directory,
        name=name,
        inode=(status.st_dev, status.st_ino),
        size_bytes=status.st_size,
        allocated_bytes=status.st_blocks * SECTOR_BYTES,
        # 0 if the clock was set back.
        age_seconds=max(0, int(now - status.st_mtime)),
    )


def _is_in_use(orphan: Orphan, directory: int) -> bool:
    try:
        with _leased(orphan, directory):
            return False
    except OSError as exc:
        if exc.errno not in _REASONS:
            raise
        return True


@contextlib.contextmanager
def _leased(orphan: Orphan, directory: int) -> Iterator[os.stat_result]:
    """Open the file and hold a lease on it: a process that opens it meanwhile waits.

    So a lease is held for a few system calls only; it ends with the descriptor. A process that
    waits for longer than fs.lease-break-time (45 s) gets the file.

    :raises OSError: the file is in use or another one (see ``_REASONS``), or there are no leases
    """
    with _opened(orphan.name, _FILE, directory) as descriptor:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != orphan.inode:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), orphan.path)
        # When another process opens the file, the kernel sends a signal to the holder of the
        # lease: SIGIO would end this process, SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as exc:
            if exc.errno in _IN_USE:
                raise
            reason = f'the kernel grants no lease on it ({exc.strerror})'
            raise OSError(exc.errno, reason, orphan.path) from exc
        yield status


def _remove_in(orphans: Sequence[Orphan], now: float) -> list[Orphan]:
    first = orphans[0]
    try:
        with (
            _opened_ram_directory(first.store) as above,
            _opened(first.directory, _DIRECTORY, above) as directory,
        ):
            # libvirt changes the owner of a directory that it finds when a guest starts.
            changed = os.fstat(directory).st_ctime
            done = [_remove_file(orphan, directory, now) for orphan in orphans]
            if now - changed >= YOUNG_SECONDS:
                # It may not be empty.
                with contextlib.suppress(OSError):
                    os.rmdir(first.directory, dir_fd=above)
    except OSError as exc:
        return [_left(orphan, exc) for orphan in orphans]
    return done


def _remove_file(orphan: Orphan, directory: int, now: float) -> Orphan:
    try:
        with _leased(orphan, directory) as status:
            seen = _orphan(orphan.store, orphan.directory, orphan.name, status, now)
            if seen.is_young:
                young = f'it was written less than {YOUNG_SECONDS} s ago'
                return replace(orphan, left_because=young)
            os.unlink(orphan.name, dir_fd=directory)
    except OSError as exc:
        return _left(orphan, exc)
    # The last name of a file that goes frees its space.
    return replace(orphan, freed_bytes=seen.allocated_bytes if status.st_nlink == 1 else 0)


def _left(orphan: Orphan, exc: OSError) -> Orphan:
    return replace(orphan, left_because=_REASONS.get(exc.errno or 0, exc.strerror))


@contextlib.contextmanager
def _opened(path: str, flags: int, above: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

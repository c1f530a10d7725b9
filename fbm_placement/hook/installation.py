# SPDX-License-Identifier: Apache-2.0
"""Put the hook's two files where libvirt looks for hooks, and take them away again.

At no moment is there a hook without the .py that it runs, nor half a file: each is written under
another name, which libvirt doesn't run, and renamed; the .py comes first and goes last.
"""

import contextlib
import enum
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from fbm_placement import errors

HOOKS_DIR = '/etc/libvirt/hooks'
"""Where libvirt looks, unless it was built with another sysconfdir."""
SUBDIR = 'qemu.d'
"""Every executable in it is a hook; libvirt 6.5 and later."""
SINGLE_HOOK = 'qemu'
"""The one hook that libvirt runs besides, and before 6.5 the only one."""

HOOK = '50-file-backed-memory'
PROGRAM = f'{HOOK}.py'
TEMPORARY = f'.{HOOK}.'
"""What the names begin with under which files are written."""

SOURCES = {PROGRAM: 'program.py', HOOK: f'files/{HOOK}'}
"""Where they are in this package."""
MODES = {PROGRAM: 0o644, HOOK: 0o755}
"""In the order in which they must come. An executable .py would be a hook of its own."""


class HookError(errors.FileBackedMemoryError):
    """The hook could not be installed or removed."""


class Change(enum.Enum):
    """What became of a file."""

    INSTALLED = 'installed'
    REPLACED = 'replaced'
    UNCHANGED = 'unchanged'
    REMOVED = 'removed'
    ABSENT = 'not there'


@dataclass(frozen=True)
class Result:
    """What install() or remove() did."""

    changes: tuple[tuple[str, Change], ...]
    """Paths, and what became of each."""
    reload_libvirtd: bool = False
    """libvirtd looks for hooks only when it starts or reloads, and had none then."""


def content(name: str) -> bytes:
    """Return one of the hook's files, as this package has it."""
    return (resources.files(__package__) / SOURCES[name]).read_bytes()


def paths(hooks_dir: str) -> dict[str, str]:
    """Return where the hook's files are below ``hooks_dir``, by name."""
    return {name: os.path.join(hooks_dir, SUBDIR, name) for name in MODES}


def install(hooks_dir: str = HOOKS_DIR) -> Result:
    """Install the hook, or bring it to this package's version.

    :raises HookError: libvirt isn't there, or the directory can't be written
    """
    parent = os.path.dirname(os.path.abspath(hooks_dir))
    if not os.path.isdir(parent):
        raise HookError(
            f'{parent} does not exist, so libvirt is not installed here or keeps its hooks '
            'elsewhere; install libvirt, or name the directory with --hooks-dir'
        )
    try:
        had_hooks = has_hooks(hooks_dir)
        # Debian's packages don't make it.
        os.makedirs(os.path.join(hooks_dir, SUBDIR), mode=0o755, exist_ok=True)
        with _locked(hooks_dir):
            changes = tuple(
                (path, _put(hooks_dir, path, content(name), MODES[name]))
                for name, path in paths(hooks_dir).items()
            )
    except OSError as exc:
        raise _failed('install the hook in', hooks_dir, exc) from exc
    return Result(changes, reload_libvirtd=not had_hooks)


def remove(hooks_dir: str = HOOKS_DIR) -> Result:
    """Remove the hook's files, and nothing else.

    :raises HookError: the directory can't be written
    """
    there = tuple(reversed(paths(hooks_dir).values()))
    try:
        with _locked(hooks_dir):
            return Result(tuple((path, _take_away(path)) for path in there))
    except FileNotFoundError:
        return Result(tuple((path, Change.ABSENT) for path in there))
    except OSError as exc:
        raise _failed('remove the hook from', hooks_dir, exc) from exc


def has_hooks(hooks_dir: str) -> bool:
    """Tell whether libvirt finds a hook for QEMU, ours or another's."""
    single = os.path.join(hooks_dir, SINGLE_HOOK)
    if os.path.isfile(single) and os.access(single, os.X_OK):
        return True
    try:
        with os.scandir(os.path.join(hooks_dir, SUBDIR)) as entries:
            return any(entry.is_file() and os.access(entry.path, os.X_OK) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _failed(what: str, hooks_dir: str, exc: OSError) -> HookError:
    hint = '; run it as root' if isinstance(exc, PermissionError) and os.geteuid() else ''
    where = f' {exc.filename}:' if exc.filename else ''
    return HookError(f'could not {what} {hooks_dir}:{where} {exc.strerror}{hint}')


@contextlib.contextmanager
def _locked(hooks_dir: str) -> Iterator[None]:
    """Let one at a time write there, and leave no temporaries of one that was killed."""
    directory = os.open(hooks_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        for name in os.listdir(hooks_dir):
            if name.startswith(TEMPORARY):
                os.unlink(os.path.join(hooks_dir, name))
        yield
    finally:
        os.close(directory)


def _put(hooks_dir: str, path: str, data: bytes, mode: int) -> Change:
    change = Change.REPLACED if os.path.lexists(path) else Change.INSTALLED
    if change is Change.REPLACED and _is_as_it_should_be(path, data, mode):
        return Change.UNCHANGED
    # Not in the directory itself, where libvirt might run it before it is whole.
    number, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=hooks_dir)
    try:
        with open(number, 'wb') as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(number, mode)
            os.fsync(number)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync(os.path.dirname(path))
    return change


def _is_as_it_should_be(path: str, data: bytes, mode: int) -> bool:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) != mode:
        return False
    if status.st_uid != os.geteuid():
        return False
    with open(path, 'rb') as stream:
        return stream.read() == data


def _take_away(path: str) -> Change:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return Change.ABSENT
    _sync(os.path.dirname(path))
    return Change.REMOVED


def _sync(directory: str) -> None:
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

# SPDX-License-Identifier: Apache-2.0
"""Install the hook's two files where libvirt runs them, and remove them.

At no moment is there a hook without the .py that it runs, nor half a file: a hook that fails when
libvirtd reconnects kills the guests. So each file is written and synced outside of the directory
that libvirt runs, then renamed; the .py comes first and goes last.
"""

import contextlib
import os
import stat
import tempfile
from importlib import resources

from fbm_placement import errors

HOOKS_DIR = '/etc/libvirt/hooks'
"""Where libvirt searches, unless it was built with another sysconfdir."""
SUBDIR = 'qemu.d'
"""Every executable in it is a hook; libvirt 6.5 and later."""

HOOK = '50-file-backed-memory'
PROGRAM = f'{HOOK}.py'
FILES = {PROGRAM: ('program.py', 0o644), HOOK: (f'files/{HOOK}', 0o755)}
"""Their sources in this package and modes, in the order in which they must come. An executable .py
would be a hook of its own."""


class HookError(errors.FileBackedMemoryError):
    """The hook could not be installed or removed."""


def paths(hooks_dir: str) -> dict[str, str]:
    """Return where the hook's files are below ``hooks_dir``, by name."""
    return {name: os.path.join(hooks_dir, SUBDIR, name) for name in FILES}


def install(hooks_dir: str = HOOKS_DIR) -> dict[str, str]:
    """Install or update it; return "installed", "replaced" or "unchanged" for each path.

    :raises HookError: libvirt isn't installed, or the directory can't be written
    """
    parent = os.path.dirname(os.path.abspath(hooks_dir))
    if not os.path.isdir(parent):
        raise HookError(
            f'{parent} does not exist, so libvirt is not installed here or keeps its hooks '
            'elsewhere; install libvirt, or name the directory with --hooks-dir'
        )
    try:
        # Debian's packages don't make it.
        os.makedirs(os.path.join(hooks_dir, SUBDIR), mode=0o755, exist_ok=True)
        return {path: _put(path, name, hooks_dir) for name, path in paths(hooks_dir).items()}
    except OSError as exc:
        raise _failed('install the hook in', hooks_dir, exc) from exc


def remove(hooks_dir: str = HOOKS_DIR) -> dict[str, str]:
    """Remove the hook's files; return "removed" or "not there" for each path.

    A directory that is then empty goes too: ``install`` makes those that are missing.

    :raises HookError: the directory can't be written
    """
    done = {}
    try:
        for path in reversed(paths(hooks_dir).values()):
            done[path] = 'removed' if os.path.lexists(path) else 'not there'
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    except OSError as exc:
        raise _failed('remove the hook from', hooks_dir, exc) from exc
    for directory in (os.path.join(hooks_dir, SUBDIR), hooks_dir):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return done


def has_hooks(hooks_dir: str) -> bool:
    """Return whether libvirt finds a hook for QEMU, ours or another's.

    It searches when it starts or reloads; later it finds others only if it had found one then.
    """
    # The one hook outside of the directory, and the only one before libvirt 6.5.
    hooks = [os.path.join(hooks_dir, 'qemu')]
    with contextlib.suppress(OSError), os.scandir(os.path.join(hooks_dir, SUBDIR)) as entries:
        hooks += [entry.path for entry in entries]
    return any(os.path.isfile(path) and os.access(path, os.X_OK) for path in hooks)


def differences(path: str, name: str) -> list[str]:
    """Return how an installed file differs from the package's, or raise OSError."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ['is missing']
    if not stat.S_ISREG(status.st_mode):
        return ['is not a regular file']
    found = []
    with open(path, 'rb') as stream:
        if stream.read() != _content(name):
            found.append("is not this package's version")
    mode, (_, expected) = stat.S_IMODE(status.st_mode), FILES[name]
    if mode != expected:
        found.append(f'has mode {mode:o}, expected {expected:o}')
    # A hook of one's own, in a directory of one's own, is a trial.
    if status.st_uid not in {0, os.geteuid()}:
        found.append(f'belongs to user {status.st_uid}, and libvirt runs it as root')
    return found


def _content(name: str) -> bytes:
    return (resources.files(__package__) / FILES[name][0]).read_bytes()


def replace_file(path: str, content: bytes, mode: int, directory: str) -> None:
    """Write a file in ``directory``, then rename it: a reader sees the old one or the new one.

    :raises OSError: it can't be written; the old one stays
    """
    number, temporary = tempfile.mkstemp(prefix=f'.{os.path.basename(path)}.', dir=directory)
    try:
        with open(number, 'wb') as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(number, mode)
            os.fsync(number)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _put(path: str, name: str, hooks_dir: str) -> str:
    wrong = differences(path, name)
    if not wrong:
        return 'unchanged'
    replace_file(path, _content(name), FILES[name][1], hooks_dir)
    return 'installed' if wrong == ['is missing'] else 'replaced'


def _failed(what: str, hooks_dir: str, exc: OSError) -> HookError:
    hint = '; run it as root' if isinstance(exc, PermissionError) and os.geteuid() else ''
    where = f' {exc.filename}:' if exc.filename else ''
    return HookError(f'could not {what} {hooks_dir}:{where} {exc.strerror}{hint}')

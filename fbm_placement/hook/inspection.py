# SPDX-License-Identifier: Apache-2.0
"""Look whether the hook is installed as it should be, and answers. Changes nothing."""

import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from fbm_placement.hook import installation

PYTHON = '/usr/bin/python3'
"""What the hook runs."""
PYTHON_AT_LEAST = (3, 6)
ANSWER_SECONDS = 10.0
"""The hook ends itself after 8."""

REINSTALL = 'run "fbm-status hook install"'
BROKEN = 'the hook itself is broken'
"""Words of the hook, by which its own troubles differ from the guest's."""

SAMPLE_NAME = 'fbm-hook-check'
SAMPLE_GUEST = f"""<domain type='kvm'>
  <name>{SAMPLE_NAME}</name>
  <uuid>00000000-0000-4000-8000-000000000000</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"/>
  </metadata>
  <memory unit='KiB'>1024</memory>
</domain>
"""
"""A guest of Nova's, to ask about; it is never started."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    seen: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f'{self.seen}; expected: {self.expected}; {self.remedy}'


def check(hooks_dir: str = installation.HOOKS_DIR) -> list[Finding]:
    """Return what is wrong with the hook; an empty list where all is well.

    It need not run as root, but then may not see everything.
    """
    findings = [*_python()]
    for name, path in installation.paths(hooks_dir).items():
        findings += _file(path, name)
    hook = installation.paths(hooks_dir)[installation.HOOK]
    if os.access(hook, os.X_OK):
        findings += _answers(hook)
    return findings


def _file(path: str, name: str) -> Iterator[Finding]:
    mode = installation.MODES[name]
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            yield Finding(f'{path} is no regular file', 'a copy of the hook', REINSTALL)
            return
        with open(path, 'rb') as stream:
            same = stream.read() == installation.content(name)
    except FileNotFoundError:
        yield Finding(f'{path} is missing', 'the installed hook', REINSTALL)
        return
    except OSError as exc:
        yield Finding(
            f'{path} is not readable: {exc.strerror}', 'a readable file', 'look at it as root'
        )
        return
    if not same:
        yield Finding(f'{path} is of another version', "this package's", REINSTALL)
    yield from _permissions(path, status, mode)


def _permissions(path: str, status: os.stat_result, mode: int) -> Iterator[Finding]:
    permissions = stat.S_IMODE(status.st_mode)
    if mode & 0o111 and permissions & 0o111 != 0o111:
        yield Finding(
            f'{path} is not executable (mode {permissions:o}), so libvirt skips it',
            f'mode {mode:o}',
            REINSTALL,
        )
    if not mode & 0o111 and permissions & 0o111:
        yield Finding(
            f'{path} is executable (mode {permissions:o}), so libvirt runs it as a hook by itself',
            f'mode {mode:o}',
            REINSTALL,
        )
    if permissions & 0o022:
        yield Finding(
            f'{path} can be changed by others (mode {permissions:o}), and libvirt runs it as root',
            f'mode {mode:o}',
            REINSTALL,
        )
    # A hook of one's own, in a directory of one's own, is a trial.
    if status.st_uid not in {0, os.geteuid()}:
        yield Finding(
            f'{path} belongs to user {status.st_uid}, and libvirt runs it as root',
            'root',
            f'{REINSTALL} as root',
        )


def _python() -> Iterator[Finding]:
    expected = f'Python {PYTHON_AT_LEAST[0]}.{PYTHON_AT_LEAST[1]} or later'
    program = 'import sys; print(*sys.version_info[:2])'
    try:
        done = _run([PYTHON, '-IS', '-c', program], '')
        version = tuple(int(number) for number in done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        yield Finding(f'{PYTHON} does not run: {exc}', expected, "install the system's python3")
        return
    if version < PYTHON_AT_LEAST:
        told = '.'.join(map(str, version)) or f'nothing, with exit status {done.returncode}'
        yield Finding(f'{PYTHON} says its version is {told}', expected, 'upgrade it')


def _answers(hook: str) -> Iterator[Finding]:
    """Run it as libvirt does: with an operation that it passes at once, and with one it judges."""
    for operation, statuses in (('started', (0,)), ('prepare', (0, 1))):
        asked = f'{hook} {SAMPLE_NAME} {operation} begin -'
        expected = f'exit status {" or ".join(map(str, statuses))}, and nothing on stdout'
        try:
            done = _run([hook, SAMPLE_NAME, operation, 'begin', '-'], SAMPLE_GUEST)
        except subprocess.TimeoutExpired:
            yield Finding(f'"{asked}" did not end in {ANSWER_SECONDS:g} s', expected, REINSTALL)
            continue
        except OSError as exc:
            yield Finding(f'"{asked}" does not run: {exc.strerror}', expected, REINSTALL)
            continue
        told = ' '.join(done.stderr.split())
        good = done.returncode in statuses and not done.stdout and BROKEN not in told
        # Who refuses says why.
        if not good or (done.returncode and not told.startswith('fbm hook on ')):
            yield Finding(
                f'"{asked}" ended with status {done.returncode}, stdout "{done.stdout[:200]}", '
                f'stderr "{told[:500]}"',
                f'{expected}, and on stderr at most why the guest does not fit',
                f'{REINSTALL}; if that changes nothing, look at {PYTHON}',
            )


def _run(command: list[str], stdin: str) -> subprocess.CompletedProcess[str]:
    # The environment that libvirt gives to its hooks, so far as it matters.
    return subprocess.run(  # noqa: S603 - the very programs that are to be looked at
        command,
        input=stdin,
        capture_output=True,
        text=True,
        errors='replace',
        timeout=ANSWER_SECONDS,
        check=False,
        env={'LC_ALL': 'C', 'PATH': os.defpath},
        cwd='/',
    )

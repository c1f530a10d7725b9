# SPDX-License-Identifier: Apache-2.0
"""Check whether the hook is installed as it should be, and works. Changes nothing."""

import os
import subprocess
from collections.abc import Iterator

from fbm_placement.hook import installation

PYTHON = '/usr/bin/python3'
"""What the hook runs."""
PYTHON_AT_LEAST = (3, 6)
ANSWER_SECONDS = 10.0
"""The hook ends itself after 8."""

REINSTALL = 'run "fbm-status hook install" as root'
BROKEN = 'the hook itself is broken'
"""How the hook reports its own errors, as opposed to what is wrong with the guest."""

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
"""A Nova guest to run the hook with; it is never started."""


def check(hooks_dir: str = installation.HOOKS_DIR) -> list[str]:
    """Return what is wrong with the hook, a line each; empty where it is as it should be.

    It need not run as root, but then may not see everything.
    """
    findings = [*_python()]
    paths = installation.paths(hooks_dir)
    for name, path in paths.items():
        try:
            wrong = installation.differences(path, name)
        except OSError as exc:
            findings.append(f'{path} is not readable: {exc.strerror}; run the check as root')
            continue
        findings += [f'{path} {difference}; {REINSTALL}' for difference in wrong]
    if os.access(paths[installation.HOOK], os.X_OK):
        findings += _answers(paths[installation.HOOK])
    return findings


def _python() -> Iterator[str]:
    expected = 'expected Python {}.{} or later'.format(*PYTHON_AT_LEAST)
    try:
        done = _run([PYTHON, '-IS', '-c', 'import sys; print(*sys.version_info[:2])'], '')
        version = tuple(int(number) for number in done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        yield f"{PYTHON} does not run: {exc}; {expected}; install the system's python3"
        return
    if version < PYTHON_AT_LEAST:
        seen = '.'.join(map(str, version)) or f'none, exit status {done.returncode}'
        yield f'{PYTHON} has the wrong version: {seen}; {expected}; upgrade it'


def _answers(hook: str) -> Iterator[str]:
    """Run the hook as libvirt does: with an operation that passes, and with one it checks."""
    for operation, statuses in (('started', (0,)), ('prepare', (0, 1))):
        command = [hook, SAMPLE_NAME, operation, 'begin', '-']
        seen = f'"{" ".join(command)}"'
        expected = f'expected exit status {" or ".join(map(str, statuses))} and no stdout'
        try:
            done = _run(command, SAMPLE_GUEST)
        except subprocess.TimeoutExpired:
            yield f'{seen} did not end in {ANSWER_SECONDS:g} s; {expected}; {REINSTALL}'
            continue
        except OSError as exc:
            yield f'{seen} does not run: {exc.strerror}; {expected}; {REINSTALL}'
            continue
        message = ' '.join(done.stderr.split())
        good = done.returncode in statuses and not done.stdout and BROKEN not in message
        # A refusal has a reason.
        if not good or (done.returncode and not message.startswith('fbm hook on ')):
            yield (
                f'{seen} ended with status {done.returncode}, stdout "{done.stdout[:200]}", '
                f'stderr "{message[:500]}"; {expected}; {REINSTALL}; if that changes nothing, '
                f'check {PYTHON}'
            )


def _run(command: list[str], stdin: str) -> subprocess.CompletedProcess[str]:
    # The environment that libvirt gives to its hooks, so far as it matters.
    return subprocess.run(  # noqa: S603 - the very programs that are to be checked
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

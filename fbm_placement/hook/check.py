# SPDX-License-Identifier: Apache-2.0
"""Check whether the hook is installed as it should be, and works. Changes nothing."""

import os
import subprocess
from collections.abc import Iterator

from fbm_placement.hook import install

PYTHON = '/usr/bin/python3'
"""What the hook runs: 3.6 or later."""
ANSWER_SECONDS = 10.0
"""The hook ends itself after 8."""

REINSTALL = 'run "fbm-status hook install" as root'
BROKEN = 'the hook itself is broken'
"""How the hook reports its own errors, as opposed to what is wrong with the guest."""

SAMPLE_NAME = 'fbm-hook-check'
SAMPLE_GUEST = f"""<domain type='kvm'>
  <name>{SAMPLE_NAME}</name>
  <uuid>00000000-0000-4000-8000-000000000000</uuid>
  <metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"/></metadata>
  <memory unit='KiB'>1024</memory>
</domain>
"""
"""A Nova guest to run the hook with; it is never started."""


def check(hooks_dir: str = install.HOOKS_DIR) -> list[str]:
    """Return what is wrong with the hook, a line each; as another user than root maybe not all."""
    findings = []
    paths = install.paths(hooks_dir)
    for name, path in paths.items():
        try:
            wrong = install.differences(path, name)
        except OSError as exc:
            findings.append(f'{path} is not readable: {exc.strerror}; run the check as root')
            continue
        findings += [f'{path} {difference}; {REINSTALL}' for difference in wrong]
    hook, program = paths[install.HOOK], paths[install.PROGRAM]
    if os.path.isfile(program):
        # By itself too: with hook_mode off the hook never reports that Python is broken.
        findings += _run([PYTHON, '-IS', program], 'started', (0,))
    if os.access(hook, os.X_OK):
        findings += [*_run([hook], 'started', (0,)), *_run([hook], 'prepare', (0, 1))]
    return findings


def _run(program: list[str], operation: str, statuses: tuple[int, ...]) -> Iterator[str]:
    """Run it as libvirt does, and yield what is wrong with its answer."""
    command = [*program, SAMPLE_NAME, operation, 'begin', '-']
    seen = f'"{" ".join(command)}"'
    expected = (
        f'expected exit status {" or ".join(map(str, statuses))} and no stdout; {REINSTALL}; if '
        f'that changes nothing, check {PYTHON}, which must be 3.6 or later'
    )
    try:
        # The environment that libvirt gives to its hooks, so far as it matters.
        done = subprocess.run(  # noqa: S603 - the very programs that are to be checked
            command,
            input=SAMPLE_GUEST,
            capture_output=True,
            text=True,
            errors='replace',
            timeout=ANSWER_SECONDS,
            check=False,
            env={'LC_ALL': 'C', 'PATH': os.defpath},
            cwd='/',
        )
    except subprocess.TimeoutExpired:
        yield f'{seen} did not end in {ANSWER_SECONDS:g} s; {expected}'
        return
    except OSError as exc:
        yield f'{seen} does not run: {exc.strerror}; {expected}'
        return
    message = ' '.join(done.stderr.split())
    good = done.returncode in statuses and not done.stdout and BROKEN not in message
    # A refusal has a reason.
    if not good or (done.returncode and not message.startswith('fbm hook')):
        yield (
            f'{seen} ended with status {done.returncode}, stdout "{done.stdout[:200]}", '
            f'stderr "{message[:500]}"; {expected}'
        )

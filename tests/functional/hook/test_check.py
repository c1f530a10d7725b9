# SPDX-License-Identifier: Apache-2.0
"""Checking an installed hook: what is wrong is found, and reported with how to fix it."""

import os
import sys

import pytest

from fbm_placement.hook import check as hook_check
from fbm_placement.hook import install
from tests.hook_lab import HOOK, PROGRAM

REINSTALL = 'run "fbm-status hook install" as root'


@pytest.fixture
def hooks_dir(tmp_path):
    path = tmp_path / 'hooks'
    install.install(str(path))
    return path


def check(hooks_dir):
    return hook_check.check(str(hooks_dir))


def files(hooks_dir):
    return hooks_dir / 'qemu.d' / HOOK, hooks_dir / 'qemu.d' / PROGRAM


def test_what_was_just_installed_is_good(hooks_dir):
    assert check(hooks_dir) == []


def test_it_changes_nothing(hooks_dir):
    files(hooks_dir)[0].chmod(0o644)
    before = [(path, path.stat().st_mtime_ns) for path in hooks_dir.rglob('*')]
    assert check(hooks_dir)
    assert [(path, path.stat().st_mtime_ns) for path in hooks_dir.rglob('*')] == before


def test_it_finds_what_is_missing(hooks_dir):
    install.remove(str(hooks_dir))
    assert check(hooks_dir) == [
        f'{path} is missing; {REINSTALL}' for path in reversed(files(hooks_dir))
    ]
    assert len(check('/nonexistent')) == 2


def test_it_finds_another_version(hooks_dir):
    hook, program = files(hooks_dir)
    hook.write_text(hook.read_text() + '# mine\n')
    program.write_text(program.read_text() + '# mine\n')
    assert check(hooks_dir) == [
        f"{path} is not this package's version; {REINSTALL}" for path in (program, hook)
    ]


@pytest.mark.parametrize(
    ('name', 'mode', 'difference'),
    [
        (HOOK, 0o644, 'has mode 644, expected 755'),
        (PROGRAM, 0o755, 'has mode 755, expected 644'),
        (HOOK, 0o775, 'has mode 775, expected 755'),
        (PROGRAM, 0o646, 'has mode 646, expected 644'),
    ],
)
def test_it_finds_wrong_permissions(hooks_dir, name, mode, difference):
    path = hooks_dir / 'qemu.d' / name
    path.chmod(mode)
    assert check(hooks_dir) == [f'{path} {difference}; {REINSTALL}']


def test_it_finds_a_link(hooks_dir, tmp_path):
    program = files(hooks_dir)[1]
    program.rename(tmp_path / 'elsewhere')
    program.symlink_to(tmp_path / 'elsewhere')
    assert check(hooks_dir) == [f'{program} is not a regular file; {REINSTALL}']


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file away')
def test_it_finds_a_wrong_owner(hooks_dir):
    hook = files(hooks_dir)[0]
    os.chown(hook, 12345, 12345)
    assert check(hooks_dir) == [
        f'{hook} belongs to user 12345, and libvirt runs it as root; {REINSTALL}'
    ]


def test_it_finds_a_program_that_does_not_work(hooks_dir):
    hook, program = files(hooks_dir)
    program.write_text('import nonexistent_module\n')
    version, alone, answer = check(hooks_dir)
    assert alone.startswith(f'"/usr/bin/python3 -IS {program} fbm-hook-check started begin -" ')
    assert version.startswith(f'{program} is not this package')
    assert answer.startswith(f'"{hook} fbm-hook-check prepare begin -" ended with status ')
    assert 'No module named' in answer
    assert f'{REINSTALL}; if that changes nothing, check /usr/bin/python3' in answer


@pytest.mark.parametrize(
    'text',
    [
        '#!/bin/sh\nexit 3\n',
        '#!/bin/sh\necho "<domain/>"\n',
        '#!/bin/sh\nexit 1\n',
        '#!/nowhere\n',
    ],
)
def test_it_finds_a_hook_that_does_not_answer_as_it_should(hooks_dir, text):
    hook = files(hooks_dir)[0]
    hook.write_text(text)
    findings = [
        line
        for line in check(hooks_dir)
        if line.startswith(f'"{hook} fbm-hook-check ') and 'and no stdout' in line
    ]
    assert len(findings) == 2


def test_it_waits_for_an_answer_no_longer_than_it_must(hooks_dir, monkeypatch):
    monkeypatch.setattr(hook_check, 'ANSWER_SECONDS', 0.5)
    hook = files(hooks_dir)[0]
    hook.write_text('#!/bin/sh\ncase $2 in prepare) exec sleep 60 ;; esac\n')
    assert check(hooks_dir)[1].startswith(
        f'"{hook} fbm-hook-check prepare begin -" did not end in 0.5 s'
    )


@pytest.mark.parametrize(
    ('script', 'seen'),
    [
        (None, 'does not run: No such file or directory; expected exit status 0 and no stdout; '),
        ('exit 7', 'ended with status 7, '),
        ('echo what', 'ended with status 0, stdout "what'),
        ('echo "SyntaxError" >&2; exit 1', 'ended with status 1, stdout "", stderr "SyntaxError"'),
    ],
)
def test_it_finds_a_python_that_is_missing_or_broken(
    hooks_dir, tmp_path, monkeypatch, script, seen
):
    python = tmp_path / 'python3'
    if script:
        python.write_text(f'#!/bin/sh\n{script}\n')
        python.chmod(0o755)
    monkeypatch.setattr(hook_check, 'PYTHON', str(python))
    (finding,) = check(hooks_dir)
    program = files(hooks_dir)[1]
    assert finding.startswith(f'"{python} -IS {program} fbm-hook-check started begin -" {seen}')
    assert finding.endswith(f'check {python}, which must be 3.6 or later')


def test_another_python_that_works_is_good(hooks_dir, monkeypatch):
    monkeypatch.setattr(hook_check, 'PYTHON', sys.executable)
    assert check(hooks_dir) == []

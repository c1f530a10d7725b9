# SPDX-License-Identifier: Apache-2.0
"""Looking at an installed hook: what is wrong is found, and said with what to do."""

import os
import sys

import pytest

from fbm_placement.hook import inspection, installation
from fbm_placement.hook.installation import HOOK, PROGRAM

REINSTALL = 'run "fbm-status hook install"'


@pytest.fixture
def hooks_dir(tmp_path):
    """A directory where the hook has just been installed."""
    path = tmp_path / 'hooks'
    installation.install(str(path))
    return path


def check(hooks_dir):
    """Each finding's line."""
    return [str(finding) for finding in inspection.check(str(hooks_dir))]


def files(hooks_dir):
    """The paths of the hook and of its program."""
    return hooks_dir / 'qemu.d' / HOOK, hooks_dir / 'qemu.d' / PROGRAM


def test_what_was_just_installed_is_good(hooks_dir):
    assert check(hooks_dir) == []


def test_it_changes_nothing(hooks_dir):
    files(hooks_dir)[0].chmod(0o644)
    before = [(path, path.stat().st_mtime_ns) for path in hooks_dir.rglob('*')]
    assert check(hooks_dir)
    assert [(path, path.stat().st_mtime_ns) for path in hooks_dir.rglob('*')] == before


def test_it_finds_what_is_missing(hooks_dir):
    installation.remove(str(hooks_dir))
    assert check(hooks_dir) == [
        f'{path} is missing; expected: the installed hook; {REINSTALL}'
        for path in reversed(files(hooks_dir))
    ]
    assert len(check('/nonexistent')) == 2


def test_it_finds_another_version(hooks_dir):
    hook, program = files(hooks_dir)
    hook.write_text(hook.read_text() + '# mine\n')
    program.write_text(program.read_text() + '# mine\n')
    assert check(hooks_dir) == [
        f"{path} is of another version; expected: this package's; {REINSTALL}"
        for path in (program, hook)
    ]


@pytest.mark.parametrize(
    ('name', 'mode', 'words'),
    [
        (HOOK, 0o644, 'is not executable (mode 644), so libvirt skips it; expected: mode 755'),
        (
            PROGRAM,
            0o755,
            'is executable (mode 755), so libvirt runs it as a hook by itself; expected: mode 644',
        ),
        (
            HOOK,
            0o775,
            'can be changed by others (mode 775), and libvirt runs it as root; expected: mode 755',
        ),
        (
            PROGRAM,
            0o646,
            'can be changed by others (mode 646), and libvirt runs it as root; expected: mode 644',
        ),
    ],
)
def test_it_finds_wrong_permissions(hooks_dir, name, mode, words):
    path = hooks_dir / 'qemu.d' / name
    path.chmod(mode)
    assert check(hooks_dir) == [f'{path} {words}; {REINSTALL}']


def test_it_finds_a_link(hooks_dir, tmp_path):
    program = files(hooks_dir)[1]
    program.rename(tmp_path / 'elsewhere')
    program.symlink_to(tmp_path / 'elsewhere')
    assert check(hooks_dir) == [
        f'{program} is no regular file; expected: a copy of the hook; {REINSTALL}'
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file away')
def test_it_finds_a_wrong_owner(hooks_dir):
    hook = files(hooks_dir)[0]
    os.chown(hook, 12345, 12345)
    assert check(hooks_dir) == [
        (
            f'{hook} belongs to user 12345, and libvirt runs it as root; expected: root; '
            f'{REINSTALL} as root'
        )
    ]


def test_it_finds_a_program_that_does_not_work(hooks_dir):
    hook, program = files(hooks_dir)
    program.write_text('import nonexistent_module\n')
    version, answer = check(hooks_dir)
    assert version.startswith(f'{program} is of another version')
    assert answer.startswith(f'"{hook} fbm-hook-check prepare begin -" ended with status ')
    assert 'No module named' in answer
    assert answer.endswith(f'{REINSTALL}; if that changes nothing, look at /usr/bin/python3')


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
    asked = [
        line
        for line in check(hooks_dir)
        if line.startswith(f'"{hook} fbm-hook-check ') and 'and nothing on stdout' in line
    ]
    assert len(asked) == 2


def test_it_waits_for_an_answer_no_longer_than_it_must(hooks_dir, monkeypatch):
    monkeypatch.setattr(inspection, 'ANSWER_SECONDS', 0.5)
    hook = files(hooks_dir)[0]
    hook.write_text('#!/bin/sh\ncase $2 in prepare) exec sleep 60 ;; esac\n')
    told = check(hooks_dir)
    assert told[1].startswith(f'"{hook} fbm-hook-check prepare begin -" did not end in 0.5 s')


@pytest.mark.parametrize(
    ('script', 'seen'),
    [
        (None, 'does not run: '),
        ('echo 3 5', 'says its version is 3.5'),
        ('exit 7', 'says its version is nothing, with exit status 7'),
        ('echo what', 'does not run: '),
    ],
)
def test_it_finds_a_python_that_is_missing_or_too_old(
    hooks_dir, tmp_path, monkeypatch, script, seen
):
    python = tmp_path / 'python3'
    if script:
        python.write_text(f'#!/bin/sh\n{script}\n')
        python.chmod(0o755)
    monkeypatch.setattr(inspection, 'PYTHON', str(python))
    (told,) = check(hooks_dir)
    assert told.startswith(f'{python} {seen}')
    assert '; expected: Python 3.6 or later; ' in told


def test_a_newer_python_is_good(hooks_dir, monkeypatch):
    monkeypatch.setattr(inspection, 'PYTHON', sys.executable)
    assert check(hooks_dir) == []

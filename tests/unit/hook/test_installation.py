# SPDX-License-Identifier: Apache-2.0
"""Installing the hook's files: whole, in order, whatever comes between."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from fbm_placement.hook import installation
from fbm_placement.hook.installation import HOOK, PROGRAM, Change, HookError
from tests import hook_lab as labs

OLD = {HOOK: b'#!/bin/sh\nexit 0\n', PROGRAM: b'old\n'}


@pytest.fixture
def hooks_dir(tmp_path):
    """Where libvirt looks for hooks, below its directory of configuration."""
    path = tmp_path / 'libvirt' / 'hooks'
    path.mkdir(parents=True)
    return path


def qemu_d(hooks_dir):
    """What libvirt may run."""
    return hooks_dir / 'qemu.d'


def put(hooks_dir, files):
    """Write files as an older version left them."""
    qemu_d(hooks_dir).mkdir(exist_ok=True)
    for name, data in files.items():
        (qemu_d(hooks_dir) / name).write_bytes(data)
        (qemu_d(hooks_dir) / name).chmod(installation.MODES[name])


def there(hooks_dir):
    """What is installed, by name."""
    return {path.name: path.read_bytes() for path in qemu_d(hooks_dir).iterdir()}


def changes(result):
    """What became of the hook and of the program."""
    by_name = {os.path.basename(path): change for path, change in result.changes}
    return by_name[HOOK], by_name[PROGRAM]


NEW = {name: labs.SOURCES[name].read_bytes() for name in (HOOK, PROGRAM)}


@pytest.mark.parametrize('umask', [0o022, 0o077, 0o000])
def test_it_copies_both_files_with_their_modes(hooks_dir, umask):
    before = os.umask(umask)
    try:
        result = installation.install(str(hooks_dir))
    finally:
        os.umask(before)
    assert changes(result) == (Change.INSTALLED, Change.INSTALLED)
    assert there(hooks_dir) == NEW
    assert [path.name for path in hooks_dir.iterdir()] == ['qemu.d']
    for name, mode in ((HOOK, 0o755), (PROGRAM, 0o644)):
        status = (qemu_d(hooks_dir) / name).lstat()
        assert status.st_mode & 0o7777 == mode
        assert status.st_uid == os.geteuid()


def test_again_it_changes_nothing(hooks_dir):
    installation.install(str(hooks_dir))
    before = {path: path.stat().st_ino for path in qemu_d(hooks_dir).iterdir()}
    result = installation.install(str(hooks_dir))
    assert changes(result) == (Change.UNCHANGED, Change.UNCHANGED)
    assert {path: path.stat().st_ino for path in qemu_d(hooks_dir).iterdir()} == before


@pytest.mark.parametrize('damage', ['content', 'mode', 'link', 'dangling'])
@pytest.mark.parametrize('name', [HOOK, PROGRAM])
def test_it_mends_what_is_not_as_it_should_be(hooks_dir, tmp_path, name, damage):
    installation.install(str(hooks_dir))
    path = qemu_d(hooks_dir) / name
    if damage == 'content':
        path.write_bytes(OLD[name])
    elif damage == 'mode':
        path.chmod(0o666)
    else:
        path.unlink()
        target = tmp_path / 'target'
        if damage == 'link':
            target.write_bytes(NEW[name])
        path.symlink_to(target)
    result = installation.install(str(hooks_dir))
    assert dict(zip((HOOK, PROGRAM), changes(result), strict=True))[name] is Change.REPLACED
    assert there(hooks_dir) == NEW
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == installation.MODES[name]


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file away')
def test_as_root_it_makes_the_files_roots(hooks_dir):
    installation.install(str(hooks_dir))
    os.chown(qemu_d(hooks_dir) / HOOK, 12345, 12345)
    assert changes(installation.install(str(hooks_dir)))[0] is Change.REPLACED
    assert (qemu_d(hooks_dir) / HOOK).stat().st_uid == 0


def test_the_files_of_others_stay(hooks_dir):
    put(hooks_dir, {})
    (qemu_d(hooks_dir) / '10-mine').write_text('mine')
    (hooks_dir / 'qemu').write_text('mine')
    installation.install(str(hooks_dir))
    installation.remove(str(hooks_dir))
    assert there(hooks_dir) == {'10-mine': b'mine'}
    assert (hooks_dir / 'qemu').read_text() == 'mine'


@pytest.mark.parametrize(
    ('file', 'mode', 'reload_libvirtd'),
    [
        (None, None, True),
        ('qemu', 0o755, False),
        ('qemu', 0o644, True),
        ('lxc', 0o755, True),
        ('qemu.d/10-mine', 0o755, False),
        ('qemu.d/10-mine', 0o644, True),
        (f'qemu.d/{HOOK}', 0o755, False),
    ],
)
def test_libvirtd_must_be_told_where_it_had_no_hook(hooks_dir, file, mode, reload_libvirtd):
    put(hooks_dir, {})
    if file:
        (hooks_dir / file).write_text('mine')
        (hooks_dir / file).chmod(mode)
    assert installation.install(str(hooks_dir)).reload_libvirtd is reload_libvirtd
    assert not installation.install(str(hooks_dir)).reload_libvirtd


def test_where_libvirt_is_not_installed_it_says_so(tmp_path):
    with pytest.raises(HookError, match='so libvirt is not installed here') as told:
        installation.install(str(tmp_path / 'libvirt' / 'hooks'))
    assert '--hooks-dir' in str(told.value)
    assert not list(tmp_path.iterdir())


def test_where_libvirt_has_no_hooks_yet_it_makes_their_directory(tmp_path):
    """Debian's packages bring /etc/libvirt, but no hooks below it."""
    hooks_dir = tmp_path / 'hooks'
    assert installation.install(str(hooks_dir)).reload_libvirtd
    assert there(hooks_dir) == NEW


def test_what_cannot_be_written_is_told(hooks_dir):
    qemu_d(hooks_dir).write_text('no directory')
    with pytest.raises(HookError, match=r'could not install the hook in .*: File exists'):
        installation.install(str(hooks_dir))
    with pytest.raises(HookError, match=r'could not remove the hook from .*: Not a directory'):
        installation.remove(str(hooks_dir))


@pytest.mark.parametrize('make', ['', 'install'])
def test_remove_takes_the_files_away_and_can_be_repeated(hooks_dir, make):
    if make:
        installation.install(str(hooks_dir))
    removed = Change.REMOVED if make else Change.ABSENT
    assert changes(installation.remove(str(hooks_dir))) == (removed, removed)
    assert changes(installation.remove(str(hooks_dir))) == (Change.ABSENT, Change.ABSENT)
    assert not list(hooks_dir.rglob('*-file-backed-memory*'))
    assert changes(installation.remove('/nonexistent/hooks')) == (Change.ABSENT, Change.ABSENT)


KILLED_AT = """
    import os, signal, sys
    from fbm_placement.hook import installation

    left = int(sys.argv[3])

    def counted(function):
        def call(*args, **kwargs):
            global left
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)
        return call

    for name in ('makedirs', 'open', 'listdir', 'unlink', 'fchmod', 'fsync', 'rename', 'close'):
        setattr(os, name, counted(getattr(os, name)))
    getattr(installation, sys.argv[1])(sys.argv[2])
    print(left)
"""


def run_killed_at(what, hooks_dir, step):
    """Run it in a process that ends before its system call number ``step``; return its output."""
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(KILLED_AT), what, str(hooks_dir), str(step)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.stdout


@pytest.mark.parametrize('before', [{}, OLD], ids=['nothing', 'an old version'])
@pytest.mark.parametrize('what', ['install', 'remove'])
def test_killed_at_any_step_it_leaves_whole_files_and_no_hook_without_its_program(
    hooks_dir, what, before
):
    put(hooks_dir, before)
    steps = 1000 - int(run_killed_at(what, hooks_dir, 1000))
    assert steps > (2 if what == 'remove' else 10)
    seen = set()
    for step in range(steps):
        for path in qemu_d(hooks_dir).iterdir():
            path.unlink()
        put(hooks_dir, before)
        assert run_killed_at(what, hooks_dir, step) == ''
        files = there(hooks_dir)
        for name, data in files.items():
            assert data in (NEW[name], OLD[name])
            assert (qemu_d(hooks_dir) / name).stat().st_mode & 0o777 == installation.MODES[name]
        assert PROGRAM in files or HOOK not in files
        # A new hook may rely on its own program, an old one on that it still works with a new.
        assert files.get(HOOK) != NEW[HOOK] or files[PROGRAM] == NEW[PROGRAM]
        seen.add(tuple(sorted(files.items())))
        getattr(installation, what)(str(hooks_dir))
        assert there(hooks_dir) == (NEW if what == 'install' else {})
        assert [path.name for path in hooks_dir.iterdir()] == ['qemu.d']
    assert len(seen) >= (2 if before or what == 'install' else 1)

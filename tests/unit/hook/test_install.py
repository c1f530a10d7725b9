# SPDX-License-Identifier: Apache-2.0
"""Installing and removing the hook's files."""

import os

import pytest

from fbm_placement.hook import install
from fbm_placement.hook.install import HookError
from tests.hook_lab import HOOK, MODES, NEW, OLD, PROGRAM


@pytest.fixture
def hooks_dir(tmp_path):
    path = tmp_path / 'libvirt' / 'hooks'
    (path / 'qemu.d').mkdir(parents=True)
    return path


def there(hooks_dir):
    return {path.name: path.read_bytes() for path in (hooks_dir / 'qemu.d').iterdir()}


def changes(hooks_dir, function=install.install):
    done = function(str(hooks_dir))
    return tuple(done[str(hooks_dir / 'qemu.d' / name)] for name in (PROGRAM, HOOK))


@pytest.mark.parametrize('umask', [0o022, 0o077, 0o000])
def test_it_copies_both_files_with_their_modes(hooks_dir, umask):
    before = os.umask(umask)
    try:
        assert changes(hooks_dir) == ('installed', 'installed')
    finally:
        os.umask(before)
    assert there(hooks_dir) == NEW
    assert [path.name for path in hooks_dir.iterdir()] == ['qemu.d']
    for name, mode in MODES.items():
        status = (hooks_dir / 'qemu.d' / name).lstat()
        assert status.st_mode & 0o7777 == mode
        assert status.st_uid == os.geteuid()


def test_again_it_changes_nothing(hooks_dir):
    install.install(str(hooks_dir))
    before = {path: path.stat().st_ino for path in (hooks_dir / 'qemu.d').iterdir()}
    assert changes(hooks_dir) == ('unchanged', 'unchanged')
    assert {path: path.stat().st_ino for path in (hooks_dir / 'qemu.d').iterdir()} == before


@pytest.mark.parametrize('damage', ['content', 'mode', 'link', 'dangling', 'owner'])
@pytest.mark.parametrize('name', [PROGRAM, HOOK])
def test_it_replaces_what_is_not_as_it_should_be(hooks_dir, tmp_path, name, damage):
    if damage == 'owner' and os.geteuid():
        pytest.skip('only root can give a file away')
    install.install(str(hooks_dir))
    path, target = hooks_dir / 'qemu.d' / name, tmp_path / 'target'
    if damage == 'content':
        path.write_bytes(OLD[name])
    elif damage == 'mode':
        path.chmod(0o666)
    elif damage == 'owner':
        os.chown(path, 12345, 12345)
    else:
        path.unlink()
        path.symlink_to(target)
        if damage == 'link':
            target.write_bytes(NEW[name])
    expected = {PROGRAM: 'unchanged', HOOK: 'unchanged', name: 'replaced'}
    assert changes(hooks_dir) == (expected[PROGRAM], expected[HOOK])
    assert there(hooks_dir) == NEW
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == MODES[name]
    assert path.stat().st_uid == os.geteuid()


def test_the_files_of_others_stay(hooks_dir):
    (hooks_dir / 'qemu.d/10-mine').write_text('mine')
    (hooks_dir / 'qemu').write_text('mine')
    install.install(str(hooks_dir))
    install.remove(str(hooks_dir))
    assert there(hooks_dir) == {'10-mine': b'mine'}
    assert (hooks_dir / 'qemu').read_text() == 'mine'


@pytest.mark.parametrize(
    ('file', 'mode', 'found'),
    [
        ('qemu', 0o755, True),
        ('qemu', 0o644, False),
        ('lxc', 0o755, False),
        ('qemu.d/10-mine', 0o755, True),
        ('qemu.d/10-mine', 0o644, False),
        (f'qemu.d/{HOOK}', 0o755, True),
    ],
)
def test_which_hooks_libvirt_finds(hooks_dir, file, mode, found):
    assert not install.has_hooks(str(hooks_dir))
    (hooks_dir / file).write_text('mine')
    (hooks_dir / file).chmod(mode)
    assert install.has_hooks(str(hooks_dir)) is found
    assert not install.has_hooks('/nonexistent')


def test_where_libvirt_is_not_installed_it_fails(tmp_path):
    with pytest.raises(HookError, match='so libvirt is not installed here') as raised:
        install.install(str(tmp_path / 'libvirt' / 'hooks'))
    assert '--hooks-dir' in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_where_libvirt_has_no_hooks_yet_it_makes_their_directory(tmp_path):
    """Debian's packages bring /etc/libvirt, but no hooks below it."""
    hooks_dir = tmp_path / 'hooks'
    install.install(str(hooks_dir))
    assert there(hooks_dir) == NEW


def test_what_cannot_be_written_is_reported(hooks_dir):
    (hooks_dir / 'qemu.d').rmdir()
    (hooks_dir / 'qemu.d').write_text('no directory')
    with pytest.raises(HookError, match=r'could not install the hook in .*: File exists'):
        install.install(str(hooks_dir))
    with pytest.raises(HookError, match=r'could not remove the hook from .*: Not a directory'):
        install.remove(str(hooks_dir))


def test_a_failed_write_leaves_the_old_files_and_no_others(hooks_dir, monkeypatch):
    for name, data in OLD.items():
        (hooks_dir / 'qemu.d' / name).write_bytes(data)

    def full(number):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(HookError, match='No space left on device'):
        install.install(str(hooks_dir))
    assert there(hooks_dir) == OLD
    assert [path.name for path in hooks_dir.iterdir()] == ['qemu.d']


def test_remove_leaves_the_hooks_of_others(hooks_dir):
    install.install(str(hooks_dir))
    other = hooks_dir / 'qemu.d' / '10-other'
    other.touch()
    install.remove(str(hooks_dir))
    assert list(hooks_dir.rglob('*')) == [other.parent, other]
    install.install(str(hooks_dir))
    other.rename(hooks_dir / 'daemon')
    install.remove(str(hooks_dir))
    assert list(hooks_dir.rglob('*')) == [hooks_dir / 'daemon']


def test_remove_can_be_repeated(hooks_dir):
    install.install(str(hooks_dir))
    assert changes(hooks_dir, install.remove) == ('removed', 'removed')
    assert changes(hooks_dir, install.remove) == ('not there', 'not there')
    assert not hooks_dir.exists()
    assert set(install.remove('/nonexistent/hooks').values()) == {'not there'}

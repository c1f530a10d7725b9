# SPDX-License-Identifier: Apache-2.0
"""What can be seen of a store: real directories of the machine that the test runs on."""

import os

import pytest

from fbm_placement import errors
from fbm_placement.host import store as store_module
from fbm_placement.host.mounts import Mount
from fbm_placement.host.probe import Probe
from fbm_placement.host.store import Directory, Store, observe_store


@pytest.fixture
def directory(tmp_path):
    """Return a store in which libvirt has made its directories."""
    (tmp_path / 'store/libvirt/qemu').mkdir(parents=True, mode=0o750)
    return tmp_path / 'store'


def see(path, *files):
    return observe_store(str(path), [str(file) for file in files], Probe())


def test_size_and_free_space_are_those_of_the_filesystem(directory):
    seen = see(directory)
    size = os.statvfs(directory)
    assert seen.size_bytes == size.f_blocks * size.f_frsize
    assert 0 < seen.free_bytes <= seen.size_bytes
    assert seen.exists
    assert seen.is_directory
    assert seen.error is None


def test_the_mount_is_found_through_links(directory, tmp_path):
    link = tmp_path / 'link'
    link.symlink_to(directory)
    assert see(link).mount == see(directory).mount
    assert os.path.ismount(see(link).mount.mount_point)


def test_libvirts_directories_with_mode_and_owner(directory):
    directory.chmod(0o1777)
    seen = see(directory)
    assert [d.path for d in seen.directories] == [
        str(directory),
        f'{directory}/libvirt',
        f'{directory}/libvirt/qemu',
    ]
    assert (seen.directories[0].mode, seen.directories[0].uid) == (0o1777, os.getuid())
    assert seen.libvirt_is_ready
    (directory / 'libvirt/qemu').rmdir()
    assert not see(directory).libvirt_is_ready


def test_what_running_guests_hold(directory, tmp_path):
    """What is allocated counts, not the size: a sparse file has a hole."""
    ram, sparse = directory / 'pc.ram', directory / 'ram-node1'
    ram.write_bytes(b'x' * 1_000_000)
    with sparse.open('wb') as file:
        file.truncate(10**9)
    seen = see(directory, ram, sparse, directory / 'gone')
    assert 1_000_000 <= seen.ram_bytes < 1_100_000


def test_what_others_guests_hold_is_not_promised_to_anybody(directory, monkeypatch):
    """But it may be read by nobody either."""
    monkeypatch.setattr(store_module, '_others_can_enter', lambda path: True)
    ram = directory / 'pc.ram'
    ram.write_bytes(b'x' * 1_000_000)
    ram.chmod(0o644)
    seen = observe_store(str(directory), [], Probe(), [str(ram)])
    assert (seen.ram_bytes, seen.exposed) == (0, (str(ram),))


def test_files_of_another_filesystem_do_not_count(directory):
    assert see(directory, '/proc/version').ram_bytes == 0


def test_memory_that_anybody_can_read_is_told(tmp_path, monkeypatch):
    """The file may be read by all and all its directories may be entered."""
    monkeypatch.setattr(store_module, '_others_can_enter', lambda path: path == str(tmp_path))
    ram = tmp_path / 'pc.ram'
    ram.write_bytes(b'')
    ram.chmod(0o644)
    assert see(tmp_path, ram).exposed == (str(ram),)
    ram.chmod(0o640)
    assert see(tmp_path, ram).exposed == ()


def test_one_closed_directory_on_the_way_keeps_others_out(tmp_path):
    closed = tmp_path / 'closed'
    (closed / 'open').mkdir(parents=True)
    closed.chmod(0o700)
    assert not store_module._others_can_enter(str(closed / 'open'))
    assert store_module._others_can_enter('/usr/bin')


def test_a_store_that_is_not_there(tmp_path):
    seen = see(tmp_path / 'none')
    assert not seen.exists
    assert seen.is_disk
    assert seen.error is None


def test_a_file_is_no_directory(tmp_path):
    path = tmp_path / 'file'
    path.write_text('')
    assert not see(path).is_directory


def test_a_store_that_does_not_answer():
    class Silent:
        def ask(self, look):
            raise errors.NoAnswerError('no answer in 5 s')

    seen = observe_store('/srv/fbm', (), Silent())
    assert seen.error == 'it does not answer (no answer in 5 s)'


def test_a_store_that_may_not_be_seen():
    class Closed:
        def ask(self, look):
            raise PermissionError(13, 'Permission denied', '/srv/fbm/libvirt')

    seen = observe_store('/srv/fbm', (), Closed())
    assert seen.error == 'Permission denied (/srv/fbm/libvirt)'


def test_fstab_tells_where_it_should_be_mounted(directory, monkeypatch):
    monkeypatch.setattr(
        store_module.mounts, 'read_fstab', lambda: ('/', str(directory), '/elsewhere')
    )
    assert see(directory).expected_mount == str(directory)


@pytest.mark.parametrize(
    ('filesystem', 'is_disk'), [('tmpfs', False), ('hugetlbfs', False), ('xfs', True)]
)
def test_the_kind_of_filesystem(filesystem, is_disk):
    assert Store('/s', mount=Mount('/s', filesystem, 'dev')).is_disk is is_disk


def test_whom_a_directory_lets_write():
    assert Directory('/s', 0o777, 0).others_can_write
    assert not Directory('/s', 0o1777, 0).others_can_write
    assert not Directory('/s', 0o775, 0).others_can_write

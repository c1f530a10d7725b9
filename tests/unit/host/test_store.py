# SPDX-License-Identifier: Apache-2.0
"""What is observed of a store: real directories of the machine that the test runs on."""

import os

import pytest

from fbm_placement import errors
from fbm_placement.host import store as store_module
from fbm_placement.host.probe import Probe
from fbm_placement.host.store import observe_store, others_can_enter
from fbm_placement.model import Backing, Guest, Mount, Store


@pytest.fixture
def directory(tmp_path):
    (tmp_path / 'store/libvirt/qemu').mkdir(parents=True, mode=0o750)
    return tmp_path / 'store'


def observe(path, *files, is_nova=True):
    files = tuple(str(file) for file in files)
    return observe_store(
        str(path), [Guest(7, 'fb', 'b1', is_nova, 512, Backing.FILE, files)], Probe()
    )


def test_size_and_free_space_are_those_of_the_filesystem(directory):
    store = observe(directory)
    size = os.statvfs(directory)
    assert store.size_bytes == size.f_blocks * size.f_frsize
    assert 0 < store.free_bytes <= store.size_bytes
    assert store.is_directory
    assert store.error is None


def test_the_mount_is_found_through_links(directory, tmp_path):
    link = tmp_path / 'link'
    link.symlink_to(directory)
    assert observe(link).mount == observe(directory).mount
    assert os.path.ismount(observe(link).mount.mount_point)


def test_libvirts_directories_with_mode_and_owner(directory):
    directory.chmod(0o1777)
    paths = [str(directory), f'{directory}/libvirt', f'{directory}/libvirt/qemu']
    store = observe(directory)
    assert [one.path for one in store.directories] == paths
    assert store.ram_directory == paths[2]
    assert (store.directories[0].mode, store.directories[0].uid) == (0o1777, os.getuid())
    (directory / 'libvirt/qemu').rmdir()
    assert [one.path for one in observe(directory).directories] == paths[:2]


def test_what_running_nova_guests_hold(directory):
    """What is allocated counts, not the size: a sparse file has a hole."""
    ram, sparse = directory / 'pc.ram', directory / 'ram-node1'
    ram.write_bytes(b'x' * 1_000_000)
    with sparse.open('wb') as file:
        file.truncate(10**9)
    held = observe(directory, ram, sparse, directory / 'gone').ram_bytes
    assert 1_000_000 <= held < 1_100_000
    assert observe(directory, ram, is_nova=False).ram_bytes == 0
    assert observe(directory, '/proc/version').ram_bytes == 0
    assert observe(directory, sparse / 'below a file').ram_bytes == 0
    assert observe(directory, ram, ram).ram_bytes == observe(directory, ram).ram_bytes


@pytest.mark.parametrize('is_nova', [True, False])
def test_memory_that_every_user_can_read(directory, monkeypatch, is_nova):
    """The file may be read by all and all its directories may be entered."""
    ram = directory / 'pc.ram'
    monkeypatch.setattr(store_module, 'others_can_enter', lambda path: path == str(ram))
    ram.write_bytes(b'')
    ram.chmod(0o644)
    assert observe(directory, ram, is_nova=is_nova).exposed == (str(ram),)
    ram.chmod(0o640)
    assert observe(directory, ram, is_nova=is_nova).exposed == ()


def test_one_closed_directory_above_keeps_others_out(tmp_path):
    closed = tmp_path / 'closed'
    (closed / 'open').mkdir(parents=True)
    closed.chmod(0o700)
    assert not others_can_enter(str(closed / 'open/file'))
    assert others_can_enter('/usr/bin/env')


def test_what_is_no_directory(tmp_path):
    assert observe(tmp_path / 'none') == Store(str(tmp_path / 'none'))
    (tmp_path / 'file').touch()
    assert not observe(tmp_path / 'file').is_directory


@pytest.mark.parametrize(
    ('raised', 'error'),
    [
        (errors.NoAnswerError('no answer in 5 s'), 'it does not answer (no answer in 5 s)'),
        (PermissionError(13, 'Permission denied', '/srv/x'), 'Permission denied (/srv/x)'),
    ],
)
def test_a_store_that_cannot_be_observed(raised, error):
    class Failing:
        def ask(self, function):
            raise raised

    assert observe_store('/srv/fbm', (), Failing()) == Store('/srv/fbm', error=error)


def test_fstab_has_the_expected_mount(directory, monkeypatch):
    fstab = ('/', str(directory), '/elsewhere')
    monkeypatch.setattr(store_module.mounts, 'read_fstab', lambda: fstab)
    assert observe(directory).expected_mount == str(directory)


@pytest.mark.parametrize(
    ('filesystem', 'is_disk'), [('tmpfs', False), ('hugetlbfs', False), ('xfs', True)]
)
def test_the_kind_of_filesystem(filesystem, is_disk):
    assert Store('/s', mount=Mount('/s', filesystem, 'dev')).is_disk is is_disk
    assert Store('/s').is_disk

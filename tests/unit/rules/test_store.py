# SPDX-License-Identifier: Apache-2.0
"""The rules of a healthy store, one by one, with the messages that an operator reads."""

from dataclasses import replace

import pytest

from fbm_placement.model import Directory, Mount, Store
from fbm_placement.rules.store import is_disk, misplaced, problems

XFS = Mount('/srv/fbm', 'xfs', '/dev/nvme0n1', '259:3', options=frozenset({'rw'}))
DIRECTORIES = (
    Directory('/srv/fbm', 0o755, 0),
    Directory('/srv/fbm/libvirt', 0o755, 0),
    Directory('/srv/fbm/libvirt/qemu', 0o755, 64055),
)
GOOD = Store(
    '/srv/fbm',
    mount=XFS,
    directories=DIRECTORIES,
    size_bytes=1000 * 2**20,
    free_bytes=600 * 2**20,
    ram_bytes=400 * 2**20,
)
QEMU = frozenset({64055})


def texts(capacity_mib=1000, qemu_uids=QEMU, **changes):
    store = replace(GOOD, **changes)
    return [one.text for one in problems(store, capacity_mib, qemu_uids, frozenset({0}))]


def mounted(**changes):
    return XFS._replace(**changes)


def first_directory(mode, uid=0):
    return (Directory('/srv/fbm', mode, uid), *DIRECTORIES[1:])


def test_a_healthy_store():
    assert texts() == texts(expected_mount='/srv/fbm') == texts(expected_mount='/') == []


@pytest.mark.parametrize('capacity_mib', [1, 999, 1000])
def test_the_capacity_less_what_guests_hold_must_be_free(capacity_mib):
    assert texts(capacity_mib) == []


def test_a_store_that_cannot_hold_the_capacity():
    (text,) = texts(1100)
    assert '1100 MiB, of which running guests hold 400, and 600 MiB are free: 100 MiB too' in text
    assert 'set [libvirt]file_backed_memory to 1000 or less' in text
    assert 'fbm-status guests' in text


@pytest.mark.parametrize(
    ('exposed', 'named'),
    [
        (('/a',), '(/a):'),
        (('/a', '/b'), '(/a, /b):'),
        (('/a', '/b', '/c'), '(/a, /b and 1 more):'),
        (('/a', '/b', '/c', '/d', '/e'), '(/a, /b and 3 more):'),
    ],
)
def test_memory_that_every_user_can_read(exposed, named):
    (text,) = texts(exposed=exposed)
    assert f'{named} chmod o-x /srv/fbm/libvirt/qemu' in text


LOWER = mounted(mount_point='/srv')
PROBLEMS = {
    'cannot be checked: it does not answer; check its device': {'error': 'it does not answer'},
    'does not exist; libvirtd would create it': {'mount': None},
    'is not a directory': {'is_directory': False},
    'is on the root filesystem, which guests would fill': {'mount': mounted(mount_point='/')},
    'is on /srv, expected on /srv/fbm (fstab,': {'mount': LOWER, 'expected_mount': '/srv/fbm'},
    'is on /, expected on /srv': {'mount': mounted(mount_point='/'), 'expected_mount': '/srv'},
    'is a nfs4 filesystem (network)': {'mount': mounted(filesystem='nfs4')},
    'is a fuse.sshfs filesystem (userspace)': {'mount': mounted(filesystem='fuse.sshfs')},
    'is a overlay filesystem (container)': {'mount': mounted(filesystem='overlay')},
    'is a ramfs filesystem (kernel)': {'mount': mounted(filesystem='ramfs')},
    'has no limit: mount it with size=': {'size_bytes': 0},
    'is read-only, as': {'mount': mounted(options=frozenset({'ro'}))},
    'is read-only,': {'mount': mounted(options=frozenset({'rw', 'emergency_ro'}))},
    'the store was mounted later': {'directories': DIRECTORIES[:2]},
    '/srv/fbm can be written by every user of the host (mode 0777); chmod o-w /srv/fbm': {
        'directories': first_directory(0o777)
    },
    '/srv/fbm belongs to user id 1000': {'directories': first_directory(0o755, 1000)},
    'QEMU (user id 64055) cannot enter /srv/fbm (mode 0700)': {
        'directories': first_directory(0o700)
    },
}


@pytest.mark.parametrize(('part', 'changes'), PROBLEMS.items(), ids=PROBLEMS)
def test_each_problem(part, changes):
    (text,) = texts(**changes)
    assert part in text


@pytest.mark.parametrize(
    'filesystem', ['xfs', 'ext4', 'btrfs', 'zfs', 'tmpfs', 'hugetlbfs', 'novelfs']
)
def test_local_and_unknown_filesystems_are_fit(filesystem):
    assert texts(mount=mounted(filesystem=filesystem)) == []


@pytest.mark.parametrize('mode', [0o775, 0o1777])
def test_where_others_cannot_replace_files(mode):
    assert texts(directories=first_directory(mode)) == []


def test_who_gets_in():
    """As root QEMU gets in everywhere; its own directory it may close to others."""
    closed = tuple(Directory(directory.path, 0o700, 0) for directory in DIRECTORIES)
    assert texts(qemu_uids=frozenset({0}), directories=closed) == []
    assert len(texts(directories=closed)) == 3
    own = (*DIRECTORIES[:2], Directory('/srv/fbm/libvirt/qemu', 0o700, 64055))
    assert texts(directories=own) == []


def test_where_it_is_not_known_whom_qemu_runs_as():
    """No owner is wrong then, but a directory that every user can write to is."""
    assert texts(qemu_uids=frozenset()) == []
    (text,) = texts(qemu_uids=frozenset(), directories=first_directory(0o777, 64055))
    assert 'chmod o-w' in text


def test_a_problem_that_prevents_other_checks_is_the_only_one():
    assert len(texts(5000, mount=mounted(mount_point='/'))) == 1
    assert len(texts(5000, directories=first_directory(0o777))) == 2


@pytest.mark.parametrize('path', ['/tmp/fbm', '/var/tmp/fbm'])
def test_a_directory_for_temporary_files_is_no_place_for_a_store(path):
    assert misplaced(path).text.startswith(f'the store {path} is in a directory for temporary')


@pytest.mark.parametrize('path', ['/srv/fbm', '/tmpfs', '/srv/tmp/fbm'])
def test_other_directories_are(path):
    assert misplaced(path) is None


def test_what_the_store_is_is_known_only_where_it_is_mounted():
    assert is_disk(GOOD) is True
    assert is_disk(replace(GOOD, mount=mounted(filesystem='tmpfs'))) is False
    for changes in ({'mount': None}, {'mount': LOWER, 'expected_mount': '/srv/fbm'}):
        assert is_disk(replace(GOOD, **changes)) is None

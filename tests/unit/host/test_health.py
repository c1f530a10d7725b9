# SPDX-License-Identifier: Apache-2.0
"""The rules of a healthy store, one by one, with the words that an operator reads."""

from dataclasses import replace

import pytest

from fbm_placement.host.health import MIB, problems
from fbm_placement.host.mounts import Mount
from fbm_placement.host.store import Directory, Store

XFS = Mount('/srv/fbm', 'xfs', '/dev/nvme0n1', '259:3', frozenset({'rw'}))
DIRECTORIES = (
    Directory('/srv/fbm', 0o755, 0),
    Directory('/srv/fbm/libvirt', 0o755, 0),
    Directory('/srv/fbm/libvirt/qemu', 0o755, 64055),
)
GOOD = Store(
    '/srv/fbm',
    mount=XFS,
    directories=DIRECTORIES,
    size_bytes=1000 * MIB,
    free_bytes=600 * MIB,
    ram_bytes=400 * MIB,
)
QEMU = frozenset({64055})


def reasons(promised_mib=1000, **changes):
    return tuple(str(p) for p in problems(replace(GOOD, **changes), promised_mib, QEMU))


def mounted(**changes):
    return XFS._replace(**changes)


def test_a_healthy_store():
    assert reasons() == ()
    assert reasons(expected_mount='/srv/fbm') == ()
    assert reasons(expected_mount='/') == ()


def test_exactly_what_is_promised_is_enough():
    """Promised, less what running guests hold, has to fit into what is free."""
    assert reasons(1000) == ()
    (reason,) = reasons(1001)
    assert '1001 MiB, of which running guests hold 400, and 600 MiB are free' in reason
    assert '1 MiB too little' in reason
    assert 'set [libvirt]file_backed_memory to 1000 or less' in reason
    assert 'fbm-status guests' in reason


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            {'error': 'it does not answer (no answer in 5 s)'},
            'cannot be looked at: it does not answer (no answer in 5 s); look at its device',
        ),
        ({'mount': None}, 'does not exist; libvirtd would create it'),
        ({'is_directory': False}, 'is not a directory'),
        (
            {'mount': mounted(mount_point='/', filesystem='ext4')},
            '/srv/fbm is on the root filesystem, which guests would fill',
        ),
        (
            {'mount': mounted(mount_point='/srv'), 'expected_mount': '/srv/fbm'},
            '/srv/fbm is on /srv, expected on /srv/fbm (fstab, or seen there earlier)',
        ),
        (
            {'mount': mounted(mount_point='/'), 'expected_mount': '/srv/fbm'},
            'is on /, expected on /srv/fbm',
        ),
        ({'mount': mounted(filesystem='nfs4')}, 'is a nfs4 filesystem (network)'),
        ({'mount': mounted(filesystem='fuse.sshfs')}, 'is a fuse.sshfs filesystem (userspace)'),
        ({'mount': mounted(filesystem='overlay')}, 'is a overlay filesystem (container)'),
        ({'mount': mounted(filesystem='ramfs')}, 'is a ramfs filesystem (kernel)'),
        ({'size_bytes': 0}, 'has no size of its own'),
        ({'mount': mounted(options=frozenset({'ro'}))}, 'is read-only'),
        ({'mount': mounted(options=frozenset({'rw', 'emergency_ro'}))}, 'is read-only'),
        ({'directories': DIRECTORIES[:2]}, 'the store was mounted after that'),
        (
            {'directories': (Directory('/srv/fbm', 0o777, 0), *DIRECTORIES[1:])},
            '/srv/fbm can be written by every user of the host (mode 0777); chmod o-w /srv/fbm',
        ),
        (
            {'directories': (Directory('/srv/fbm', 0o755, 1000), *DIRECTORIES[1:])},
            '/srv/fbm belongs to user id 1000',
        ),
        (
            {'directories': (Directory('/srv/fbm', 0o700, 0), *DIRECTORIES[1:])},
            'QEMU (user id 64055) cannot enter /srv/fbm (mode 0700)',
        ),
        (
            {'exposed': ('/a', '/b', '/c')},
            'can read the memory of guests (/a, /b and 1 more): chmod o-x /srv/fbm/libvirt/qemu',
        ),
    ],
)
def test_each_problem_in_its_words(changes, words):
    (reason,) = reasons(**changes)
    assert words in reason


@pytest.mark.parametrize('filesystem', ['xfs', 'ext4', 'btrfs', 'zfs', 'tmpfs', 'hugetlbfs'])
def test_local_filesystems_are_fit(filesystem):
    """One that nobody has heard of is too; it counts as disk."""
    assert reasons(mount=mounted(filesystem=filesystem)) == ()
    assert reasons(mount=mounted(filesystem='novelfs')) == ()


def test_who_gets_in():
    """As root QEMU gets in everywhere; its own directory it may close to others."""
    closed = tuple(Directory(directory.path, 0o700, 0) for directory in DIRECTORIES)
    assert problems(replace(GOOD, directories=closed), 1000, frozenset({0})) == ()
    assert len(problems(replace(GOOD, directories=closed), 1000, QEMU)) == 3
    own = (*DIRECTORIES[:2], Directory('/srv/fbm/libvirt/qemu', 0o700, 64055))
    assert reasons(directories=own) == ()


def test_where_nobody_knows_whom_qemu_runs_as():
    """No owner is wrong then, but what anybody can write is."""
    assert problems(GOOD, 1000, frozenset()) == ()
    open_to_all = (Directory('/srv/fbm', 0o777, 64055), *DIRECTORIES[1:])
    (reason,) = problems(replace(GOOD, directories=open_to_all), 1000, frozenset())
    assert 'chmod o-w' in reason.text


def test_what_stands_in_the_way_of_the_other_rules_is_told_alone():
    assert len(reasons(5000, mount=mounted(mount_point='/'))) == 1


def test_what_does_not_is_told_at_once():
    assert len(reasons(5000, directories=(Directory('/srv/fbm', 0o777, 0), *DIRECTORIES[1:]))) == 2

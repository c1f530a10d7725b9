# SPDX-License-Identifier: Apache-2.0
"""mountinfo, as the kernel writes it, and fstab. The hook finds mounts by the same functions."""

import os

import pytest

from fbm_placement.host import mounts
from fbm_placement.host.mounts import mount_of, parse_mountinfo
from fbm_placement.model import Mount

MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw,hidepid=invisible
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
41 27 259:3 / /srv/fbm ro,nosuid shared:9 master:3 - xfs /dev/nvme0n1 rw,attr2
42 27 0:30 / /srv/with\\040space rw - tmpfs a\\043\\134040b rw,size=64k
43 41 0:31 / /srv/fbm rw - tmpfs later rw
44 27 broken
45 27 0:32 / - tmpfs tmpfs rw
46 27 0:32 / /srv/x rw - tmpfs tmpfs
47 27 0:32 / /srv/x rw
48 27 0:33 / /srv/ram rw,relatime - tmpfs  rw,size=8192k
"""


@pytest.fixture
def table():
    return parse_mountinfo(MOUNTINFO.split('\n'))


def test_the_mount_that_is_seen_is_the_longest_and_the_last(table):
    assert mount_of('/srv/fbm/libvirt', table).source == 'later'
    assert mount_of('/srv/fbm', table).source == 'later'
    assert mount_of('/srv/fbm2', table).mount_point == '/'
    assert mount_of('/', table).filesystem == 'ext4'
    assert mount_of('/proc/self', table).filesystem == 'proc'
    assert mount_of('/srv/with space/x', table).source == 'a#\\040b'
    assert mount_of('/elsewhere', table[:1]) is None


def test_what_is_known_of_a_mount(table):
    """A sandbox shows it read-only (the 6th field); the filesystem itself (the last) is not."""
    options = frozenset({'rw', 'attr2'})
    assert table[2] == Mount('/srv/fbm', 'xfs', '/dev/nvme0n1', '259:3', '/', options, '41', '27')


@pytest.mark.parametrize(
    ('path', 'mount_point'),
    [
        ('/home/x/fbm', '/'),
        ('/srv/fbm', '/srv/fbm'),
        ('/srv/other', '/srv/other'),
    ],
)
def test_a_directory_bound_onto_itself_is_no_mount(path, mount_point):
    """So systemd makes /home read-only for a unit; an operator binds another directory."""
    table = parse_mountinfo(
        [
            '27 1 254:0 /@ / rw - ext4 /dev/vda rw',
            '30 27 254:0 /@/home /home ro - ext4 /dev/vda rw',
            '31 30 254:0 /@/home/x /home/x ro - ext4 /dev/vda rw',
            '32 27 254:0 /@/data/fbm /srv/fbm rw - ext4 /dev/vda rw',
            '33 27 254:16 /@/srv/other /srv/other rw - xfs /dev/vdb rw',
        ]
    )
    assert mount_of(path, table).mount_point == mount_point


SUBVOLUMES = parse_mountinfo(
    [
        '27 1 0:25 / / rw - ext4 /dev/vda rw',
        '64 27 0:39 / /srv rw - btrfs /dev/vdb rw,subvolid=5,subvol=/',
        '65 64 0:39 /fbm /srv/fbm rw - btrfs /dev/vdb rw,subvolid=256,subvol=/fbm',
        '66 64 0:39 /plain /srv/plain rw - btrfs /dev/vdb rw,subvolid=5,subvol=/',
    ]
)


@pytest.mark.parametrize(
    ('path', 'mount_point'),
    [('/srv/fbm/libvirt', '/srv/fbm'), ('/srv/nested', '/srv'), ('/srv/plain', '/srv')],
)
def test_a_subvolume_that_is_mounted_where_it_lies(path, mount_point):
    """As Linux 6.18 shows it; a plain directory that is bound there differs in subvolid only."""
    assert mount_of(path, SUBVOLUMES).mount_point == mount_point


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('/srv/fbm/x', 'cover'),
        ('/opt/fbm', 'third'),
        ('/opt/fbm/deep', 'third'),
        ('/mnt/auto', '/dev/vdb'),
        ('/run', 'run'),
    ],
)
def test_a_mount_that_another_covers_is_not_seen(path, source):
    table = parse_mountinfo(
        [
            '1 1 0:2 / / rw - rootfs rootfs rw',
            '27 1 254:0 / / rw - ext4 /dev/vda rw',
            '28 1 0:9 / /run rw - tmpfs hidden rw',
            '29 27 0:10 / /run rw - tmpfs run rw',
            '40 27 0:40 / /srv/fbm rw - tmpfs covered rw',
            '41 27 0:41 / /srv rw - tmpfs cover rw',
            '50 27 0:50 / /opt/fbm rw - tmpfs first rw',
            '53 52 0:53 / /opt/fbm/deep rw - tmpfs deep rw',
            '54 50 0:54 / /opt/fbm rw - tmpfs third rw',
            '60 27 0:60 / /mnt/auto rw - autofs systemd-1 rw',
            '61 60 254:16 / /mnt/auto rw - xfs /dev/vdb rw',
        ]
    )
    assert mount_of(path, table).source == source


def test_where_the_root_is_no_mount_as_in_a_chroot():
    table = parse_mountinfo(
        [
            '70 27 0:70 / /srv rw - tmpfs a rw',
            '71 27 0:71 / /srv/fbm rw - tmpfs covered rw',
            '72 70 0:72 / /srv/ram rw - tmpfs b rw',
        ]
    )
    assert mount_of('/srv/fbm', table).source == 'a'
    assert mount_of('/srv/ram', table).source == 'b'
    assert mount_of('/opt', table) is None


def test_a_table_that_leads_in_circles_ends():
    circle = ['80 81 0:80 / /a rw - tmpfs a rw', '81 80 0:81 / /a rw - tmpfs b rw']
    assert mount_of('/a', parse_mountinfo(circle)) is None


def test_names_as_the_kernel_escapes_them(tmp_path):
    """Spaces, tabs, line ends and backslashes in octal; all else as it is, optional fields too."""
    file = tmp_path / 'mountinfo'
    file.write_bytes(
        b'90 1 0:90 /a\\040b /srv/a\\011b\\012c\\134d rw shared:7 master:1 - tmpfs \\043x rw\n'
        b'91 1 0:91 / /srv/c\rr\x0bv\xc2\x85n\xff rw - fuse.x none rw\n'
    )
    first, second = mounts.read_mounts(str(file))
    assert (first.mount_point, first.root, first.source) == ('/srv/a\tb\nc\\d', '/a b', '#x')
    assert second.mount_point == '/srv/c\rr\x0bv\x85n\udcff'


def test_a_source_may_be_empty(table):
    """Fields are separated by single spaces."""
    options = frozenset({'rw', 'size=8192k'})
    assert table[-1] == Mount('/srv/ram', 'tmpfs', '', '0:33', '/', options, '48', '27')


def test_a_line_that_is_not_as_documented_is_left_out(table):
    assert len(table) == 6


def test_the_machines_own_table_can_be_read():
    found = mount_of(os.path.realpath('/proc/self/mountinfo'), mounts.read_mounts())
    assert found.filesystem == 'proc'


def test_fstab(tmp_path):
    file = tmp_path / 'fstab'
    file.write_text(
        '# a comment /not/here\n\nUUID=1 / ext4 defaults 0 1\n'
        '/dev/nvme0n1 /srv/fbm/ xfs noatime 0 2\n/swap none swap sw 0 0\nhalf\n'
    )
    assert mounts.read_fstab(str(file)) == ('/', '/srv/fbm')
    assert mounts.read_fstab(str(tmp_path / 'none')) == ()

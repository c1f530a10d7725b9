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
    return parse_mountinfo(MOUNTINFO.splitlines(keepends=True))


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
    assert table[2] == Mount('/srv/fbm', 'xfs', '/dev/nvme0n1', '259:3', '/', options)


def test_a_directory_bound_onto_itself_is_no_mount():
    """So systemd makes /home read-only for a unit; an operator binds another directory."""
    table = (
        Mount('/', 'ext4', '/dev/vda', '254:0', '/@'),
        Mount('/home', 'ext4', '/dev/vda', '254:0', '/@/home'),
        Mount('/home/x', 'ext4', '/dev/vda', '254:0', '/@/home/x'),
        Mount('/srv/fbm', 'ext4', '/dev/vda', '254:0', '/@/data/fbm'),
        Mount('/srv/other', 'xfs', '/dev/vdb', '254:16', '/@/srv/other'),
    )
    assert mount_of('/home/x/fbm', table).mount_point == '/'
    assert mount_of('/srv/fbm', table).mount_point == '/srv/fbm'
    assert mount_of('/srv/other', table).mount_point == '/srv/other'


def test_a_source_may_be_empty(table):
    """Fields are separated by single spaces."""
    options = frozenset({'rw', 'size=8192k'})
    assert table[-1] == Mount('/srv/ram', 'tmpfs', '', '0:33', '/', options)


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

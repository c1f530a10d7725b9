# SPDX-License-Identifier: Apache-2.0
"""qemu.conf, and libvirt's defaults for what it does not set."""

import os
import pwd

import pytest

from fbm_placement import errors
from fbm_placement.host.qemu_conf import QemuConf, parse, read_qemu_conf


def test_without_settings_libvirts_defaults_count(tmp_path):
    path = tmp_path / 'qemu.conf'
    assert read_qemu_conf(str(path)) == QemuConf('/var/lib/libvirt/qemu/ram', None)
    path.write_text('#memory_backing_dir = "/commented/out"\n# user = "x"\n')
    assert read_qemu_conf(str(path)) == QemuConf()


def test_the_first_of_several_settings_counts(tmp_path):
    path = tmp_path / 'qemu.conf'
    path.write_text(
        '  user = \'root\' # why\nmemory_backing_dir="/srv/fbm"\nmemory_backing_dir = "/b"\n'
    )
    conf = read_qemu_conf(str(path))
    assert conf == QemuConf('/srv/fbm', 'root')
    assert conf.uids == {0}


@pytest.mark.parametrize(
    ('text', 'directory'),
    [
        ('user = "nova"; group = "nova"; memory_backing_dir = "/srv/ram"', '/srv/ram'),
        (
            'foo = """a\nmemory_backing_dir = "/x"\nb"""\nmemory_backing_dir = "/srv/ram"',
            '/srv/ram',
        ),
        ('memory_backing_dir = "/srv/ram"\rb = 1', '/srv/ram'),
        ('memory_backing_dir = "/srv/ram"\r\n', '/srv/ram'),
        ("memory_backing_dir = '/srv/\"ram' # why", '/srv/"ram'),
        ('memory_backing_dir = "/srv/#ram"', '/srv/#ram'),
        ('memory_backing_dir = "C:\\\\ram"', 'C:\\\\ram'),
        ('memory_backing_dir = """/srv/ram"""\n', '/srv/ram'),
        ('memory_backing_dir = "/srv/a\x0bb\x85c\u2028d"', '/srv/a\x0bb\x85c\u2028d'),
        ('devices = [\n "/dev/a",\n [1, -2,],\n]\nmemory_backing_dir="/srv/ram"', '/srv/ram'),
        ('n = [] ;\t memory_backing_dir = ""', '/'),
        (
            '# memory_backing_dir = "/x"; user = "y"\nMemory_backing_dir = "/x"',
            '/var/lib/libvirt/qemu/ram',
        ),
    ],
)
def test_the_grammar_of_libvirt(tmp_path, text, directory):
    path = tmp_path / 'qemu.conf'
    path.write_bytes(text.encode())
    assert read_qemu_conf(str(path)).memory_backing_dir == directory


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('user = "x"\nmemory_backing_dir /srv/ram\n', 'line 2 is not NAME = VALUE'),
        ('memory_backing_dir = /srv/ram', 'line 1 is not NAME = VALUE'),
        ('memory_backing_dir = "/srv\nram"', 'line 1 is not NAME = VALUE'),
        ('a = 1 b = 2', 'line 1 is not NAME = VALUE'),
        ('a = 1;;', 'line 1 is not NAME = VALUE'),
        ('\n', 'line 1 is not NAME = VALUE'),
        ('a = [1 2]', 'line 1 is not NAME = VALUE'),
        ('a = [,]', 'line 1 is not NAME = VALUE'),
        ('a = [1', 'line 1 is not NAME = VALUE'),
        ('a = """x', 'line 1 is not NAME = VALUE'),
        ('a = """"""', 'line 1 is not NAME = VALUE'),
        ('_a = 1', 'line 1 is not NAME = VALUE'),
        ('\ufeffa = 1', 'line 1 is not NAME = VALUE'),
        ('memory_backing_dir = 5', 'memory_backing_dir is not a text in quotes'),
        ('user = 0\nuser = "root"', 'user is not a text in quotes'),
        ('a = ' + '[' * 100_000, 'maximum recursion depth'),
    ],
)
def test_what_libvirtd_does_not_start_with(tmp_path, text, reason):
    path = tmp_path / 'qemu.conf'
    path.write_text(text)
    with pytest.raises(errors.HostError) as caught:
        read_qemu_conf(str(path))
    assert str(caught.value).startswith(f'{path}: {reason}')
    assert str(caught.value).endswith('correct it, then restart libvirtd')


def test_values_that_are_no_text_are_known_to_be_there():
    assert parse('a = 1; b = [1]; c = "x"; a = "y"') == {'a': None, 'b': None, 'c': 'x'}


def test_whom_qemu_runs_as():
    """A number has a plus sign; a name that is unknown here is no user."""
    me = pwd.getpwuid(os.getuid())
    assert QemuConf(user=me.pw_name).uids == {me.pw_uid}
    assert QemuConf(user='+64055').uids == {64055}
    assert QemuConf(user='no-such-user').uids == frozenset()


def test_one_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(errors.HostError, match=r'memory_backing_dir in it: run as root or'):
        read_qemu_conf(str(tmp_path))

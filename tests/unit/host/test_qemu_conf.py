# SPDX-License-Identifier: Apache-2.0
"""qemu.conf, and libvirt's defaults for what it does not set."""

import os
import pwd

import pytest

from fbm_placement import errors
from fbm_placement.host.qemu_conf import QemuConf, dram_mib, read_qemu_conf


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


def test_whom_qemu_runs_as():
    """A number has a plus sign; a name that is unknown here is no user."""
    me = pwd.getpwuid(os.getuid())
    assert QemuConf(user=me.pw_name).uids == {me.pw_uid}
    assert QemuConf(user='+64055').uids == {64055}
    assert QemuConf(user='no-such-user').uids == frozenset()


def test_one_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(errors.HostError, match=r'memory_backing_dir in it: run as root or'):
        read_qemu_conf(str(tmp_path))


def test_dram_is_what_the_kernel_has():
    with open('/proc/meminfo', encoding='ascii') as file:
        kib = int(file.readline().split()[1])
    assert abs((dram_mib() or 0) - kib // 1024) <= 1

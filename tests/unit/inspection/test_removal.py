# SPDX-License-Identifier: Apache-2.0
"""Removing orphans: what goes, and everything that must stay."""

import os
import signal
import time

import pytest

from fbm_placement.inspection import orphans, removal
from fbm_placement.inspection.domains import Domains
from fbm_placement.inspection.files_in_use import FilesInUse, files_in_use
from tests.unit.inspection.fake_host import HOLDERS


def checks(host, **changed):
    """Return real checks, on the host's /proc."""
    real = {
        'in_use': lambda: files_in_use(str(host.proc), but_of=os.getpid()),
        'domains': Domains,
        'now': time.time,
    }
    return removal.Checks(**real | changed)


def listed(host):
    (orphan,) = orphans.ram_files(str(host.store))
    return orphan


def no_lease(*args):
    raise OSError(22, 'Invalid argument')


def test_the_file_and_its_empty_directory_go(host):
    file = host.file(size=100_000)
    allocated = file.stat().st_blocks * 512
    assert removal.remove(listed(host), checks(host)) == allocated > 0
    assert list(host.ram.iterdir()) == []


def test_a_directory_with_another_file_stays(host):
    file = host.file()
    orphan = listed(host)
    host.file('1-instance-00000001/other')
    removal.remove(orphan, checks(host))
    assert not file.exists()
    assert (file.parent / 'other').exists()


def test_a_directory_that_libvirt_made_just_now_stays(host):
    file = host.file()
    os.utime(file.parent)
    removal.remove(listed(host), checks(host))
    assert not file.exists()
    assert file.parent.exists()


@pytest.mark.parametrize('how', HOLDERS)
@pytest.mark.parametrize('leases', [True, False])
def test_a_file_that_is_opened_after_the_listing_stays(host, hold, monkeypatch, how, leases):
    """Without leases, as on some filesystems, the look at all processes finds it."""
    file = host.file()
    orphan = listed(host)
    hold(file, how)
    if not leases:
        monkeypatch.setattr(removal.fcntl, 'fcntl', no_lease)
    with pytest.raises(removal.LeftError, match='in use' if not leases else 'has it open|in use'):
        removal.remove(orphan, checks(host))
    assert file.exists()


@pytest.mark.parametrize('how', HOLDERS)
def test_the_kernel_knows_of_a_process_that_cannot_be_seen(host, hold, how):
    """As one in another process namespace."""
    file = host.file()
    hold(file, how, seen=False)
    with pytest.raises(removal.LeftError, match='a process has it open'):
        removal.remove(listed(host), checks(host))
    assert file.exists()


def test_whoever_opens_it_during_the_last_look_waits(host, hold):
    """And the signal that tells us of it doesn't end this process."""
    file = host.file()
    orphan = listed(host)
    opened = []

    def look():
        pid = os.fork()
        if pid == 0:
            signal.alarm(5)
            try:
                os.close(os.open(file, os.O_RDWR | os.O_NONBLOCK))
            except BlockingIOError:
                os._exit(7)
            os._exit(0)
        opened.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return FilesInUse()

    assert removal.remove(orphan, checks(host, in_use=look)) > 0
    assert opened == [7]
    assert signal.getsignal(signal.SIGIO) == signal.SIG_DFL


def test_a_guest_that_started_since_keeps_its_file(host):
    file = host.file()
    running = Domains(directories=frozenset({'1-instance-00000001'}))
    with pytest.raises(removal.LeftError, match='in use by now'):
        removal.remove(listed(host), checks(host, domains=lambda: running))
    assert file.exists()


def test_a_young_file_stays(host):
    file = host.file(age=50)
    with pytest.raises(removal.LeftError, match='less than 60 s ago'):
        removal.remove(listed(host), checks(host))
    assert file.exists()


def test_another_file_with_the_same_name_stays(host):
    file = host.file()
    orphan = listed(host)
    file.rename(file.with_name('kept'))
    host.file()
    with pytest.raises(removal.LeftError, match='another file'):
        removal.remove(orphan, checks(host))
    assert file.exists()


@pytest.mark.parametrize('replaced', ['file', 'directory', 'qemu'])
def test_a_link_is_never_followed(host, tmp_path, replaced):
    """QEMU's user could put it there between the listing and the removal."""
    file = host.file()
    orphan = listed(host)
    victim = {'file': file, 'directory': file.parent, 'qemu': host.ram}[replaced]
    victim.rename(tmp_path / 'moved')
    victim.symlink_to(tmp_path / 'moved')
    with pytest.raises(removal.LeftError, match='link'):
        removal.remove(orphan, checks(host))
    assert file.exists()


def test_a_file_that_is_gone_is_told(host):
    file = host.file()
    orphan = listed(host)
    file.unlink()
    with pytest.raises(removal.LeftError, match='it is gone'):
        removal.remove(orphan, checks(host))


def test_a_file_with_another_name_elsewhere_frees_nothing(host, tmp_path):
    file = host.file()
    (tmp_path / 'second').hardlink_to(file)
    assert removal.remove(listed(host), checks(host)) == 0
    assert not file.exists()
    assert (tmp_path / 'second').exists()


def test_what_cannot_be_removed_is_told(host, monkeypatch):
    host.file()

    def unlink(*args, **kwargs):
        raise OSError(30, 'Read-only file system')

    monkeypatch.setattr(os, 'unlink', unlink)
    with pytest.raises(removal.LeftError, match='Read-only file system'):
        removal.remove(listed(host), checks(host))


def test_no_descriptor_is_left_open(host):
    before = len(os.listdir('/proc/self/fd'))
    host.file()
    removal.remove(listed(host), checks(host))
    assert len(os.listdir('/proc/self/fd')) == before

# SPDX-License-Identifier: Apache-2.0
"""Which files are orphans, and which of them stay.

The files are used by this process itself: for the kernel that is the same as another process.
tests/e2e/test_orphans.py has other processes, namespaces and filesystems.
"""

import errno
import mmap
import os
import signal
import time

import pytest

from fbm_placement.guests import orphans

GUEST = '1-instance-00000001'


def mapped(path, mode, flags, protection):
    with path.open(mode) as file:
        return mmap.mmap(file.fileno(), 0, flags, protection)


USES = {
    'opened': lambda path: path.open('rb'),
    'mapped': lambda path: mapped(path, 'r+b', mmap.MAP_SHARED, mmap.PROT_WRITE),
    'mapped privately': lambda path: mapped(path, 'rb', mmap.MAP_PRIVATE, mmap.PROT_READ),
}


@pytest.fixture
def leases(monkeypatch):
    real = orphans.fcntl.fcntl

    def change(answer):
        def fcntl(descriptor, command, argument):
            return (answer if command == orphans.fcntl.F_SETLEASE else real)(
                descriptor, command, argument
            )

        monkeypatch.setattr(orphans.fcntl, 'fcntl', fcntl)
        return real

    return change


def find(host, used=()):
    return orphans.find(str(host.store), used, time.time())


def found(host, used=()):
    return [f'{one.directory}/{one.name}' for one in find(host, used)]


def remove(listed, *, later=120):
    return orphans.remove(listed, time.time() + later)


def reason(listed, **options):
    (one,) = remove(listed, **options)
    assert not one.removed
    return one.left_because


def test_an_orphan_has_a_size_and_an_age(host):
    file = host.file(size=100_000)
    status = file.stat()
    (one,) = orphans.find(str(host.store), (), status.st_mtime + 90)
    assert (one.path, one.size_bytes, one.age_seconds) == (str(file), 100_000, 90)
    assert one.allocated_bytes == status.st_blocks * 512
    (of_the_future,) = orphans.find(str(host.store), (), status.st_mtime - 90)
    assert of_the_future.age_seconds == 0


@pytest.mark.parametrize('use', USES.values(), ids=USES)
def test_a_file_in_use_is_none(host, use):
    used = host.file()
    host.file('2-instance-00000002/pc.ram')
    with use(used):
        assert found(host) == ['2-instance-00000002/pc.ram']
    assert len(found(host)) == 2


def test_a_file_of_a_guest_that_was_seen_is_none(host):
    host.file(f'{GUEST}/pc.ram')
    host.file('2-instance-00000002/pc.ram')
    assert found(host, used={GUEST}) == ['2-instance-00000002/pc.ram']


def test_no_file_is_an_orphan_where_there_are_no_leases(host, leases):
    host.file()

    def refuse(*args):
        raise OSError(errno.EINVAL, 'Invalid argument')

    leases(refuse)
    with pytest.raises(OSError, match=r'grants no lease on it \(Invalid argument\)'):
        find(host)


def test_links_and_what_libvirt_did_not_make_are_left_out(host, tmp_path):
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / 'precious').write_text('x')
    (host.ram / '1-linked').symlink_to(outside)
    (host.ram / '2-guest').mkdir()
    (host.ram / '2-guest/pc.ram').symlink_to(outside / 'precious')
    os.mkfifo(host.ram / '2-guest/fifo')
    (host.ram / '2-guest/directory').mkdir()
    host.file('not-a-guest/pc.ram')
    (host.ram / '3-file').write_text('x')
    assert found(host) == []


def test_a_store_with_a_link_in_it_is_not_searched(host, tmp_path):
    """QEMU's user may write in a store; where the link leads, nothing must be listed."""
    host.file()
    (host.store / 'libvirt').rename(tmp_path / 'elsewhere')
    (host.store / 'libvirt').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(NotADirectoryError, match='libvirt is a link or a file'):
        find(host)


def test_the_store_itself_may_be_a_link(host, tmp_path):
    host.file()
    (tmp_path / 'link').symlink_to(host.store)
    (one,) = orphans.find(str(tmp_path / 'link'), (), time.time())
    assert one.path.startswith(f'{tmp_path}/link/')


def test_what_is_mounted_in_a_guests_directory_is_not_of_the_store(host, monkeypatch):
    """Only root can mount, so here it is the store that seems to be another device."""
    host.file()
    fstat = os.fstat

    def of_another_device(descriptor):
        mode, inode, _device, *others = fstat(descriptor)
        return os.stat_result((mode, inode, -1, *others))

    monkeypatch.setattr(os, 'fstat', of_another_device)
    assert found(host) == []


def test_no_store_has_no_orphans(host):
    assert orphans.find(str(host.path / 'nowhere'), (), time.time()) == ()


def test_the_largest_comes_first(host):
    host.file('1-a/pc.ram', size=4096)
    host.file('2-b/pc.ram', size=400_000)
    assert found(host) == ['2-b/pc.ram', '1-a/pc.ram']
    assert [one.directory for one in remove(find(host))] == ['2-b', '1-a']


def test_the_files_and_their_empty_directory_are_removed(host):
    """And no descriptor is left open."""
    before = len(os.listdir('/proc/self/fd'))
    files = [host.file(f'{GUEST}/ram-node{number}', size=100_000) for number in range(2)]
    allocated = [file.stat().st_blocks * 512 for file in files]
    assert [one.freed_bytes for one in remove(find(host))] == allocated
    assert allocated[0] > 0
    assert list(host.ram.iterdir()) == []
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_directory_with_another_file_stays(host):
    file = host.file()
    listed = find(host)
    host.file(f'{GUEST}/other')
    assert remove(listed)[0].removed
    assert (file.parent / 'other').exists()


def test_a_directory_that_libvirt_prepared_just_now_stays(host):
    """For a guest that starts, it changes the owner of one that it finds."""
    file = host.file()
    os.chown(file.parent, os.geteuid(), os.getegid())
    assert remove(find(host), later=0)[0].removed
    assert file.parent.exists()


@pytest.mark.parametrize('use', USES.values(), ids=USES)
def test_a_file_that_is_used_since_stays(host, use):
    file = host.file()
    listed = find(host)
    with use(file):
        assert reason(listed) == 'a process has it open or mapped'
    assert file.exists()


def test_a_process_that_opens_the_file_meanwhile_waits(host, leases):
    """And the kernel's signal about it doesn't end this process."""
    file = host.file()
    listed = find(host)
    opened = []

    def open_then(*args):
        real(*args)
        try:
            os.close(os.open(file, os.O_RDWR | os.O_NONBLOCK))
        except BlockingIOError:
            opened.append('would wait')

    real = leases(open_then)
    assert found(host) == [f'{GUEST}/pc.ram']
    assert remove(listed)[0].removed
    assert opened == ['would wait', 'would wait']
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL


def test_a_young_file_is_listed_and_stays(host):
    file = host.file(age=50)
    assert reason(find(host), later=0) == 'it was written less than 60 s ago'
    assert file.exists()


@pytest.mark.parametrize('replaced', ['file', 'directory', 'qemu', 'by another file'])
def test_a_link_or_another_file_stays(host, tmp_path, replaced):
    """QEMU's user could put it there between the listing and the removal."""
    file = host.file()
    listed = find(host)
    victim = {'directory': file.parent, 'qemu': host.ram}.get(replaced, file)
    victim.rename(tmp_path / 'moved')
    if replaced == 'by another file':
        host.file()
    else:
        victim.symlink_to(tmp_path / 'moved')
    assert reason(listed) == 'a link or another file is in its place now'
    assert file.exists()


def test_a_file_with_another_name_elsewhere_frees_nothing(host, tmp_path):
    file = host.file()
    (tmp_path / 'second').hardlink_to(file)
    assert remove(find(host))[0].freed_bytes == 0
    assert not file.exists()
    assert (tmp_path / 'second').exists()


def test_a_file_that_is_gone_or_cannot_be_removed(host, monkeypatch):
    file = host.file()
    listed = find(host)
    file.unlink()
    assert reason(listed) == 'another program has removed it'
    host.file()

    def unlink(*args, **kwargs):
        raise OSError(errno.EROFS, 'Read-only file system')

    monkeypatch.setattr(os, 'unlink', unlink)
    assert reason(find(host)) == 'Read-only file system'

# SPDX-License-Identifier: Apache-2.0
"""Which files count as orphans: real files, held by real processes."""

import os

import pytest

from fbm_placement.inspection import domains, files_in_use, orphans, report
from fbm_placement.inspection.domains import Domains
from fbm_placement.inspection.files_in_use import FilesInUse
from tests.unit.inspection.fake_host import HOLDERS


def found(host):
    """Return the names of the orphans that a look finds."""
    in_use = files_in_use.files_in_use(str(host.proc))
    running = domains.running_domains(str(host.run), str(host.proc))
    files = orphans.ram_files(str(host.store))
    return [f'{one.directory}/{one.name}' for one in orphans.orphans(files, in_use, running)]


def runs(host, name, *, number=None, pid=4711, lives=True):
    """Have libvirt run a guest, as its run directory tells."""
    host.run.mkdir(exist_ok=True)
    (host.run / f'{name}.pid').write_text(f'{pid}\n')
    if number is not None:
        (host.run / f'{name}.xml').write_text(
            f"<domstatus state='running' pid='{pid}'>\n  <domain type='kvm' id='{number}'>\n"
        )
    if lives and not (host.proc / str(pid)).exists():
        host.process(pid, 'qemu-system-x86_64')


def test_a_file_that_nobody_uses_with_size_and_age(host):
    file = host.file(size=100_000)
    (one,) = orphans.ram_files(str(host.store))
    status = file.stat()
    assert (one.path, one.size_bytes) == (str(file), 100_000)
    assert one.allocated_bytes == status.st_blocks * 512
    assert one.age_seconds(status.st_mtime + 90) == 90
    assert found(host) == ['1-instance-00000001/pc.ram']


@pytest.mark.parametrize('how', HOLDERS)
def test_a_file_that_a_process_holds_is_none(host, hold, how):
    process = hold(host.file(), how)
    host.file('2-instance-00000002/pc.ram')
    assert found(host) == ['2-instance-00000002/pc.ram']
    process.kill()
    process.wait()
    assert len(found(host)) == 2


def test_on_btrfs_a_mapping_has_another_device_number(host):
    """The inode number alone has to do, whatever the device."""
    file = host.file()
    inode = file.stat().st_ino
    maps = host.process(10, 'some') / 'maps'
    maps.write_text(f'7f0000000000-7f0000002000 rw-s 00000000 00:ff {inode} {file}\n')
    assert found(host) == []
    maps.write_text(f'7f0000000000-7f0000002000 rw-s 00000000 00:01 {inode} /memfd:x (deleted)\n')
    assert len(found(host)) == 1


def test_a_descriptor_whose_filesystem_does_not_tell(host):
    """The kernel tells the inode number (Linux 5.14); an older one doesn't, and nobody knows."""
    inode = host.file().stat().st_ino
    directory = host.process(10, 'some')
    # A link to itself is an error other than "it is gone", for root as well.
    (directory / 'fd/3').symlink_to('3')
    (directory / 'fdinfo').mkdir()
    (directory / 'fdinfo/3').write_text(f'pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t{inode}\n')
    assert found(host) == []
    (directory / 'fdinfo/3').write_text('pos:\t0\n')
    with pytest.raises(OSError, match='does not tell the inode'):
        found(host)


def test_a_process_that_ends_meanwhile_holds_nothing(host):
    host.file()
    (host.proc / '99').symlink_to('/proc/nothing')
    assert len(found(host)) == 1


def test_the_directory_of_a_running_domain_is_in_use(host):
    """Libvirt cuts the name; after a reboot the same name has another id."""
    name = 'a-guest-with-a-name-that-is-long'
    host.file(f'3-{name[:20]}/pc.ram')
    host.file(f'7-{name[:20]}/pc.ram')
    runs(host, name, number=3)
    assert found(host) == [f'7-{name[:20]}/pc.ram']


def test_a_domain_without_a_known_id_keeps_every_directory_of_its_name(host):
    host.file('3-instance-00000001/pc.ram')
    host.file('7-instance-00000002/pc.ram')
    runs(host, 'instance-00000001')
    assert found(host) == ['7-instance-00000002/pc.ram']


def test_a_pid_file_that_a_crash_left_behind_keeps_nothing(host):
    host.file()
    runs(host, 'instance-00000001', number=1, lives=False)
    assert len(found(host)) == 1


@pytest.mark.parametrize('text', ['', 'soon'])
def test_a_half_written_pid_file_is_that_of_a_starting_guest(host, text):
    host.file()
    runs(host, 'instance-00000001', number=1, pid=text, lives=False)
    assert found(host) == []


def test_the_directory_on_a_running_guests_command_line_is_in_use(host):
    """Even if nothing else tells, as for a guest in a libvirt with another run directory."""
    host.file()
    path = f'{host.ram}/1-instance-00000001/pc.ram'
    guest = report.Guest(1, 'g', 'u', True, 64, report.Backing.FILE, (path,))
    assert report.running_domains([guest], host.places).use('1-instance-00000001')


def test_links_and_what_is_not_libvirts_are_left_out(host, tmp_path):
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
        found(host)


def test_the_store_itself_may_be_a_link(host, tmp_path):
    host.file()
    (tmp_path / 'link').symlink_to(host.store)
    (one,) = orphans.ram_files(str(tmp_path / 'link'))
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
    assert orphans.ram_files(str(host.path / 'nowhere')) == ()


def test_the_largest_comes_first(host):
    host.file('1-a/pc.ram', size=4096)
    host.file('2-b/pc.ram', size=400_000)
    assert found(host) == ['2-b/pc.ram', '1-a/pc.ram']


def test_nothing_is_in_use_of_an_empty_set():
    assert not FilesInUse().has(1, 2)
    assert not Domains().use('1-a')


@pytest.mark.parametrize('daemon', ['/usr/sbin/libvirtd', 'virtqemud'])
def test_another_process_namespace_hides_guests_unless_libvirt_is_in_it(host, daemon):
    proc = str(host.proc)
    assert files_in_use.why_unseen([], proc) is None
    host.in_namespace('pid:[4026532178]')
    assert 'no libvirtd or virtqemud' in files_in_use.why_unseen([(1, ['bash'])], proc)
    assert files_in_use.why_unseen([(1, ['bash']), (2, [daemon, '-l'])], proc) is None

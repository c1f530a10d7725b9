# SPDX-License-Identifier: Apache-2.0
"""Stores that are full, absent, late or gone, and what a crash leaves in them."""

import pytest

from tests.e2e.lab.domain import FILE_BACKED, Domain
from tests.e2e.lab.guest import Guest, create
from tests.e2e.lab.host import MEMORY_BACKING_DIR
from tests.e2e.lab.store import Disk, Tmpfs, hung

in_ram_and_on_disk = pytest.mark.parametrize('kind', [Tmpfs, Disk], ids=['tmpfs', 'ext4'])


@in_ram_and_on_disk
def test_full(boot, make_host, kind):
    host = make_host(store=kind(80))
    neighbour = boot(host, Domain(backing=FILE_BACKED))
    refused = Domain(memory=64, backing=FILE_BACKED)
    done = create(host, refused)
    assert done.returncode
    assert 'qemu_prealloc_mem: preallocating memory failed: Bad address' in done.stderr
    assert not Guest(host, refused).ram_files()
    assert neighbour.counts()


def test_not_mounted(boot, make_host):
    """Without a store libvirtd makes its directory, and guests fill the disk below it."""
    host = make_host()
    guest = boot(host, Domain(backing=FILE_BACKED))
    (file,) = guest.ram_files()
    assert file.stat().st_dev == host.path('/var/lib/nova').stat().st_dev


def test_mounted_late(make_host):
    """On a store that was mounted after libvirtd's start no guest starts: not as QEMU's user."""
    host = make_host()
    host.mount(Tmpfs(64))
    done = create(host, Domain(backing=FILE_BACKED))
    assert done.returncode
    assert "can't open backing store" in done.stderr
    assert 'for guest RAM: Permission denied' in done.stderr


def test_mounted_late_as_root(boot, make_host):
    host = make_host(user='root')
    host.mount(Tmpfs(64))
    (file,) = boot(host, Domain(backing=FILE_BACKED)).ram_files()
    assert file.stat().st_dev != host.path('/var/lib/nova').stat().st_dev


def test_mounted_late_outlives_a_restart(boot, make_host):
    """The try leaves a directory that QEMU's user can't enter, and libvirtd leaves it so."""
    host = make_host()
    host.mount(Tmpfs(64))
    create(host, Domain(backing=FILE_BACKED))
    host.stop_libvirtd()
    host.start_libvirtd()
    assert 'Permission denied' in create(host, Domain(backing=FILE_BACKED)).stderr
    host.run('chmod', '0755', f'{MEMORY_BACKING_DIR}/libvirt')
    assert boot(host, Domain(backing=FILE_BACKED)).ram_files()


def test_mounted_late_and_restarted_before_any_guest(boot, make_host):
    """A restart of libvirtd before the first guest sets a late mount right."""
    host = make_host()
    host.mount(Tmpfs(64))
    host.stop_libvirtd()
    host.start_libvirtd()
    assert boot(host, Domain(backing=FILE_BACKED)).ram_files()


def test_unmounted_under_guests(boot, make_host):
    """A store that is unmounted lazily keeps its guests; a new one goes to the disk below."""
    host = make_host(store=Tmpfs(64), user='root')
    guest = boot(host, Domain(backing=FILE_BACKED))
    host.unmount()
    assert guest.counts()
    assert not guest.ram_files()
    (file,) = boot(host, Domain(backing=FILE_BACKED)).ram_files()
    assert file.stat().st_dev == host.path('/var/lib/nova').stat().st_dev


def test_hung(boot, make_host):
    """While a filesystem hangs, statvfs does not return; the guests below run on."""
    host = make_host(store=Tmpfs(64))
    guest = boot(host, Domain(backing=FILE_BACKED))
    asking = host.process(['stat', '--file-system', MEMORY_BACKING_DIR], host.directory / 'stat')
    with hung(host.namespaces, MEMORY_BACKING_DIR, host.directory):
        asking.start()
        assert guest.counts()
        assert asking.running
    assert asking.wait()
    assert 'Transport endpoint is not connected' in asking.output


def test_crash_with_the_runtime_state_kept(boot, make_host):
    """After a crash of libvirtd and QEMU together, the next libvirtd removes the file."""
    host = make_host(store=Tmpfs(64))
    guest = boot(host, Domain(backing=FILE_BACKED))
    host.kill_libvirtd()
    guest.kill()
    assert guest.ram_files()
    host.start_libvirtd()
    guest.wait_until(lambda: not guest.ram_files(), 'cleaned up')


def test_crash_of_the_host(boot, make_host):
    """A crash of the host takes /run along, and with it who the file belongs to: it stays."""
    host = make_host(store=Disk(80))
    guest = boot(host, Domain(backing=FILE_BACKED))
    host.kill_libvirtd()
    guest.kill()
    host.run('rm', '-r', '/run/libvirt')
    host.start_libvirtd()
    assert host.virsh('list', '--all', '--name').stdout.split() == []
    assert guest.ram_files()
    # And it takes the room of others.
    done = create(host, Domain(memory=64, backing=FILE_BACKED))
    assert 'preallocating memory failed' in done.stderr

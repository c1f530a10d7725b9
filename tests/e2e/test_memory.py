# SPDX-License-Identifier: Apache-2.0
"""Where a guest's memory is."""

import pytest

from fbm_placement.host.origin import is_nova
from tests.e2e.lab.domain import FILE_BACKED, Domain, MemoryBacking
from tests.e2e.lab.store import Disk, Tmpfs


@pytest.mark.parametrize(
    'store', [Tmpfs(64), Disk(64, 'ext4'), Disk(400, 'xfs')], ids=['tmpfs', 'ext4', 'xfs']
)
def test_the_memory_is_the_file(boot, make_host, store):
    guest = boot(make_host(store=store), Domain(backing=FILE_BACKED))
    (file,) = guest.ram_files()
    assert file.name == 'pc.ram'
    (mapping,) = guest.mappings()
    assert mapping.permissions == 'rw-s'
    assert mapping.path.endswith(f'-{guest.name}/pc.ram')
    assert guest.has_pattern_in(file)
    seen = guest.counter_in(file)
    guest.wait_until(lambda: guest.counter_in(file) > seen, 'counting in its file')


def test_each_cell_has_its_file(boot, enabled):
    guest = boot(enabled, Domain(memory=64, cells=(32, 32), backing=FILE_BACKED))
    assert [file.name for file in guest.ram_files()] == ['ram-node0', 'ram-node1']
    assert {mapping.permissions for mapping in guest.mappings()} == {'rw-s'}
    assert guest.has_pattern_in(guest.ram_files()[0])


def test_disabled_host_has_no_file(boot, disabled):
    guest = boot(disabled, Domain())
    (mapping,) = guest.mappings()
    assert (mapping.permissions, mapping.path) == ('rw-p', '')
    assert guest.has_pattern()
    assert not list(disabled.path('/var/lib/libvirt/qemu/ram').iterdir())


@pytest.mark.parametrize('access', ['private', None])
def test_private_memory_leaves_the_file_empty(boot, enabled, access):
    """Without shared access the file is there, but what the guest writes is in DRAM."""
    guest = boot(enabled, Domain(backing=MemoryBacking(source='file', access=access)))
    (mapping,) = guest.mappings()
    assert mapping.permissions == 'rw-p'
    (file,) = guest.ram_files()
    assert guest.has_pattern()
    assert not guest.has_pattern_in(file)


def test_the_file_goes_with_the_guest(boot, enabled):
    guest = boot(enabled, Domain(backing=FILE_BACKED))
    assert guest.ram_files()
    guest.destroy()
    assert not guest.ram_files()


def test_qemu_tells_whose_it_is(boot, enabled):
    guest = boot(enabled, Domain(backing=FILE_BACKED))
    arguments = ' '.join(guest.command_line())
    assert 'manufacturer=OpenStack Foundation,product=OpenStack Nova' in arguments
    assert f'-uuid {guest.domain.uuid} ' in arguments
    assert '"qom-type":"memory-backend-file"' in arguments
    assert '"share":true' in arguments


def test_a_foreign_guest_does_not_name_nova(boot, enabled):
    guest = boot(enabled, Domain(backing=FILE_BACKED, nova=False))
    assert 'Nova' not in ' '.join(guest.command_line())


def test_what_libvirtd_makes_in_the_store(make_host):
    """At its start libvirtd makes directories for QEMU's user; each guest gets one of its own."""
    host = make_host(store=Disk(64))
    modes = host.run(
        *('find', host.memory_backing_dir, '-name', 'lost+found', '-prune'),
        *('-o', '-printf', '%M %u %P\n'),
    ).stdout
    assert modes.splitlines() == [
        'drwxr-xr-x root ',
        'drwxr-xr-x root libvirt',
        'drwxr-xr-x libvirt-qemu libvirt/qemu',
    ]


@pytest.mark.parametrize('nova', [True, False])
def test_who_made_a_guest_is_in_libvirts_run_time_xml(boot, enabled, nova):
    """Whatever its name is; that file is what tells on architectures without SMBIOS strings."""
    guest = boot(enabled, Domain(nova=nova, backing=FILE_BACKED))
    directory = enabled.path('/run/libvirt/qemu')
    assert (directory / f'{guest.name}.xml').stat().st_mode & 0o777 == 0o600
    for template in ('instance-%08x', 'another-%d'):
        assert is_nova(guest.name, guest.domain.uuid, template, str(directory)) is nova

# SPDX-License-Identifier: Apache-2.0
"""What recorded mappings show of a guest's memory."""

from pathlib import Path

import pytest

from fbm_placement.guests.mappings import Ram, composition, named_ram
from fbm_placement.model import Backing

MAPS = Path(__file__).with_name('maps')
RAM = '/var/lib/nova/ram/libvirt/qemu'


def region(
    path, permissions='rw-s', size=64, device='08:10', inode=77, start=0x7F0000000000
) -> str:
    end = start + int(size * 2**20)
    return f'{start:x}-{end:x} {permissions} 00000000 {device} {inode:<26} {path}\n'


@pytest.mark.parametrize(
    ('recorded', 'memory', 'expected', 'backing'),
    [
        ('file-shared', 64, {Backing.FILE: 64}, Backing.FILE),
        ('file-private', 64, {Backing.PRIVATE_FILE: 64}, Backing.PRIVATE_FILE),
        ('dram', 64, {Backing.ANONYMOUS: 64}, Backing.DRAM),
        ('memfd-shared', 64, {Backing.MEMFD: 64}, Backing.DRAM),
        ('memfd-private', 64, {Backing.MEMFD: 64}, Backing.DRAM),
        ('file-shared-and-dram', 128, {Backing.FILE: 64, Backing.ANONYMOUS: 64}, Backing.MIXED),
    ],
)
def test_recorded_guests(recorded, memory, expected, backing):
    """QEMU 7.2 with memory-backend-file, -ram and -memfd; most libraries are left out."""
    parts = named_ram((MAPS / f'{recorded}.txt').read_text())
    found = composition(parts, memory)
    assert found == expected
    assert not any(ram.deleted for ram in parts)
    assert Backing.of_whole(found) is backing


def test_the_file_and_its_entry_in_map_files():
    text = (MAPS / 'file-shared.txt').read_text()
    (ram,) = named_ram(text)
    assert ram.path == f'{RAM}/1-instance-00000001/pc.ram'
    assert ram.size_bytes == 64 * 2**20
    assert not ram.deleted
    assert any(line.startswith(f'{ram.entry} rw-s') for line in text.splitlines())


def test_huge_pages_are_known_by_their_mount():
    """Written by hand in libvirt's way: the machine that recorded the others had none."""
    path = '/dev/hugepages/libvirt/qemu/1-instance-00000001/qemu_back_mem.pc.ram.x1y2z3 (deleted)'
    (ram,) = named_ram(region(path), huge_mounts=['/dev/hugepages'])
    assert (ram.kind, ram.deleted) == (Backing.HUGE_PAGES, True)


def test_a_deleted_file():
    (ram,) = named_ram(region(f'{RAM}/1-instance-00000001/pc.ram (deleted)'))
    assert (ram.path, ram.deleted) == (f'{RAM}/1-instance-00000001/pc.ram', True)


@pytest.mark.parametrize(
    ('what', 'text'),
    [
        ('a library with much data', region('/usr/lib/x.so', 'rw-p')),
        ('shared memory between guests', region('/dev/shm/ivshmem')),
        ('a persistent memory device', region('/dev/dax0.0')),
        ('shared anonymous memory', region('/dev/zero (deleted)')),
        ('the log of a migration', region('/memfd:vhost-log (deleted)')),
        ('what may only be read', region(f'{RAM}/1-x/pc.ram', 'r--s')),
        ('what is small', region(f'{RAM}/1-x/pc.ram', size=0.5)),
        ('a device', region('anon_inode:[vfio-device]')),
        ('a file outside the guest directories', region(f'{RAM}/pc.ram')),
    ],
)
def test_what_is_no_memory_of_the_guest(what, text):
    assert named_ram(text) == ()


def test_a_file_elsewhere_counts_if_the_command_line_names_it():
    (ram,) = named_ram(region('/srv/pc.ram', 'rw-p'), ram_files=['/srv/pc.ram'])
    assert ram.kind is Backing.PRIVATE_FILE


def test_a_mapping_that_was_split_is_one():
    """madvise(2) on a part splits it; a half of it may be smaller than any guest's memory."""
    path = f'{RAM}/1-x/pc.ram'
    halves = region(path, size=0.5), region(path, size=0.5, start=0x7F0000080000)
    (ram,) = named_ram(''.join(halves))
    assert ram.size_bytes == 2**20


def test_hot_plugged_memory_is_more_than_the_command_line_says():
    ram = Ram(Backing.FILE, '/a', deleted=False, size_bytes=2**30, entry='1-2')
    assert composition([ram], 512) == {Backing.FILE: 1024}


def test_a_path_with_spaces_and_line_ends():
    text = region(f'{RAM}/1-a b/pc\\012.ram')
    assert [ram.path for ram in named_ram(text)] == [f'{RAM}/1-a b/pc\n.ram']

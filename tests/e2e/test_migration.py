# SPDX-License-Identifier: Apache-2.0
"""Live migration between hosts of one kind, and of two."""

import pytest

from tests.e2e.lab.domain import DRAM, FILE_BACKED, Domain
from tests.e2e.lab.store import Tmpfs

both_ways = pytest.mark.parametrize('p2p', [True, False], ids=['peer-to-peer', 'direct'])


def assert_moved(guest, target, counted):
    moved = guest.on(target)
    # One that had started again would begin at 0.
    assert moved.counter() >= counted
    assert moved.counts()
    assert moved.has_pattern()
    assert not guest.running
    assert not guest.ram_files()
    return moved


@both_ways
def test_between_enabled_hosts(boot, enabled, other, p2p):
    guest = boot(enabled, Domain(backing=FILE_BACKED))
    counted = guest.counter()
    done = guest.migrate(other, p2p=p2p, backing=FILE_BACKED)
    assert not done.returncode, done.stderr
    moved = assert_moved(guest, other, counted)
    (file,) = moved.ram_files()
    assert moved.has_pattern_in(file)
    assert [mapping.permissions for mapping in moved.mappings()] == ['rw-s']


@both_ways
@pytest.mark.parametrize('is_backed', [True, False], ids=['to disabled', 'to enabled'])
def test_between_kinds(boot, enabled, disabled, p2p, is_backed):
    """What Nova requests then is refused by libvirt, and the guest stays."""
    source, target = (enabled, disabled) if is_backed else (disabled, enabled)
    old, new = (FILE_BACKED, DRAM) if is_backed else (DRAM, FILE_BACKED)
    kinds = ('none', 'file') if is_backed else ('file', 'none')
    guest = boot(source, Domain(backing=old))
    counted = guest.counter()
    done = guest.migrate(target, p2p=p2p, backing=new)
    assert done.returncode
    refusal = "Target memoryBacking source '{}' doesn't match source memoryBacking source'{}'"
    assert refusal.format(*kinds) in done.stderr
    assert guest.running
    assert guest.counter() >= counted
    assert guest.counts()


def test_libvirt_follows_the_xml_not_the_host(boot, enabled, disabled):
    """With its XML as it is, a file-backed guest goes to a disabled host, into its root disk."""
    guest = boot(enabled, Domain(backing=FILE_BACKED))
    counted = guest.counter()
    done = guest.migrate(disabled)
    assert not done.returncode, done.stderr
    moved = assert_moved(guest, disabled, counted)
    (mapping,) = moved.mappings()
    assert mapping.permissions == 'rw-s'
    assert mapping.path.startswith('/var/lib/libvirt/qemu/ram/')


def test_no_room(boot, enabled, make_host):
    small = make_host('small', store=Tmpfs(48))
    guest = boot(enabled, Domain(memory=64, backing=FILE_BACKED))
    done = guest.migrate(small, backing=FILE_BACKED)
    assert done.returncode
    assert 'preallocating memory failed' in done.stderr
    assert guest.running
    assert guest.counts()
    assert not guest.on(small).ram_files()

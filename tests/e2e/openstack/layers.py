# SPDX-License-Identifier: Apache-2.0
"""A server checked on every layer: Nova's API, Placement, libvirt, the store, the guest."""

from xml.etree import ElementTree as ET

from tests.e2e.lab.guest import Guest
from tests.e2e.openstack.api import Server
from tests.e2e.openstack.cloud import MEMORY, Cloud
from tests.e2e.openstack.compute import ComputeNode


def assert_whole(
    cloud: Cloud,
    server: Server,
    node: ComputeNode,
    *,
    since: int | None = None,
    file_backed: bool | None = None,
    status: str = 'ACTIVE',
) -> Guest:
    """Assert that it is on this host alone, runs, and has the memory that the host stands for.

    :param since: it has counted so far before; a guest that was started again would be at 0
    :param file_backed: None: as the host is configured
    """
    shown = server.show()
    assert shown['status'] == status, shown.get('fault')
    assert shown['OS-EXT-SRV-ATTR:host'] == node.name
    held = server.allocations()
    assert set(held) == {node.name}
    assert held[node.name]['MEMORY_MB'] == MEMORY

    guest = server.guest(node)
    assert guest.running
    for other in cloud.nodes.values():
        if other is not node:
            elsewhere = guest.on(other.host)
            listed = other.host.virsh('list', '--all', '--name').stdout.split()
            assert guest.name not in listed, f'{guest.name} is on {other.name} too'
            assert not elsewhere.ram_files()
    if since is not None:
        assert guest.counter() >= since
    assert guest.counts()
    assert guest.has_pattern()
    assert_memory(guest, node.capacity > 0 if file_backed is None else file_backed)
    return guest


def assert_memory(guest: Guest, file_backed: bool) -> None:
    """Assert that libvirt, the store and QEMU's mappings agree about its memory."""
    text = guest.host.virsh('dumpxml', guest.name).stdout
    backing = ET.fromstring(text).find('memoryBacking')
    source = None if backing is None else backing.find('source')
    access = None if backing is None else backing.find('access')
    files = guest.ram_files()
    if not file_backed:
        assert source is None
        assert not files
        return
    assert source is not None
    assert access is not None
    assert (source.get('type'), access.get('mode')) == ('file', 'shared')
    (file,) = files
    assert file.stat().st_size == MEMORY << 20
    # What the guest writes is in the file: nowhere else could both see it.
    assert guest.has_pattern_in(file)
    (mapping,) = guest.mappings()
    assert mapping.permissions == 'rw-s'
    assert mapping.path.startswith(f'{guest.host.memory_backing_dir}/')

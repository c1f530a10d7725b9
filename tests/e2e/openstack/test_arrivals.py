# SPDX-License-Identifier: Apache-2.0
"""Where servers may go, and what they are there, in the cloud as it should be."""

import pytest

from tests.e2e.openstack.compute import HUGE_PAGES
from tests.e2e.openstack.layers import assert_whole
from tests.services.expected import DISK_TRAIT, ENABLED_TRAIT, OWN_TRAITS, inventory
from tests.services.process import wait_until

REQUIRED = {f'trait:{ENABLED_TRAIT}': 'required'}
FORBIDDEN = {f'trait:{ENABLED_TRAIT}': 'forbidden'}


def test_what_placement_holds(cloud):
    """The capacity of the two enabled hosts, their traits, and DRAM of the third."""
    for name, own in (
        ('disk', {ENABLED_TRAIT, DISK_TRAIT}),
        ('ram', {ENABLED_TRAIT}),
        ('plain', set()),
    ):
        assert cloud.traits(name) & OWN_TRAITS == own
        node = cloud.nodes[name]
        if node.capacity:
            assert cloud.memory(name) == inventory(node.capacity)
        else:
            # Emptier than the others, so Nova's weighers would choose it.
            assert cloud.memory(name)['total'] > 2 * cloud.disk.capacity


@pytest.mark.parametrize('name', ['disk', 'ram', 'plain'])
def test_boots(cloud, boot, name):
    assert_whole(cloud, boot(host=name), cloud.nodes[name])


def test_a_flavor_decides(cloud, boot):
    cloud.flavor('backed', **REQUIRED)
    cloud.flavor('dram', **FORBIDDEN)
    server = boot('backed')
    assert server.node in (cloud.disk, cloud.ram)
    assert_whole(cloud, server, server.node)
    assert_whole(cloud, boot('dram'), cloud.plain)


@pytest.mark.parametrize('size', ['small', 'large'])
def test_a_page_size(cloud, boot, create, size):
    """It goes to the host without file-backed memory; another named host is refused."""
    cloud.flavor(size, **{'hw:mem_page_size': size})
    server = boot(size)
    guest = assert_whole(cloud, server, cloud.plain)
    in_huge_pages = [one.path.startswith(HUGE_PAGES) for one in guest.mappings()]
    assert in_huge_pages == [size == 'large']
    # The scheduler's filters are skipped for the second.
    for named in ({'host': 'disk'}, {'availability_zone': 'nova:disk'}):
        refused = create(size, **named)
        reason = refused.refusal()
        assert refused.show()['OS-EXT-SRV-ATTR:host'] is None
        assert 'No valid host was found' in reason
        assert 'disk' not in reason


def test_contradiction(cloud, create):
    """No host fits: the fault names the two needs that exclude each other."""
    cloud.flavor('contradiction', **REQUIRED, **{'hw:mem_page_size': 'small'})
    reason = create('contradiction').refusal()
    assert 'File-backed memory: change one of these' in reason
    assert 'hw:mem_page_size' in reason


def test_rebuild(cloud, boot):
    """The server stays where it is, as new, and of the same kind."""
    server = boot(host='disk')
    server.act('rebuild', {'imageRef': cloud.image})
    server.wait_for('ACTIVE')
    server.counting_guest()
    assert_whole(cloud, server, cloud.disk)
    assert server.last('rebuild').result == 'Success'


@pytest.mark.parametrize(('source', 'target'), [('disk', 'plain'), ('plain', 'ram')])
def test_cold_migration(cloud, boot, source, target):
    """A stopped server may change its kind: it starts as what the host makes it."""
    server = boot(host=source)
    server.act('migrate', {'host': target})
    shown = server.wait_for('VERIFY_RESIZE')
    assert shown['OS-EXT-SRV-ATTR:host'] == target
    server.act('confirmResize')
    wait_until(lambda: server.status == 'ACTIVE', 'confirmed')
    server.counting_guest()
    assert_whole(cloud, server, cloud.nodes[target])

# SPDX-License-Identifier: Apache-2.0
"""Faults and changes: an unhealthy store, an edited option, services that are away."""

import signal
import time

import pytest

from fbm_placement.host import numa
from tests.e2e.lab.host import MEMORY_BACKING_DIR
from tests.e2e.openstack.control import TOKEN_SECONDS
from tests.e2e.openstack.layers import assert_memory, assert_whole
from tests.services.expected import DISK_TRAIT, ENABLED_TRAIT, UNHEALTHY_TRAIT
from tests.services.process import wait_until

ENABLED = {ENABLED_TRAIT}
DISK = {DISK_TRAIT}
CLOSED = {UNHEALTHY_TRAIT}


def test_an_unhealthy_store(cloud, boot, create):
    """The host takes no new instance and lets guests leave until the store is fixed."""
    leaving, other = boot(host='disk'), boot(host='ram')
    counted = other.guest().counter()
    filler = cloud.disk.host.store_path / 'filler'
    cloud.disk.host.run('fallocate', '--length', '900MiB', f'{MEMORY_BACKING_DIR}/filler')
    try:
        status = cloud.disk.agent.pass_now()
        assert 'cannot hold the capacity: 1024 MiB' in status
        assert cloud.own_traits(cloud.disk) == ENABLED | DISK | CLOSED
        cloud.let_scheduler_read()
        assert 'No valid host was found' in create(host='disk').refusal()
        ended = other.live_migrate('disk')
        assert (
            'named is an unhealthy host, but every instance needs a healthy host' in ended.details
        )
        assert_whole(cloud, other, cloud.ram, since=counted)
        before = leaving.guest().counter()
        assert leaving.live_migrate().succeeded
        assert_whole(cloud, leaving, cloud.ram, since=before)
    finally:
        filler.unlink()
        cloud.passes_until_open(cloud.disk)
    assert cloud.own_traits(cloud.disk) == ENABLED | DISK
    assert other.live_migrate('disk').succeeded


def test_turned_off_and_on(cloud, boot, create, ram):
    """With guests on it the host drains, reports how far, and flips when the last is gone."""
    backed, restarted = boot(host='ram'), boot(host='ram')
    counted = backed.guest().counter()
    status = ram.turn(0)
    assert 'draining' in status
    assert '2 running guests are still file-backed' in status
    assert cloud.own_traits(ram) == ENABLED | CLOSED
    name = backed.guest().name
    assert name in status
    # One that is stopped and started is what the host is to be: it stays where it is.
    restarted.act('os-stop')
    restarted.wait_for('SHUTOFF')
    restarted.act('os-start')
    restarted.wait_for('ACTIVE')
    status = ram.agent.pass_now()
    assert '1 running guest is still file-backed' in status
    assert 'do not live-migrate a guest that was restarted' in status
    assert cloud.own_traits(ram) == ENABLED | CLOSED
    assert '1 running guest is still file-backed' in ram.status('guests').stdout
    assert 'draining' in ram.status('upgrade', 'check').stdout
    cloud.let_scheduler_read()
    assert 'No valid host was found' in create(host='ram').refusal()
    assert 'named is a host without' in backed.live_migrate('plain').details
    assert_whole(cloud, backed, ram, since=counted, file_backed=True)
    assert backed.live_migrate().succeeded
    assert_whole(cloud, backed, cloud.disk, since=counted)
    cloud.passes_until_open(ram)
    assert cloud.own_traits(ram) == set()
    assert cloud.memory('ram')['total'] > 1024
    counted = restarted.guest().counter()
    assert restarted.live_migrate().succeeded
    assert_whole(cloud, restarted, cloud.plain, since=counted)

    plain = boot(host='ram')
    assert_whole(cloud, plain, ram)
    counted = plain.guest().counter()
    status = ram.turn(1024)
    assert '1 running guest is not file-backed' in status
    assert cloud.own_traits(ram) == CLOSED
    cloud.let_scheduler_read()
    assert 'No valid host was found' in create(host='ram').refusal()
    assert 'named is a host with file-backed' in plain.live_migrate('disk').details
    assert plain.live_migrate().succeeded
    assert_whole(cloud, plain, cloud.plain, since=counted)
    cloud.passes_until_open(ram)
    assert cloud.own_traits(ram) == ENABLED
    assert cloud.memory('ram')['total'] == 1024
    assert_whole(cloud, boot(host='ram'), ram)


def test_the_hook_is_the_last_check(cloud, create):
    """nova-compute runs with a nova.conf that the agent hasn't read: the hook refuses.

    With its next pass the agent goes by it, too, and the server starts.
    """
    node = cloud.ram
    node.configure('libvirt', file_backed_memory=0)
    node.agent.child.send_signal(signal.SIGSTOP)
    node.restart_compute()
    try:
        server = create(host='ram')
        assert server.status == 'ERROR'
        lines = [line for line in node.compute.output.splitlines() if 'fbm hook: guest' in line]
        assert any('its memory is not file-backed' in line for line in lines), node.compute.tail()
        assert server.show()['OS-EXT-SRV-ATTR:instance_name'] not in node.host.virsh('list').stdout
        found = node.status('upgrade', 'check', '--json').stdout
        assert 'has file-backed memory disabled, but the running agent goes by enabled' in found
        node.agent.child.send_signal(signal.SIGCONT)
        assert 'disabled' in node.agent.pass_now(), (cloud.memory('ram'), numa.dram_mib())
        assert node.agent.log_lines('as in the edited nova.conf')
        assert cloud.own_traits(node) == set()
        server = create(host='ram')
        assert server.status == 'ACTIVE'
        assert_memory(server.guest(node), file_backed=False)
        server.delete()
    finally:
        node.agent.child.send_signal(signal.SIGCONT)
        node.configure('libvirt', file_backed_memory=node.capacity)
        node.restart_compute()
        cloud.passes_until_open(node)
    assert cloud.memory('ram')['total'] == node.capacity


def service_of(cloud, name):
    (service,) = cloud.api.nova('GET', f'/os-services?host={name}')['services']
    return service


@pytest.mark.parametrize(('source', 'target'), [('disk', 'plain'), ('plain', 'disk')])
def test_evacuation(cloud, boot, source, target):
    """A host is lost; its server starts on one of the other kind, as what that one makes it."""
    server = boot(host=source)
    node = cloud.nodes[source]
    node.compute.kill()
    server.guest().kill()
    path = f'/os-services/{service_of(cloud, source)["id"]}'
    cloud.api.nova('PUT', path, {'forced_down': True})
    try:
        # From 2.95 on the server would be left shut off.
        server.act('evacuate', {'host': target}, microversion='2.94')
        assert server.last('evacuate').succeeded
        server.wait_for('ACTIVE')
    finally:
        node.compute.start()
        node.wait_for_compute()
        # Nova refuses it until the host has found out what has left it.
        cloud.api.nova('PUT', path, {'forced_down': False})
        wait_until(lambda: service_of(cloud, source)['state'] == 'up', 'up again')
    server.counting_guest()
    # The host that came back has forgotten it, its allocation too.
    wait_until(lambda: set(server.allocations()) == {target}, 'one allocation')
    assert_whole(cloud, server, cloud.nodes[target])


AWAY = 60.0
"""Seconds: twelve intervals of the agents, and of nova-compute's reports."""


def assert_nothing_wrong(cloud, servers):
    """Placement holds what it should, and the servers are whole."""
    for node in (cloud.disk, cloud.ram):
        assert cloud.own_traits(node) == (ENABLED | DISK if node is cloud.disk else ENABLED)
        assert cloud.memory(node.name)['total'] == node.capacity
        assert cloud.memory(node.name)['reserved'] == 0
    assert cloud.own_traits(cloud.plain) == set()
    for server, counted in servers.items():
        assert_whole(cloud, server, server.node, since=counted)


@pytest.mark.parametrize(
    'fault', ['compute restarted', 'agent killed', 'Placement away', 'tokens expired']
)
def test_faults(cloud, boot, fault):
    """When it is over, nothing is wrong and nothing was, and the server moves."""
    overwrites = {node: node.overwrites() for node in cloud.nodes.values()}
    server = boot(host='disk')
    counted = server.guest().counter()
    if fault == 'compute restarted':
        cloud.disk.restart_compute()
        cloud.disk.agent.pass_now()
    elif fault == 'agent killed':
        cloud.disk.agent.child.kill()
        cloud.disk.restart_agent()
    elif fault == 'Placement away':
        cloud.control.apis['placement'].child.kill()
        try:
            # A live migration now would leave the server in ERROR: Nova's conductor fails before
            # it calls the scheduler.
            time.sleep(AWAY)
            for node in cloud.nodes.values():
                # host.json is kept up to date all the same.
                assert node.state().configured == ('enabled' if node.capacity else 'disabled')
            assert server.guest().counts()
        finally:
            cloud.control.apis['placement'].start()
        for node in cloud.nodes.values():
            node.agent.pass_now()
    else:
        # The first token of each service ends by itself, and then all others at once.
        time.sleep(max(0.0, cloud.up_since + TOKEN_SECONDS - time.monotonic()))
        cloud.control.keystone.forget_tokens()
        cloud.api.log_in_again()
        for node in cloud.nodes.values():
            node.agent.pass_now()
    servers = {server: counted}
    assert_nothing_wrong(cloud, servers)
    ended = server.live_migrate('ram')
    assert ended.succeeded, ended
    assert_nothing_wrong(cloud, servers)
    assert {node: node.overwrites() for node in cloud.nodes.values()} == overwrites

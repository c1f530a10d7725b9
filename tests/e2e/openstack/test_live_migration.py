# SPDX-License-Identifier: Apache-2.0
"""Live migration by Nova: between hosts of one kind it moves memory, between two it is refused."""

import time

import pytest

from tests.e2e.openstack.api import RefusedError
from tests.e2e.openstack.layers import assert_whole
from tests.services.openstack import CommandError, OpenStackCommand
from tests.services.process import wait_until

LIBVIRT_REFUSES = "doesn't match source memoryBacking source"


def test_between_stores(cloud, boot):
    """From a disk to a tmpfs and back, memory intact (DESIGN, F18)."""
    server = boot(host='disk')
    for target in (cloud.ram, cloud.disk):
        counted = server.guest().counter()
        ended = server.live_migrate(target.name)
        assert ended.succeeded, ended
        assert_whole(cloud, server, target, since=counted)
        assert server.migration()['status'] == 'completed'


def test_the_scheduler_chooses_its_kind(cloud, boot):
    server = boot(host='disk')
    counted = server.guest().counter()
    ended = server.live_migrate()
    assert ended.succeeded, ended
    assert_whole(cloud, server, cloud.ram, since=counted)


def assert_refused(cloud, server, source, ended, counted, reasons):
    """It changed nothing, and the event has the reason."""
    assert not ended.succeeded
    assert ended.event == 'conductor_live_migrate_instance'
    for reason in reasons:
        assert reason in ended.details
    assert_whole(cloud, server, source, since=counted)
    assert server.migration()['status'] == 'error'
    assert 'fault' not in server.show()


@pytest.mark.parametrize(
    ('source', 'target', 'is_one', 'needs_one'),
    [
        ('disk', 'plain', 'without', 'with'),
        ('plain', 'ram', 'with', 'without'),
    ],
)
def test_a_named_host_of_the_other_kind(cloud, boot, source, target, is_one, needs_one):
    """Refused early, with what to change; and the next request is not in the way."""
    reason = (
        f'File-backed memory: name another host, or none: the host that was named is a host '
        f'{is_one} file-backed memory, but the guest on its present host needs a host '
        f'{needs_one} file-backed memory'
    )
    server = boot(host=source)
    counted = server.guest().counter()
    ended = server.live_migrate(target)
    assert_refused(cloud, server, cloud.nodes[source], ended, counted, [reason])
    # Here the answer comes with the refusal, so it can be timed.
    began = time.monotonic()
    with pytest.raises(RefusedError) as refused:
        server.act(
            'os-migrateLive',
            {'host': target, 'block_migration': 'auto'},
            microversion='2.30',
        )
    assert time.monotonic() - began < 10
    assert refused.value.status == 400
    assert reason in refused.value.message


def test_no_host_of_its_kind(cloud, boot):
    """The scheduler finds none among the two emptier ones, and the server is as before."""
    server = boot(host='plain')
    counted = server.guest().counter()
    ended = server.live_migrate()
    assert_refused(cloud, server, cloud.plain, ended, counted, ['No valid host was found'])


def test_the_command_line(cloud, boot):
    """An administrator reads the reason at once, or in the server's event."""
    command = OpenStackCommand.with_account(cloud.control.admin)
    server = boot(host='disk')
    reason = 'the host that was named is a host without file-backed memory'
    move = ['server', 'migrate', '--live-migration', '--host', 'plain', server.id]
    with pytest.raises(CommandError, match=reason):
        command.text('--os-compute-api-version', '2.30', *move)
    request = server.latest_request('live-migration')
    assert reason in server.last('live-migration').details
    shown = command.json(
        *('--os-compute-api-version', '2.96', 'server', 'event', 'show', server.id, request)
    )
    assert reason in str(shown['events'])
    assert server.status == 'ACTIVE'


@pytest.mark.parametrize(('source', 'target'), [('disk', 'plain'), ('plain', 'disk')])
def test_forced(cloud, boot, source, target):
    """It meets no scheduler; then libvirt refuses. The guest is unharmed, the server in ERROR.

    That is Nova 34's own doing, and no part of ours is asked before. Setting the state back mends
    it; a policy of `!` for `os_compute_api:os-migrate-server:migrate_live:host`, by which no host
    may be named at all, keeps it from happening.
    """
    server = boot(host=source)
    counted = server.guest().counter()
    ended = server.live_migrate(target, microversion='2.60', force=True)
    assert not ended.succeeded
    # It comes after the end of the event.
    wait_until(lambda: server.status == 'ERROR', 'in ERROR')
    node = cloud.nodes[source]
    refusals = [line for line in node.compute.output.splitlines() if LIBVIRT_REFUSES in line]
    assert any(server.id in line for line in refusals), node.compute.tail()
    guest = assert_whole(cloud, server, node, since=counted, status='ERROR')
    command = OpenStackCommand.with_account(cloud.control.admin)
    # Without a terminal it can't ask whether it is meant.
    command.text('server', 'set', '--state', 'active', '--auto-approve', server.id)
    assert_whole(cloud, server, node, since=guest.counter())
    # Nothing stands in its way then.
    if source == 'disk':
        assert server.live_migrate('ram').succeeded

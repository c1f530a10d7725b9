# SPDX-License-Identifier: Apache-2.0
"""What the agent finds on its host, told to Placement, to systemd and to libvirt's hook.

The store is real, a directory on a tmpfs; guests need root, so they are in tests/e2e.
"""

import pytest

from fbm_placement import names
from fbm_placement.host import state_file
from tests.functional.agent_process import ENABLED_TRAITS, AgentHost, own_traits
from tests.services.store import small_store

CLOSED = {names.TRAIT_UNHEALTHY}


@pytest.fixture
def host(tmp_path, compute):
    return AgentHost(tmp_path / 'host', compute)


@pytest.fixture
def store(host):
    """Return the directory of a store of this test's own that isn't there yet."""
    path = small_store() / host.compute.uuid
    host.configure('file_backed_memory', memory_backing_dir=path)
    return path


def state(host):
    return state_file.read(str(host.directory / 'run' / 'host.json'), state_file.uptime())


def test_a_store_that_is_not_there_closes_the_host_until_it_is(host, compute, store):
    """Placement, systemd, the log and the state file say the same; so does its end."""
    with host.ready_daemon() as agent:
        assert own_traits(compute) == ENABLED_TRAITS | CLOSED | {names.TRAIT_DISK}
        ((_, status),) = agent.told('STATUS')
        assert f'UNHEALTHY: memory_backing_dir {store} does not exist' in status
        (line,) = agent.log_lines('takes no new instance')
        assert 'mount the store there, then restart libvirtd' in line
        assert f'memory_backing_dir {store} does not exist' in state(host).unhealthy[0]

        store.mkdir()
        assert 'libvirt/qemu is missing' in agent.pass_now()
        (store / 'libvirt/qemu').mkdir(parents=True)
        assert 'recovering: 1 of 3 successful checks' in agent.pass_now()
        assert 'recovering: 2 of 3 successful checks' in agent.pass_now()
        assert 'UNHEALTHY' not in agent.pass_now()
        assert own_traits(compute) == ENABLED_TRAITS
        assert state(host).unhealthy == ()
        assert agent.log_lines('takes new instances again')

        store.chmod(0o777)
        assert f'chmod o-w {store}' in agent.pass_now()
        assert own_traits(compute) == ENABLED_TRAITS | CLOSED


def test_a_second_agent_says_that_it_is_one(host):
    """Somebody has started it by hand beside the service; the first one goes on as it was."""
    with host.ready_daemon() as first:
        assert not first.log_lines('runs here already')
        with host.ready_daemon() as second:
            (line,) = second.log_lines('runs here already')
            assert f'(process {first.child.pid})' in line
        assert 'enabled' in first.pass_now()


def test_a_dry_run_says_what_is_wrong_and_what_to_do(host, store):
    """In five lines or so, and it writes nothing."""
    ended = host.run('--dry-run')
    assert ended.status == 1
    first, *_ = ended.stdout.splitlines()
    assert first.startswith(f'This host takes no new instance: memory_backing_dir {store} does')
    assert len(ended.stdout.splitlines()) <= 10
    assert not (host.directory / 'run').exists()


def test_a_dry_run_says_it_also_where_placement_is_away(host, store):
    host.speak_to('http://127.0.0.1:1')
    ended = host.run('--dry-run')
    assert ended.status == 1
    assert f'memory_backing_dir {store} does not exist' in ended.stdout


def test_the_hook_is_told_also_where_placement_is_away(host):
    """A guest may start while Placement is down."""
    host.speak_to('http://127.0.0.1:1')
    assert host.once().status == 1
    assert state(host).configured == 'enabled'
    assert state(host).store.path == str(small_store())


def test_a_store_too_small_for_the_promise_closes_the_host(host, compute):
    host.configure('libvirt', file_backed_memory=2**30)
    ended = host.once()
    assert ended.status == 0
    assert 'cannot hold the capacity: 1073741824 MiB' in ended.line
    assert own_traits(compute) == ENABLED_TRAITS | CLOSED


def test_withdrawing_takes_the_hooks_opinion_away(host):
    assert host.once().status == 0
    assert state(host).configured == 'enabled'
    assert host.run('--withdraw').status == 0
    assert not (host.directory / 'run' / 'host.json').exists()


@pytest.mark.parametrize('changed', [False, True])
def test_the_hooks_opinion_outlives_a_restart_but_no_change(host, changed):
    """nova-compute makes guests of the new kind before the next agent has looked."""
    with host.ready_daemon() as agent:
        if changed:
            host.configure('libvirt', file_backed_memory=0)
        assert agent.child.stop() == 0
    assert (host.directory / 'run' / 'host.json').exists() is not changed


def test_the_hooks_opinion_outlives_a_crash(host):
    with host.ready_daemon() as agent:
        host.configure('libvirt', file_backed_memory=0)
        agent.child.kill()
    assert state(host).configured == 'enabled'


def test_beside_the_service_a_single_pass_leaves_the_hooks_opinion_alone(host):
    """The service has seen more: where the store was, and for how long it is well."""
    with host.ready_daemon() as agent:
        before = (host.directory / 'run' / 'host.json').read_bytes()
        assert state(host).pid == agent.child.pid
        assert host.once().status == 0
        assert (host.directory / 'run' / 'host.json').read_bytes() == before
    assert host.once().status == 0
    assert state(host).pid == 0


def test_withdrawing_beside_the_service_is_refused(host, compute):
    """It would set the traits again at its next look."""
    with host.ready_daemon():
        ended = host.run('--withdraw')
        assert ended.status == 1
        assert 'systemctl disable --now fbm-agent' in ended.line
        assert own_traits(compute) == ENABLED_TRAITS
        assert state(host).configured == 'enabled'


def test_where_placement_is_away_the_hooks_opinion_stays(host):
    """The traits still stand, so the gate does too."""
    assert host.once().status == 0
    host.speak_to('http://127.0.0.1:1')
    assert host.run('--withdraw').status == 1
    assert state(host).configured == 'enabled'


def test_a_store_that_is_not_there_is_told_beside_a_placement_that_is_away(host, store):
    host.speak_to('http://127.0.0.1:1')
    with host.daemon() as agent:
        agent.wait_for('STATUS', 'does not exist')
        assert 'failed: ' in agent.told('STATUS')[-1][1]

# SPDX-License-Identifier: Apache-2.0
"""What the agent finds on its host, and publishes to Placement, systemd and libvirt's hook.

The store is real, a directory on a tmpfs; guests need root, so they are in tests/e2e.
"""

import pytest

from fbm_placement.host import state_file
from tests.services.agent import AgentHost
from tests.services.expected import ENABLED_TRAIT, UNHEALTHY_TRAIT, own_traits
from tests.services.store import small_store

AWAY = 'http://127.0.0.1:1'
"""No Placement."""


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
    return state_file.read(str(host.state_file), state_file.uptime())


def test_a_store_that_is_not_there_closes_the_host_until_it_is(host, compute, store):
    """Placement, systemd, the log and host.json agree, and so when it is there."""
    with host.ready_daemon() as agent:
        assert own_traits(compute) == {ENABLED_TRAIT, UNHEALTHY_TRAIT}
        ((_, status),) = agent.notified('STATUS')
        assert f'UNHEALTHY: memory_backing_dir {store} does not exist' in status
        (line,) = agent.log_lines('takes no new instance')
        assert 'mount the store there, then restart libvirtd' in line
        assert f'memory_backing_dir {store} does not exist' in state(host).unhealthy[0]

        store.mkdir()
        assert 'libvirt/qemu is missing' in agent.pass_now()
        (store / 'libvirt/qemu').mkdir(parents=True)
        assert 'UNHEALTHY' not in agent.pass_now()
        assert own_traits(compute) == {ENABLED_TRAIT}
        assert state(host).unhealthy == ()
        assert agent.log_lines('takes new instances again')

        store.chmod(0o777)
        assert f'chmod o-w {store}' in agent.pass_now()
        assert own_traits(compute) == {ENABLED_TRAIT, UNHEALTHY_TRAIT}
        store.chmod(0o755)
        assert 'recovering: 1 of 3 successful checks' in agent.pass_now()
        assert 'recovering: 2 of 3 successful checks' in agent.pass_now()
        assert 'UNHEALTHY' not in agent.pass_now()


def test_a_second_agent_logs_that_another_one_runs(host):
    with host.ready_daemon() as first:
        assert not first.log_lines('runs here already')
        with host.ready_daemon() as second:
            (line,) = second.log_lines('runs here already')
            assert f'(process {first.child.pid})' in line
        assert 'enabled' in first.pass_now()


def test_a_dry_run_shows_what_is_wrong_without_placement_too(host, store):
    """In a few lines, and it writes nothing."""
    ended = host.run('--dry-run')
    assert ended.status == 1
    first, *_ = ended.stdout.splitlines()
    assert first.startswith(f'This host takes no new instance: memory_backing_dir {store} does')
    assert len(ended.stdout.splitlines()) <= 10
    assert not (host.directory / 'run').exists()

    host.speak_to(AWAY)
    ended = host.run('--dry-run')
    assert ended.status == 1
    assert f'memory_backing_dir {store} does not exist' in ended.stdout


def test_the_state_file_is_written_without_placement_too(host):
    """A guest may start while Placement is down."""
    host.speak_to(AWAY)
    assert host.once().status == 1
    assert state(host).configured == 'enabled'
    assert state(host).store.path == str(small_store())


def test_withdrawing_removes_the_state_file(host):
    assert host.once().status == 0
    assert state(host).configured == 'enabled'
    # Without Placement the traits stay, and so does what the hook enforces.
    host.speak_to(AWAY)
    assert host.run('--withdraw').status == 1
    assert state(host).configured == 'enabled'
    host.speak_to(host.compute.url)
    assert host.run('--withdraw').status == 0
    assert not host.state_file.exists()


@pytest.mark.parametrize('changed', [False, True])
def test_the_state_file_outlives_a_restart_but_no_change(host, changed):
    """nova-compute makes guests of the new kind before the next agent's first pass."""
    with host.ready_daemon() as agent:
        if changed:
            host.configure('libvirt', file_backed_memory=0)
        assert agent.child.stop() == 0
    assert host.state_file.exists() is not changed


def test_the_state_file_outlives_a_crash(host):
    with host.ready_daemon() as agent:
        host.configure('libvirt', file_backed_memory=0)
        agent.child.kill()
    assert state(host).configured == 'enabled'


def test_a_single_pass_leaves_the_state_file_of_a_running_service_alone(host):
    """The service has seen more: where the store was, and for how long it is healthy."""
    host.configure('file_backed_memory', interval=3600)
    with host.ready_daemon() as agent:
        before = host.state_file.read_bytes()
        assert state(host).pid == agent.child.pid
        assert host.once().status == 0
        assert host.state_file.read_bytes() == before
    assert host.once().status == 0
    assert state(host).pid == 0


def test_withdrawing_while_the_service_runs_is_refused(host, compute):
    """It would set the traits again in its next pass."""
    with host.ready_daemon():
        ended = host.run('--withdraw')
        assert ended.status == 1
        assert 'systemctl disable --now fbm-agent' in ended.line
        assert own_traits(compute) == {ENABLED_TRAIT}
        assert state(host).configured == 'enabled'

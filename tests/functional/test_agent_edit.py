# SPDX-License-Identifier: Apache-2.0
"""An edited nova.conf, with only nova-compute restarted: agent and doctor against real Placement.

nova-compute's reports are simulated.
"""

import json

import pytest

from fbm_placement.host import numa
from tests.services.agent import CAPACITY, AgentHost
from tests.services.expected import ENABLED_TRAIT, own_traits
from tests.services.nova_compute import inventory
from tests.services.process import program

DRAM_MIB = numa.dram_mib() or 0
AGREE, AGENT = 'nova-compute and fbm-agent', 'fbm-agent'
SUCCESS, WARNING, FAILURE = 0, 1, 2


@pytest.fixture
def host(compute, tmp_path):
    return AgentHost(tmp_path / 'host', compute)


def edit(host, mib):
    """Edit nova.conf; return what nova-compute reports once it is restarted."""
    host.configure('libvirt', file_backed_memory=mib)
    return inventory(mib or DRAM_MIB)


def restart_nova_compute(compute, reported):
    compute.knows_file_backed_memory(reported['total'])
    compute.start()


def went_by(host):
    state = json.loads(host.state_file.read_text())
    return state['configured'], state['capacity_mib'], state['reserved_mib']


def checks(host):
    argv = [program('fbm-status'), '--config-file', str(host.path), 'upgrade', 'check', '--json']
    found = json.loads(host.run_argv(argv).stdout)['checks']
    return {one['check']: (one['result'], one['details']) for one in found}


@pytest.mark.parametrize(
    ('before', 'after', 'status', 'state', 'result'),
    [
        (CAPACITY, 32, 'enabled: {} offers 32 MiB', ('enabled', 32, 0), WARNING),
        (32, CAPACITY, 'enabled: {} offers 48 MiB', ('enabled', 48, 0), WARNING),
        (CAPACITY, 0, 'disabled: the inventory of {}', ('disabled', 0, 0), FAILURE),
        (0, CAPACITY, 'enabled: {} offers 48 MiB', ('enabled', 48, 0), FAILURE),
    ],
)
def test_the_agent_follows_nova_compute(host, compute, before, after, status, state, result):
    """Neither before nova-compute nor against it, and the doctor names who is behind."""
    restart_nova_compute(compute, edit(host, before))
    old = compute.inventory()
    with host.ready_daemon() as agent:
        was = went_by(host)
        new = edit(host, after)
        agent.pass_now()
        assert (compute.inventory(), went_by(host)) == (old, was)
        found = checks(host)
        for name, expected in ((AGREE, WARNING), (AGENT, result)):
            code, details = found[name]
            assert code == expected
            assert details.startswith('nova.conf has file-backed memory ')
            assert 'until nova-compute reports the new value: restart nova-compute' in details

        restart_nova_compute(compute, new)
        assert compute.inventory() == new
        assert status.format(compute.name) in agent.pass_now()
        assert went_by(host) == state
        assert compute.inventory() == new
        assert own_traits(compute) == ({ENABLED_TRAIT} if after else set())
        assert not compute.report(refresh=True)
        found = checks(host)
        assert (found[AGREE][0], found[AGENT][0]) == (SUCCESS, SUCCESS)
        assert len(agent.log_lines('as in the edited nova.conf')) == 1
        for text in ('overwritten', ' WARNING ', ' ERROR '):
            assert agent.log_lines(text) == []
        assert agent.terminate()[0] == 0
    # Nothing misleads the next agent: it goes on where this one stopped.
    with host.ready_daemon() as agent:
        assert went_by(host) == state
        assert compute.inventory() == new


def test_an_agent_that_crashed_waits_for_nova_compute_too(host, compute):
    """Systemd starts it again between the edit and the restart of nova-compute."""
    restart_nova_compute(compute, edit(host, CAPACITY))
    with host.ready_daemon() as agent:
        edit(host, 0)
        agent.child.kill()
    with host.ready_daemon() as agent:
        assert went_by(host) == ('enabled', CAPACITY, 0)
        assert own_traits(compute) == {ENABLED_TRAIT}
        restart_nova_compute(compute, inventory(DRAM_MIB))
        assert 'disabled' in agent.pass_now()
        assert own_traits(compute) == set()


def test_a_wrong_edit_is_reported_once(host, compute):
    """nova-compute does not start with it, so that another one wrote: the agent goes on."""
    with host.ready_daemon() as agent:
        host.configure('libvirt', file_backed_memory='1 TiB')
        for _ in range(3):
            compute.overwrite_inventory(total=32, max_unit=32)
            assert f'offers {CAPACITY} MiB' in agent.pass_now()
        (line,) = agent.log_lines('nova.conf was changed and cannot be used')
        assert ' WARNING ' in line
        assert '[libvirt]file_backed_memory' in line
        assert went_by(host) == ('enabled', CAPACITY, 0)

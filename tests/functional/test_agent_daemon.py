# SPDX-License-Identifier: Apache-2.0
"""`fbm-agent` as systemd runs it: from before Placement is up until SIGTERM.

SIGHUP brings the next pass at once, so hardly a test waits for an interval to pass.
"""

import contextlib
import re
import signal
import socket
import threading
import time

import pytest

from fbm_placement.host import numa
from tests.services.agent import CAPACITY, AgentHost, Daemon, NotifySocket
from tests.services.expected import (
    ENABLED,
    ENABLED_TRAIT,
    UNHEALTHY_TRAIT,
    add_foreign_data,
    foreign,
    is_enabled,
    own_traits,
)
from tests.services.nova_compute import ComputeError, NovaCompute
from tests.services.placement import PlacementServer
from tests.services.process import PATIENCE
from tests.services.proxy import Proxy

AT_ONCE = 20.0
"""Seconds, on a busy machine. A wait for the next pass takes an hour here."""


@pytest.fixture
def host(compute, tmp_path):
    return AgentHost(tmp_path, compute)


# READY, and what has to be there before


def test_it_waits_for_placement_then_for_the_provider_then_is_ready(tmp_path, monkeypatch):
    """A host boots before its controllers: the agent need not be started again."""
    placement = PlacementServer(tmp_path / 'placement')
    placement.prepare()
    compute = NovaCompute(placement.url)
    host = AgentHost(tmp_path / 'host', compute)
    # As systemd does, with a socket that has a path; the directory is short, as sun_path is.
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'notify'
    with contextlib.ExitStack() as stack:
        notify = stack.enter_context(NotifySocket(path))
        agent = Daemon(stack.enter_context(host.child(NOTIFY_SOCKET=str(path))), notify)
        seen = agent.wait_for('STATUS', 'connection refused')
        agent.reload()
        seen = agent.wait_for('STATUS', 'try 2 failed', after=seen)
        # systemd waits for READY: RELOADING would be wrong.
        assert agent.notified('READY', 'RELOADING') == []

        stack.enter_context(placement)
        agent.reload()
        seen = agent.wait_for('STATUS', 'no resource provider', after=seen)

        before = compute.start().everything()
        agent.reload()
        agent.wait_for('STATUS', f'enabled: {compute.name}', after=seen)
        # With that, or after 30 s.
        assert agent.notified('READY')
        assert is_enabled(compute)
        assert foreign(compute)['inventories'] == {
            name: record for name, record in before['inventories'].items() if name != 'MEMORY_MB'
        }
        assert agent.terminate()[0] == 0
    # Each failure is logged when it begins, not at every try.
    refused = agent.log_lines('connection refused')
    assert len(refused) <= 4
    # Once in each line, and without Python's name for it.
    assert [line.count('connection refused') for line in refused] == [1] * len(refused)
    assert agent.log_lines('Recovered after')


def test_systemd_gets_each_change_of_state(host):
    """READY with the first good pass, RELOADING before READY, WATCHDOG in time, STOPPING."""
    with host.daemon(WATCHDOG_USEC='4000000') as agent:
        ready = agent.wait_for('READY')
        assert all('WATCHDOG' in message for message in agent.notify.messages[: ready - 1])
        assert is_enabled(host.compute)
        agent.pass_now()
        # The watchdog is fed between two passes too, at least as often as systemd demands.
        alive = agent.notified('WATCHDOG').count(('WATCHDOG', '1'))
        start = time.monotonic()
        agent.wait_until(
            lambda: len(agent.notified('WATCHDOG')) >= alive + 2, 'two more WATCHDOG=1'
        )
        assert time.monotonic() - start < 2 * 4
        assert agent.terminate()[0] == 0
    states = [name for name, _ in agent.notified('READY', 'RELOADING', 'STOPPING')]
    assert states == ['READY', 'RELOADING', 'READY', 'STOPPING']


def test_a_frozen_systemd_does_not_stop_the_agent(host):
    """It reads nothing, and its queue is short: the agent works and ends anyway."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind('')
        name = '@' + deaf.getsockname()[1:].decode()
        with host.child(NOTIFY_SOCKET=name, WATCHDOG_USEC='20000') as child:
            child.wait_for_output('Ready: enabled')
            # A hundred datagrams, where ten fill the queue.
            time.sleep(1)
            host.compute.overwrite_inventory(total=4096)
            child.send_signal(signal.SIGHUP)
            child.wait_for_output('MEMORY_MB was overwritten')
            child.send_signal(signal.SIGTERM)
            assert child.wait() == 0


# SIGTERM


@pytest.mark.parametrize('placement_is', ['up', 'down'])
def test_sigterm_ends_a_wait_at_once(host, placement_is):
    if placement_is == 'down':
        host.speak_to('http://127.0.0.1:1')
    host.configure('file_backed_memory', interval=3600)
    with host.daemon() as agent:
        agent.wait_for('STATUS', 'enabled' if placement_is == 'up' else 'refused')
        before = host.compute.everything()
        status, seconds = agent.terminate()
    assert status == 0
    assert seconds < AT_ONCE
    assert host.compute.everything() == before
    assert 'Stopping; Placement is left as it is' in agent.log
    assert 'Traceback' not in agent.log


def test_sigterm_comes_between_two_requests(host, placement):
    """The one under way is answered, the next is never sent; a later agent finishes."""
    entered, go_on = threading.Event(), threading.Event()

    def hold(request):
        if request.method == 'PUT' and request.path.endswith('/inventories/MEMORY_MB'):
            entered.set()
            go_on.wait(PATIENCE)

    host.configure('file_backed_memory', interval=3600)
    host.configure('placement', timeout=3600)
    with Proxy(placement.url, before=hold) as proxy:
        host.speak_to(proxy.url)
        with host.daemon() as agent:
            assert entered.wait(PATIENCE)
            # A second one is no reason to cut a request either.
            for _ in range(2):
                agent.child.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            assert agent.child.running
            start = time.monotonic()
            go_on.set()
            assert agent.child.wait() == 0
            assert time.monotonic() - start < AT_ONCE
        assert proxy.requests[-1].path.endswith('/inventories/MEMORY_MB')
    assert host.compute.inventory() == ENABLED
    assert own_traits(host.compute) == set()
    assert agent.notified('READY') == []
    host.speak_to(placement.url)
    assert host.once().status == 0
    assert is_enabled(host.compute)


# SIGHUP


def test_sighup_reads_the_agents_options_and_leaves_novas(host, placement):
    """nova-compute reads its options once; an agent ahead of it would overwrite its reports."""
    other = NovaCompute(placement.url).start()
    with host.ready_daemon() as agent:
        host.configure(reserved_host_memory_mb=4096, ram_allocation_ratio=1.5)
        host.configure('libvirt', file_backed_memory=4096)
        host.configure('file_backed_memory', interval=3000)
        host.speak_to('http://127.0.0.1:1')
        assert 'enabled' in agent.pass_now()
        assert host.compute.inventory() == ENABLED
        assert 'interval=3000' in agent.log_lines('Configuration reloaded')[-1]

        host.configure('file_backed_memory', resource_provider=other.uuid)
        left = host.compute.everything()
        assert other.name in agent.pass_now()
        assert other.inventory() == ENABLED
        assert own_traits(other) == own_traits(host.compute)
        assert host.compute.everything() == left
        (warning,) = agent.log_lines('is left as it is')
        assert host.compute.uuid in warning
        assert agent.terminate()[0] == 0


def test_debug_is_switched_at_sighup(host, compute):
    """Of the overwrites the 3rd, 5th, 6th and 7th are logged at DEBUG only."""

    def overwritten_again():
        length = len(agent.log)
        compute.overwrite_inventory(total=4096)
        agent.pass_now()
        return agent.log[length:]

    with host.ready_daemon() as agent:
        for _ in range(3):
            assert ' DEBUG ' not in overwritten_again()
        host.configure(debug=True)
        overwritten_again()
        assert ' DEBUG ' in overwritten_again()
        host.configure(debug=False)
        assert ' DEBUG ' not in overwritten_again()


# Other writers


def test_an_overwrite_is_repaired_and_logged_once_with_its_author(host, compute):
    dram_mib = numa.dram_mib()
    compute.memory_mib = dram_mib
    compute.start()
    with host.ready_daemon() as agent:
        assert compute.rewrite_inventory()
        agent.pass_now()
        assert is_enabled(compute)
        agent.pass_now()
        (line,) = agent.log_lines('overwritten')
        assert 'WARNING' in line
        for text in (
            f'found total={dram_mib} reserved=512 max_unit={dram_mib} allocation_ratio=1.5',
            f'restored total={CAPACITY} reserved=0',
            "nova-compute: this is the host's DRAM",
            f'[libvirt]file_backed_memory = {CAPACITY}',
            '[DEFAULT]ram_allocation_ratio = 1.0',
            '[DEFAULT]reserved_host_memory_mb = 0',
        ):
            assert text in line

        # An hour is not over, so the next one belongs to the same overwrite loop.
        compute.overwrite_inventory(max_unit=1024)
        agent.pass_now()
        assert is_enabled(compute)
        assert 'an operator or a tool' in agent.log_lines('overwrite 2 in this loop')[0]

        # What the agent itself wrote is no overwrite, nor is what others write elsewhere.
        compute.overwrite_inventory('VCPU', total=64)
        agent.pass_now()
        assert len(agent.log_lines('overwritten')) == 2


def test_a_trait_that_provider_yaml_names_is_reported_with_the_file(host, compute):
    """nova-compute owns it and adds it at each report; taken out there, the loop ends."""
    provider_yaml = host.directory / 'provider.yaml'
    provider_yaml.write_text(f'traits:\n  additional: [{UNHEALTHY_TRAIT}]\n')
    host.configure('compute', provider_config_location=host.directory)
    compute.knows_file_backed_memory(CAPACITY)
    compute.traits_of_provider_yaml = frozenset({UNHEALTHY_TRAIT})
    with host.ready_daemon() as agent:
        for _ in range(3):
            assert compute.report(refresh=True)
            assert UNHEALTHY_TRAIT in own_traits(compute)
            agent.pass_now()
            assert is_enabled(compute)
        first, second = agent.log_lines('another client changed the traits')
        assert 'another client changed the traits; they were restored' in first
        assert 'changed the traits (overwrite 2 in this loop); they were restored' in second
        for line in (first, second):
            assert f'{UNHEALTHY_TRAIT} set -> not set; {provider_yaml}, which nova-compute' in line
            assert 'remove it there, then restart nova-compute' in line

        provider_yaml.write_text('traits: {}\n')
        compute.traits_of_provider_yaml = frozenset()
        assert not compute.start().report(refresh=True)
        agent.pass_now()
        assert is_enabled(compute)
        assert len(agent.log_lines('another client')) == 2


def test_a_deleted_provider_is_reported_once(host, compute):
    """Until nova-compute creates it again."""
    with host.ready_daemon() as agent:
        compute.delete()
        agent.wait_for('STATUS', 'try 1 failed', after=agent.reload())
        agent.wait_for('STATUS', 'try 2 failed', after=agent.reload())
        agent.wait_for('STATUS', 'try 3 failed', after=agent.reload())
        (line,) = agent.log_lines(' ERROR ')
        assert f'{compute.name} ({compute.uuid}) was deleted from Placement' in line
        compute.start()
        agent.wait_for('STATUS', 'enabled', after=agent.reload())
        assert is_enabled(compute)
        assert agent.log_lines('Recovered after')
        assert len(agent.log_lines(' ERROR ')) == 1


def test_a_hostile_writer(host, compute):
    """As fast as it can, for seconds: no crash, nothing foreign lost, few lines in the log."""
    add_foreign_data(compute)
    before = foreign(compute)
    rest = threading.Event()
    writes = 0

    def overwrite():
        nonlocal writes
        mine = NovaCompute(compute.url, uuid=compute.uuid, name=compute.name)
        while not rest.is_set():
            try:
                total = 1024 + writes % 7
                mine.overwrite_inventory(total=total, max_unit=total)
                mine.change_traits(add={'CUSTOM_NOISE'}, remove={ENABLED_TRAIT})
                writes += 2
            except ComputeError as error:
                if error.status != 409:
                    raise
                # The agent was faster.

    with host.ready_daemon() as agent:
        other = threading.Thread(target=overwrite)
        other.start()
        try:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                agent.pass_now()
        finally:
            rest.set()
            other.join()
        fought = writes
        agent.wait_for('STATUS', 'enabled', after=agent.reload())
        assert is_enabled(compute)
        assert foreign(compute) == before | {'traits': before['traits'] | {'CUSTOM_NOISE'}}
        repairs = agent.log_lines(' WARNING ')
        lost = agent.log_lines(' ERROR ')
        assert agent.terminate()[0] == 0
    assert 'Traceback' not in agent.log
    assert fought > 5
    # Neither the repairs nor the lost races are logged each time.
    numbers = [int(n) for n in re.findall(r'overwrite (\d+) in this loop', '\n'.join(repairs))]
    assert numbers
    assert all(n.bit_count() == 1 for n in numbers)
    assert len(repairs) + len(lost) < 15, repairs + lost

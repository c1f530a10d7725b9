# SPDX-License-Identifier: Apache-2.0
"""`fbm-agent` as systemd runs it: from before Placement is up until SIGTERM.

SIGHUP brings the next pass at once, so hardly a test waits for an interval to pass.
"""

import os
import re
import signal
import socket
import threading
import time

import pytest

from fbm_placement import names
from tests.functional.agent_process import (
    CAPACITY,
    ENABLED,
    AgentHost,
    Daemon,
    NotifySocket,
    add_foreign_things,
    foreign,
    is_enabled,
    own_traits,
)
from tests.services.nova_compute import ComputeError, NovaCompute
from tests.services.placement import PlacementServer
from tests.services.proxy import Proxy

AT_ONCE = 2.0
"""Seconds. An agent that waits has 5 s to go, one that asks has 30."""


@pytest.fixture
def host(compute, tmp_path):
    """A host with file-backed memory configured, and no agent yet."""
    return AgentHost(tmp_path, compute)


@pytest.fixture(scope='module')
def stoppable_placement(tmp_path_factory):
    """A Placement that is up and down as its tests want it."""
    with PlacementServer(tmp_path_factory.mktemp('stoppable-placement')) as server:
        yield server


def asked_since(placement, position):
    """Return method and path of each request since then."""
    return [(request.method, request.path) for request in placement.requests()[position:]]


# READY, and what has to be there before


def test_it_waits_for_placement_then_for_the_provider_then_is_ready(
    stoppable_placement, tmp_path, monkeypatch
):
    """A host boots before its controllers: nobody has to start the agent again."""
    placement = stoppable_placement
    compute = NovaCompute(placement.url)
    host = AgentHost(tmp_path / 'host', compute)
    placement.stop()
    # As systemd does, with a socket that has a path; the directory is short, as sun_path is.
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'notify'
    with NotifySocket(path) as notify, host.child(NOTIFY_SOCKET=str(path)) as child:
        agent = Daemon(child, notify)
        seen = agent.wait_for('STATUS', 'connection refused')
        agent.hang_up()
        seen = agent.wait_for('STATUS', 'try 2 failed', after=seen)

        placement.start()
        agent.hang_up()
        seen = agent.wait_for('STATUS', 'no resource provider', after=seen)
        # Until the first good pass systemd waits for READY: RELOADING would be a lie.
        assert agent.told('READY', 'RELOADING') == []

        before = compute.start().everything()
        agent.hang_up()
        seen = agent.wait_for('READY', after=seen)
        assert f'enabled: {compute.name}' in notify.messages[seen - 1]['STATUS']
        assert is_enabled(compute)
        assert foreign(compute)['inventories'] == {
            name: record for name, record in before['inventories'].items() if name != 'MEMORY_MB'
        }
        assert agent.terminate()[0] == 0
    # Each trouble is told when it begins, not at every try.
    assert len(agent.log_lines('connection refused')) <= 4
    assert agent.log_lines('Recovered after')


def test_systemd_is_told_of_each_turn(host):
    """READY with the first good pass, RELOADING before READY, WATCHDOG in time, STOPPING."""
    with host.daemon(WATCHDOG_USEC='400000') as agent:
        ready = agent.wait_for('READY')
        assert all('WATCHDOG' in message for message in agent.notify.messages[: ready - 1])
        assert is_enabled(host.compute)
        agent.pass_now()
        # Signs of life go on between two passes, at least as often as systemd wants them.
        alive = agent.told('WATCHDOG').count(('WATCHDOG', '1'))
        start = time.monotonic()
        agent.wait_until(
            lambda: len(agent.told('WATCHDOG')) >= alive + 4, 'four more signs of life'
        )
        assert time.monotonic() - start < 4 * 0.4
        assert agent.terminate()[0] == 0
    told = [name for name, _ in agent.told('READY', 'RELOADING', 'STOPPING')]
    assert told == ['READY', 'RELOADING', 'READY', 'STOPPING']


def test_nobody_who_listens_is_no_trouble(host):
    """Started by hand there is no NOTIFY_SOCKET; a dead one must not stop the work either."""
    with host.daemon(NOTIFY_SOCKET='/nonexistent/notify', WATCHDOG_USEC='100000') as agent:
        agent.wait_until(lambda: 'Ready: enabled' in agent.log, 'ready')
        assert is_enabled(host.compute)
        assert agent.terminate()[0] == 0


def test_somebody_who_does_not_listen_is_no_trouble(host, tmp_path):
    """A frozen systemd reads nothing, and its queue is short: the agent works and ends anyway."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind('')
        name = '@' + deaf.getsockname()[1:].decode()
        with host.child(NOTIFY_SOCKET=name, WATCHDOG_USEC='20000') as child:
            child.wait_for_output('Ready: enabled')
            # A hundred signs of life, where ten fill the queue.
            time.sleep(1)
            host.compute.overwrite_inventory(total=4096)
            child.send_signal(signal.SIGHUP)
            child.wait_for_output('MEMORY_MB was overwritten', timeout=10)
            child.send_signal(signal.SIGTERM)
            assert child.wait(10) == 0


# Passes


def test_a_quiet_pass_is_one_request(host, placement):
    path = f'/resource_providers/{host.compute.uuid}/inventories'
    with host.ready_daemon() as agent:
        for _ in range(3):
            position = len(placement.requests())
            assert 'enabled' in agent.pass_now()
            assert asked_since(placement, position) == [('GET', path)]


def test_what_others_change_without_touching_ours_is_read_and_left(host, placement):
    """An instance more: the new sum is told; nothing is written."""
    with host.ready_daemon() as agent:
        add_foreign_things(host.compute)
        before = host.compute.everything()
        position = len(placement.requests())
        assert '20 MiB allocated' in agent.pass_now()
        assert {method for method, _ in asked_since(placement, position)} == {'GET'}
        assert host.compute.everything() == before
    assert 'overwritten' not in agent.log


def test_placement_may_go_and_come_back(stoppable_placement, tmp_path):
    placement = stoppable_placement
    compute = NovaCompute(placement.url).start()
    host = AgentHost(tmp_path, compute)
    with host.ready_daemon() as agent:
        add_foreign_things(compute)
        before = foreign(compute)
        placement.stop()
        told = agent.wait_for('READY', after=agent.hang_up())
        told = agent.wait_for('STATUS', 'connection refused', after=told)
        # Down for longer than a try: it goes on by itself.
        told = agent.wait_for('STATUS', 'try 2 failed', after=told)
        placement.start()
        compute.rewrite_inventory()
        agent.wait_for('STATUS', 'enabled', after=agent.hang_up())
        assert is_enabled(compute)
        lost = {'CUSTOM_LICENSE'}  # nova-compute's own report leaves it out
        kept = {k: v for k, v in before['inventories'].items() if k not in lost}
        assert foreign(compute) == before | {'inventories': kept}
        assert agent.log_lines('Recovered after')
    refused = agent.log_lines('connection refused')
    assert len(refused) <= 4
    # Once in each line, and without Python's name for it.
    assert [line.count('connection refused') for line in refused] == [1] * len(refused)


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
            go_on.wait(10)

    with Proxy(placement.url, before=hold) as proxy:
        host.speak_to(proxy.url)
        with host.daemon() as agent:
            assert entered.wait(10)
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
    assert agent.told('READY') == []
    host.speak_to(placement.url)
    assert host.once().status == 0
    assert is_enabled(host.compute)


def test_sigterm_ends_the_wait_after_a_conflict(host, placement):
    """No try is made any more, however many are left."""
    conflicts = threading.Semaphore(0)

    def outrun(request):
        if request.method == 'PUT':
            host.compute.change_traits(add={f'CUSTOM_T{request.number}'})
            conflicts.release()

    with Proxy(placement.url, before=outrun) as proxy:
        host.speak_to(proxy.url)
        with host.daemon() as agent:
            assert conflicts.acquire(timeout=10)
            status, seconds = agent.terminate()
            assert status == 0
            assert seconds < AT_ONCE
        assert len([r for r in proxy.requests if r.method == 'PUT']) <= 2
    assert own_traits(host.compute) == set()


# SIGHUP


def test_sighup_reads_the_agents_options_and_leaves_novas(host, placement):
    """nova-compute reads its options once: an agent that followed them before it would fight."""
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
    """Of the overwrites the 3rd, 5th, 6th and 7th are told for debugging only."""

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


def test_the_interval_read_at_sighup_is_the_one_that_is_waited(host, placement):
    """The pass that comes with the clock is a quiet one too."""
    host.configure('file_backed_memory', interval=3600)
    with host.ready_daemon() as agent:
        host.configure('file_backed_memory', interval=5)
        agent.pass_now()
        position = len(placement.requests())
        start = time.monotonic()
        agent.wait_until(lambda: len(placement.requests()) > position, 'the next pass')
        assert 4 < time.monotonic() - start < 7
        assert agent.terminate()[0] == 0
    path = f'/resource_providers/{host.compute.uuid}/inventories'
    assert asked_since(placement, position) == [('GET', path)]


@pytest.mark.parametrize(
    ('section', 'wrong'),
    [
        ('file_backed_memory', {'interval': 2}),
        ('file_backed_memory', {'interval': 'often'}),
        ('DEFAULT', {'debug': 'perhaps'}),
    ],
)
def test_a_wrong_value_at_sighup_keeps_the_old(host, compute, section, wrong):
    """The edit is told with the option's name; a mended one is taken."""
    with host.ready_daemon() as agent:
        host.configure(section, **wrong)
        compute.overwrite_inventory(total=4096)
        assert 'enabled' in agent.pass_now()
        assert is_enabled(compute)
        assert len(agent.log_lines('Configuration not reloaded, the previous one stays')) == 1
        (option,) = wrong
        assert option in agent.log
        host.configure(section, **dict.fromkeys(wrong))
        host.configure('file_backed_memory', interval=7)
        agent.pass_now()
        assert 'interval=7' in agent.log_lines('Configuration reloaded')[-1]


def test_a_file_that_has_gone_at_sighup_keeps_the_old(host):
    with host.ready_daemon() as agent:
        host.nova_conf.unlink()
        assert 'enabled' in agent.pass_now()
        assert agent.log_lines('Configuration not reloaded, the previous one stays')


# Others who write


def test_an_overwrite_is_repaired_and_told_once_as_what_it_is(host, compute):
    dram_mib = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2**20
    compute.memory_mib = dram_mib
    compute.start()
    with host.ready_daemon() as agent:
        assert compute.rewrite_inventory()
        agent.pass_now()
        assert is_enabled(compute)
        agent.pass_now()
        (told,) = agent.log_lines('overwritten')
        assert 'WARNING' in told
        for words in (
            f'found total={dram_mib} reserved=512 max_unit={dram_mib} allocation_ratio=1.5',
            f'restored total={CAPACITY} reserved=0',
            "nova-compute: this is the host's DRAM",
            f'[libvirt]file_backed_memory = {CAPACITY}',
            '[DEFAULT]ram_allocation_ratio = 1.0',
            '[DEFAULT]reserved_host_memory_mb = 0',
        ):
            assert words in told

        # An hour is not over, so the next one belongs to the same loop.
        compute.overwrite_inventory(max_unit=1024)
        agent.pass_now()
        assert is_enabled(compute)
        assert 'an operator or a tool' in agent.log_lines('overwrite 2 in this loop')[0]

        # What the agent itself wrote is no overwrite, nor is what others write elsewhere.
        compute.overwrite_inventory('VCPU', total=64)
        agent.pass_now()
        assert len(agent.log_lines('overwritten')) == 2


def test_traits_taken_away_are_put_back_and_told(host, compute):
    with host.ready_daemon() as agent:
        add_foreign_things(compute)
        before = compute.everything()
        compute.change_traits(remove={names.TRAIT_ENABLED}, add={names.TRAIT_UNHEALTHY})
        agent.pass_now()
        assert compute.everything() == before
        (told,) = agent.log_lines('another client changed the traits')
        assert names.TRAIT_UNHEALTHY in told


def test_a_hostile_writer(host, compute):
    """As fast as it can, for seconds: no crash, nothing foreign lost, few words, then peace."""
    add_foreign_things(compute)
    before = foreign(compute)
    rest = threading.Event()
    writes = 0

    def quarrel():
        nonlocal writes
        mine = NovaCompute(compute.url, uuid=compute.uuid, name=compute.name)
        while not rest.is_set():
            try:
                total = 1024 + writes % 7
                mine.overwrite_inventory(total=total, max_unit=total)
                mine.change_traits(add={'CUSTOM_NOISE'}, remove={names.TRAIT_ENABLED})
                writes += 2
            except ComputeError as error:
                if error.status != 409:
                    raise
                # The agent was faster this time.

    with host.ready_daemon() as agent:
        other = threading.Thread(target=quarrel)
        other.start()
        try:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                agent.pass_now()
        finally:
            rest.set()
            other.join()
        fought = writes
        agent.wait_for('STATUS', 'enabled', after=agent.hang_up())
        assert is_enabled(compute)
        assert foreign(compute) == before | {'traits': before['traits'] | {'CUSTOM_NOISE'}}
        told = agent.log_lines(' WARNING ')
        lost = agent.log_lines(' ERROR ')
        assert agent.terminate()[0] == 0
    assert 'Traceback' not in agent.log
    assert fought > 5
    # Neither the repairs nor the lost races are told each time.
    numbers = [int(n) for n in re.findall(r'overwrite (\d+) in this loop', '\n'.join(told))]
    assert numbers
    assert all(n.bit_count() == 1 for n in numbers)
    assert len(told) + len(lost) < 15, told + lost

# SPDX-License-Identifier: Apache-2.0
"""`kill -9` at every step between requests: the next pass finishes, and nothing else changes.

What Placement holds changes only with a request that writes. So two moments are tried: before a
request is forwarded, for each request, and after it was forwarded but before it is answered, for
each that writes; a kill after a GET leaves what the kill before the next request leaves.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.services.agent import AgentHost
from tests.services.expected import (
    ENABLED,
    ENABLED_TRAIT,
    OWN_TRAITS,
    add_foreign_data,
    capacity_before_trait,
    foreign,
    is_enabled,
    make_enabled,
    own_traits,
)
from tests.services.nova_compute import NovaCompute
from tests.services.placement import PlacementServer
from tests.services.process import PATIENCE
from tests.services.proxy import HangUp, Proxy

READ = ['GET traits', 'GET resource_providers', 'GET inventories', 'GET traits', 'GET allocations']
"""What a pass requests before it may write: method and last part of the path."""
PUT_INVENTORY = 'PUT MEMORY_MB'
PUT_TRAITS = 'PUT traits'
CREATE_TRAITS = [f'PUT {trait}' for trait in sorted(OWN_TRAITS)]


@dataclass(frozen=True)
class Transition:
    prepare: Callable[[AgentHost], None]
    """Brings the host to where the pass begins."""
    requests: list[str]
    """What an undisturbed pass sends."""
    is_done: Callable[[NovaCompute], bool]
    """Whether Placement holds what it should at the end."""

    def moments(self) -> Iterator[tuple[int, bool]]:
        """Return each moment of a kill: number of the request, and whether it was forwarded."""
        for number, request in enumerate(self.requests, 1):
            yield number, False
            if not request.startswith('GET'):
                yield number, True


def new(host):
    """Configured, and no agent was ever here."""


def configured_off(host):
    make_enabled(host.compute)
    host.configure('libvirt', file_backed_memory=0)


def overwritten(host):
    make_enabled(host.compute)
    host.compute.change_traits(remove={ENABLED_TRAIT})
    host.compute.overwrite_inventory(total=65536, max_unit=65536, allocation_ratio=1.5)


def is_off(compute):
    return compute.inventory() == ENABLED and own_traits(compute) == set()


TURNING_ON = Transition(new, [*READ, PUT_INVENTORY, PUT_TRAITS], is_enabled)
TURNING_OFF = Transition(configured_off, [*READ, PUT_TRAITS], is_off)
REPAIR = Transition(overwritten, [*READ, PUT_INVENTORY, PUT_TRAITS], is_enabled)
FIRST_OF_A_CLOUD = Transition(new, [READ[0], *CREATE_TRAITS, *TURNING_ON.requests[1:]], is_enabled)

every_transition = pytest.mark.parametrize(
    'transition', [TURNING_ON, TURNING_OFF, REPAIR], ids=['turning on', 'turning off', 'a repair']
)


@pytest.fixture(scope='module', autouse=True)
def _traits_exist(placement):
    """In `placement` some other host's agent has been before."""
    NovaCompute(placement.url).create_traits(OWN_TRAITS)


@pytest.fixture(scope='module')
def new_placement(tmp_path_factory):
    with PlacementServer(tmp_path_factory.mktemp('new-placement')) as server:
        yield server


def forget_traits(compute):
    compute.change_traits(remove=OWN_TRAITS)
    known = compute.call('GET', '/traits?name=startswith:CUSTOM_FILE_BACKED_MEMORY')['traits']
    for trait in OWN_TRAITS & set(known):
        compute.call('DELETE', f'/traits/{trait}')


def check_undisturbed(url, compute, directory, transition):
    add_foreign_data(compute)
    host = AgentHost(directory, compute)
    transition.prepare(host)
    before = foreign(compute)

    def check(request, answer):
        if request.method != 'GET':
            assert capacity_before_trait(compute)
            assert foreign(compute) == before

    with Proxy(url, after=check) as proxy:
        host.speak_to(proxy.url)
        assert host.once().status == 0
        assert [
            f'{request.method} {request.path.partition("?")[0].rpartition("/")[2]}'
            for request in proxy.requests
        ] == transition.requests
    assert transition.is_done(compute)


def check_killed(url, directory, transition, number, *, forwarded):
    """Kill the agent at this moment, check Placement, and have a plain pass finish."""
    compute = NovaCompute(url).start()
    add_foreign_data(compute)
    host = AgentHost(directory, compute)
    transition.prepare(host)
    prepared, before = compute.everything(), foreign(compute)
    child = host.child('--once')
    started = threading.Event()

    def kill(request, answer=None):
        if request.number == number:
            assert started.wait(PATIENCE)
            child.kill()
            raise HangUp

    with Proxy(url) as proxy:
        if forwarded:
            proxy.after = kill
        else:
            proxy.before = kill
        host.speak_to(proxy.url)
        child.start()
        started.set()
        assert child.wait() == -9
        assert len(proxy.requests) == number
        assert len(proxy.answers) == number - (not forwarded)

    assert capacity_before_trait(compute)
    if all(request.startswith('GET') for request in transition.requests[: len(proxy.answers)]):
        # From here the next pass is the undisturbed one.
        assert compute.everything() == prepared
        return compute
    assert foreign(compute) == before

    host.speak_to(url)
    assert host.once().is_clean
    assert transition.is_done(compute)
    assert foreign(compute) == before
    return compute


@every_transition
def test_an_undisturbed_pass(placement, compute, tmp_path, transition):
    """At no time is the enabled trait there without the right inventory."""
    check_undisturbed(placement.url, compute, tmp_path, transition)


@every_transition
def test_killed_at_every_step(placement, tmp_path, transition):
    """Two at a time, as most of what each takes is the agent's start."""

    def one(moment):
        number, forwarded = moment
        directory = tmp_path / f'{number}-{forwarded}'
        try:
            check_killed(placement.url, directory, transition, number, forwarded=forwarded)
        except BaseException as error:
            where = 'after it was forwarded' if forwarded else 'before it was forwarded'
            error.add_note(
                f'killed at request {number}, {transition.requests[number - 1]}, {where}'
            )
            raise

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, transition.moments()))


def test_an_undisturbed_pass_of_the_first_host_of_a_cloud(new_placement, tmp_path):
    compute = NovaCompute(new_placement.url).start()
    check_undisturbed(new_placement.url, compute, tmp_path, FIRST_OF_A_CLOUD)
    forget_traits(compute)


@pytest.mark.parametrize('created', range(1, 1 + len(CREATE_TRAITS)))
def test_killed_while_it_creates_the_traits(new_placement, tmp_path, created):
    """The next pass finds some of them."""
    compute = check_killed(
        new_placement.url, tmp_path, FIRST_OF_A_CLOUD, 1 + created, forwarded=True
    )
    forget_traits(compute)


def test_a_daemon_killed_at_its_repair_is_followed_by_one_that_finishes(placement, tmp_path):
    """As systemd restarts it: the new one remembers nothing."""
    compute = NovaCompute(placement.url).start()
    add_foreign_data(compute)
    before = foreign(compute)
    host = AgentHost(tmp_path, compute)
    with Proxy(placement.url) as proxy:
        host.speak_to(proxy.url)
        with host.ready_daemon() as agent:

            def kill(request):
                if request.method == 'PUT':
                    agent.child.kill()
                    raise HangUp

            compute.overwrite_inventory(total=65536, max_unit=65536)
            proxy.before = kill
            agent.reload()
            assert agent.child.wait() == -9
        assert compute.inventory()['total'] == 65536
        proxy.forget()
        with host.ready_daemon():
            assert is_enabled(compute)
            assert foreign(compute) == before

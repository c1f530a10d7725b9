# SPDX-License-Identifier: Apache-2.0
"""The filter alone, and the snapshot it decides by."""

import dataclasses
import logging
import threading
import time

import pytest
from nova import context as nova_context

from fbm_filters import host_filter, placement, policy, rules, snapshot
from fbm_filters.errors import PlacementUnknownError
from fbm_filters.rules import Policy, RequestFacts, decide
from fbm_placement.names import TRAIT_DISK, TRAIT_ENABLED, TRAIT_UNHEALTHY
from tests.unit.filters.test_facts import spec
from tests.unit.filters.test_prefilter import Traits

CONTEXT = nova_context.get_admin_context()
PROVIDERS = {
    TRAIT_ENABLED: {'disk', 'tmpfs', 'sick'},
    TRAIT_DISK: {'disk', 'sick'},
    TRAIT_UNHEALTHY: {'sick'},
}


@dataclasses.dataclass
class Host:
    """What the filter reads of a HostState."""

    uuid: str

    @property
    def host(self) -> str:
        """Its name."""
        return f'compute-{self.uuid}'


HOSTS = [Host(name) for name in ('plain', 'disk', 'tmpfs', 'sick')]


class World:
    """Placement and the time, for ``Snapshots``."""

    def __init__(self, monkeypatch):
        self.providers = {trait: set(uuids) for trait, uuids in PROVIDERS.items()}
        self.fetched = 0
        self.trouble = None
        self.now = 0.0
        monkeypatch.setattr(placement, 'providers_with', self._providers_with)

    def _providers_with(self, context, trait):
        self.fetched += 1
        if self.trouble is not None:
            raise self.trouble
        return frozenset(self.providers[trait])

    def snapshots(self, refresh_interval=60):
        """Return snapshots of this world."""
        return snapshot.Snapshots(Traits(), refresh_interval, lambda: self.now)


@pytest.fixture
def world(monkeypatch):
    """Return a world with one host of each kind."""
    return World(monkeypatch)


@pytest.fixture
def alone(world):
    """Return the filter with the pre-filter off."""
    made = host_filter.FileBackedMemoryFilter.__new__(host_filter.FileBackedMemoryFilter)
    made._policy = Policy()
    made._prefilter_active = False
    made._snapshots = world.snapshots()
    return made


def left(found):
    """Return which hosts were left."""
    return [host.uuid for host in found]


def test_with_the_prefilter_all_pass(alone, world) -> None:
    """Placement has decided."""
    alone._prefilter_active = True
    assert alone.filter_all(HOSTS, spec({'hw:mem_page_size': 'small'})) is HOSTS
    assert world.fetched == 0


@pytest.mark.parametrize(
    ('extra_specs', 'hosts'),
    [
        ({}, ['plain', 'disk', 'tmpfs']),
        ({'hw:mem_page_size': 'small'}, ['plain']),
        ({f'trait:{TRAIT_ENABLED}': 'required'}, ['disk', 'tmpfs']),
        ({'resources:VGPU': '1'}, ['plain', 'tmpfs']),
    ],
)
def test_alone_it_gives_the_same_hosts(alone, extra_specs, hosts) -> None:
    """The same function decides."""
    assert left(alone.filter_all(HOSTS, spec(extra_specs))) == hosts


def test_a_rebuild_is_left_alone(alone, world) -> None:
    """Overriding filter_all bypasses RUN_ON_REBUILD."""
    asked = spec({'hw:mem_page_size': 'small'})
    asked.scheduler_hints = {'_nova_check_type': ['rebuild']}
    assert alone.filter_all(HOSTS, asked) is HOSTS
    assert world.fetched == 0


def test_a_contradiction_leaves_none(alone, caplog) -> None:
    """The filter has no words for a user, so the log has."""
    caplog.set_level(logging.INFO)
    asked = spec({f'trait:{TRAIT_ENABLED}': 'required', 'hw:mem_page_size': 'small'})
    assert alone.filter_all(HOSTS, asked) == []
    assert 'change one' in caplog.text


def test_rejections_are_logged_once_with_counts_and_examples(alone, caplog) -> None:
    """Not once per host."""
    caplog.set_level(logging.INFO, logger='fbm_filters')
    many = [*HOSTS, *(Host('disk') for _ in range(7))]
    alone.filter_all(many, spec({'hw:mem_page_size': 'small'}))
    (line,) = [record.getMessage() for record in caplog.records]
    assert '10 hosts (compute-disk, compute-tmpfs, compute-sick, ...)' in line
    assert 'hw:mem_page_size' in line


def test_never_rejects_on_a_snapshot_older_than_the_request(alone, world) -> None:
    """The host may have changed since."""
    asked = spec({f'trait:{TRAIT_ENABLED}': 'required'})
    assert left(alone.filter_all([Host('new')], asked)) == []
    world.now = 10.0
    world.providers[TRAIT_ENABLED].add('new')
    assert left(alone.filter_all([Host('new')], asked)) == ['new']
    assert world.fetched == 6


def test_passes_on_a_recent_snapshot_without_a_request(alone, world) -> None:
    """Nothing is rejected, so nothing is asked again until the interval is over."""
    for world.now in (0.0, 30.0, 59.0):
        assert left(alone.filter_all([HOSTS[0]], spec())) == ['plain']
    assert world.fetched == 3
    world.now = 61.0
    alone.filter_all([HOSTS[0]], spec())
    assert world.fetched == 6


def test_the_old_snapshot_is_kept_when_placement_fails(alone, world) -> None:
    """Better than none."""
    alone.filter_all(HOSTS, spec())
    world.now, world.trouble = 100.0, PlacementUnknownError('x', 'y')
    assert left(alone.filter_all(HOSTS, spec({'hw:mem_page_size': 'small'}))) == ['plain']


def test_a_snapshot_is_not_kept_for_ever(alone, world) -> None:
    """After five intervals it is as if there were none."""
    alone.filter_all(HOSTS, spec())
    world.now, world.trouble = 301.0, PlacementUnknownError('x', 'y')
    assert alone.filter_all(HOSTS, spec({'hw:mem_page_size': 'small'})) == []
    assert left(alone.filter_all(HOSTS, spec())) == [host.uuid for host in HOSTS]


def test_a_live_migration_is_not_let_through_on_an_old_snapshot(alone, world, monkeypatch) -> None:
    """A host that is another kind by now would refuse it late."""
    answer = decide(RequestFacts(source=rules.Host('source', frozenset())), Policy())
    monkeypatch.setattr(host_filter, 'answer_for', lambda *_args: answer)
    assert left(alone.filter_all(HOSTS, spec())) == ['plain']
    world.now = 1.0
    world.providers[TRAIT_ENABLED].add('plain')
    assert alone.filter_all(HOSTS, spec()) == []


def test_without_any_snapshot(alone, world) -> None:
    """A plain request passes; one that the rules are about finds no host."""
    world.trouble = PlacementUnknownError('x', 'y')
    assert left(alone.filter_all(HOSTS, spec())) == [host.uuid for host in HOSTS]
    assert alone.filter_all(HOSTS, spec({'hw:mem_page_size': 'small'})) == []


def test_one_thread_fetches_and_the_others_wait(world, monkeypatch) -> None:
    """Twenty requests at once cost three requests to Placement."""
    real = placement.providers_with

    def slowly(context, trait):
        time.sleep(0.02)
        return real(context, trait)

    monkeypatch.setattr(placement, 'providers_with', slowly)
    snapshots = world.snapshots()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(snapshots.recent(CONTEXT, 0.0)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert world.fetched == 3


def test_the_options_are_read_when_nova_makes_the_filter() -> None:
    """A wrong one ends nova-scheduler at its start, not a request later."""
    assert host_filter.FileBackedMemoryFilter.RUN_ON_REBUILD is False
    assert host_filter.FileBackedMemoryFilter.run_filter_once_per_request is True
    assert {opt.name for opt in policy.SCHEDULER_OPTS} >= {'prefilter', 'refresh_interval'}

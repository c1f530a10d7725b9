# SPDX-License-Identifier: Apache-2.0
"""The filter with ``prefilter = false``, and the snapshot by which it decides."""

import dataclasses
import logging

import nova.conf
import pytest
import requests
from oslo_config import cfg

from fbm_filters import host_filter, options
from fbm_filters.rules import Policy, RequestFacts, SchedulerHost, decide
from fbm_placement.constants import TRAIT_ENABLED
from tests.unit.fake_placement import Provider
from tests.unit.filters.specs import spec

AWAY = requests.ConnectionError('no route')


@dataclasses.dataclass
class Host:
    uuid: str

    @property
    def host(self) -> str:
        return f'compute-{self.uuid}'


HOSTS = [Host(name) for name in ('plain', 'disk', 'tmpfs', 'sick')]


@pytest.fixture
def make(placement, clock, nova_list):
    options.register_opts(nova.conf.CONF)

    def make(prefilter):
        nova.conf.CONF.set_override('prefilter', prefilter, group='file_backed_memory')
        made.append(host_filter.FileBackedMemoryFilter(clock))
        return made[-1]

    made = []
    yield make
    for one in made:
        one.cache.close()
    nova.conf.CONF.clear_override('prefilter', group='file_backed_memory')


@pytest.fixture
def alone(make):
    return make(False)


def left(found):
    return [host.uuid for host in found]


@pytest.mark.parametrize(
    ('prefilter', 'interval', 'seconds', 'usable'),
    [(True, 60, 5, 300), (True, 2, 2, 10), (False, 60, 60, 300)],
)
def test_how_often_it_reads(make, prefilter, interval, seconds, usable) -> None:
    """The first host that turns unhealthy is left out soon; which hosts there are costs more."""
    nova.conf.CONF.set_override('refresh_interval', interval, group='file_backed_memory')
    try:
        cache = make(prefilter).cache
    finally:
        nova.conf.CONF.clear_override('refresh_interval', group='file_backed_memory')
    assert (cache.seconds, cache.usable_seconds) == (seconds, usable)


def test_with_the_prefilter_all_pass(make, placement) -> None:
    assert make(True).filter_all(HOSTS, spec({'hw:mem_page_size': 'small'})) is HOSTS
    assert placement.requests == []


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
    assert left(alone.filter_all(HOSTS, spec(extra_specs))) == hosts


def test_a_rebuild_is_left_alone(alone, placement) -> None:
    """Overriding filter_all bypasses RUN_ON_REBUILD."""
    asked = spec({'hw:mem_page_size': 'small'}, scheduler_hints={'_nova_check_type': ['rebuild']})
    assert alone.filter_all(HOSTS, asked) is HOSTS
    assert placement.requests == []


def test_a_contradiction_leaves_none(alone, caplog) -> None:
    """A filter has no message for a user, so the log has it."""
    caplog.set_level(logging.INFO)
    asked = spec({f'trait:{TRAIT_ENABLED}': 'required', 'hw:mem_page_size': 'small'})
    assert alone.filter_all(HOSTS, asked) == []
    assert 'change one' in caplog.text


def test_rejections_are_logged_once_with_counts_and_examples(alone, caplog) -> None:
    caplog.set_level(logging.INFO, logger='fbm_filters')
    many = [*HOSTS, *(Host('disk') for _ in range(7))]
    alone.filter_all(many, spec({'hw:mem_page_size': 'small'}))
    (line,) = [record.getMessage() for record in caplog.records]
    assert '10 hosts (compute-disk, compute-tmpfs, compute-sick, ...)' in line
    assert 'hw:mem_page_size' in line


def test_a_boot_goes_by_what_is_known(alone, placement, clock) -> None:
    """A host that has changed since is seen when the thread has read again."""
    asked = spec({f'trait:{TRAIT_ENABLED}': 'required'})
    assert left(alone.filter_all([Host('new')], asked)) == []
    assert len(placement.requests) == 4  # the traits, and the providers of each that is in use
    clock.now = 10.0
    placement.providers['new'] = Provider('new', traits={TRAIT_ENABLED})
    for clock.now in (10.0, 300.0):
        assert left(alone.filter_all([Host('new')], asked)) == []
    assert len(placement.requests) == 4
    clock.now = 301.0
    assert left(alone.filter_all([Host('new')], asked)) == ['new']


def test_a_live_migration_goes_by_what_is_so_now(alone, placement, clock, monkeypatch) -> None:
    """A host that is another kind now would refuse it late."""
    answer = decide(RequestFacts(source=SchedulerHost('source', frozenset())), Policy())
    monkeypatch.setattr(host_filter, 'answer_for', lambda *_args: answer)
    assert left(alone.filter_all(HOSTS, spec())) == ['plain']
    clock.now = 1.0
    placement.providers['plain'].traits = {TRAIT_ENABLED}
    assert alone.filter_all(HOSTS, spec()) == []
    clock.now = 2.0
    placement.failure = AWAY
    assert alone.filter_all(HOSTS, spec()) == []


def test_a_host_whose_agent_has_not_run_yet(alone, placement) -> None:
    placement.traits.add('COMPUTE_MEM_BACKING_FILE')
    placement.providers['early'] = Provider('early', traits={'COMPUTE_MEM_BACKING_FILE'})
    hosts = [*HOSTS, Host('early')]
    assert left(alone.filter_all(hosts, spec({'hw:mem_page_size': 'small'}))) == ['plain']
    assert left(alone.filter_all(hosts, spec())) == ['plain', 'disk', 'tmpfs', 'early']


def test_when_placement_fails(alone, placement, clock) -> None:
    """The old snapshot is better than none, for five intervals; then only plain requests pass."""
    alone.filter_all(HOSTS, spec())
    placement.failure = AWAY
    for clock.now, plain, paged in (
        (100.0, ['plain', 'disk', 'tmpfs'], ['plain']),
        (301.0, ['plain', 'disk', 'tmpfs', 'sick'], []),
    ):
        assert left(alone.filter_all(HOSTS, spec())) == plain
        assert left(alone.filter_all(HOSTS, spec({'hw:mem_page_size': 'small'}))) == paged


def test_without_any_snapshot(alone, placement) -> None:
    """A plain request passes; one that the rules are about finds no host."""
    placement.failure = AWAY
    assert left(alone.filter_all(HOSTS, spec())) == ['plain', 'disk', 'tmpfs', 'sick']
    assert alone.filter_all(HOSTS, spec({'hw:mem_page_size': 'small'})) == []


def test_a_wrong_option_ends_nova_scheduler_at_its_start(tmp_path, monkeypatch, nova_list) -> None:
    path = tmp_path / 'nova.conf'
    path.write_text('[file_backed_memory]\nrefresh_interval = 0\n')
    conf = cfg.ConfigOpts()
    conf(['--config-file', str(path)], project='nova')
    monkeypatch.setattr(nova.conf, 'CONF', conf)
    with pytest.raises(cfg.ConfigFileValueError, match='refresh_interval'):
        host_filter.FileBackedMemoryFilter()


def test_nova_calls_it_once_for_a_request() -> None:
    assert host_filter.FileBackedMemoryFilter.RUN_ON_REBUILD is False
    assert host_filter.FileBackedMemoryFilter.run_filter_once_per_request is True

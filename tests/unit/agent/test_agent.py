# SPDX-License-Identifier: Apache-2.0
"""What the agent remembers, drops and logs between passes, over a Placement in memory."""

import dataclasses
import json
import logging

import pytest
import requests

from fbm_placement import errors
from fbm_placement.agent import agent as agent_module
from fbm_placement.agent.agent import Agent
from fbm_placement.conf import reader
from fbm_placement.model import HostFacts, Problem
from tests.unit import fake_placement
from tests.unit.fake_placement import NAME, TRAITS, UUID
from tests.unit.nova_conf_text import ENABLED

OTHER_UUID = 'a1b2c3d4-0000-4000-8000-000000000002'
WANTED = fake_placement.inventory(total=1048576, reserved=0, ratio=1.0)
OWN = {
    'CUSTOM_FILE_BACKED_MEMORY',
    'CUSTOM_FILE_BACKED_MEMORY_DISK',
    'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY',
}
ENABLED_TRAITS = TRAITS | OWN - {'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'}
HERE = f'/resource_providers/{UUID}'
INVENTORY = ('GET', f'{HERE}/inventories')


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO, logger='fbm_placement')
    return caplog


@pytest.fixture
def make(nova_conf, compute_id, placement, clock, monkeypatch):
    connections = []
    real = agent_module.session.connect

    def connect(conf, before_request):
        connections.append(conf)
        return real(conf, before_request)

    monkeypatch.setattr(agent_module.session, 'connect', connect)

    def make(text=ENABLED, **kwargs):
        compute_id()
        conf = nova_conf(text)
        kwargs.setdefault('wait', lambda seconds: None)
        made = Agent(
            conf,
            reader.read_settings(conf),
            reader.read_agent_options(conf),
            clock=clock,
            **kwargs,
        )
        made.connections = connections
        return made

    return make


@pytest.fixture
def agent(make):
    return make()


@pytest.fixture
def settled(agent, log):
    run_pass(agent)
    log.clear()
    return agent


def run_pass(agent):
    return agent.reconcile(agent.observe())


def dry_run(agent):
    return agent.dry_run(agent.observe(publish=False))


def logged(caplog, level=logging.WARNING):
    lines = [record.getMessage() for record in caplog.records if record.levelno == level]
    caplog.clear()
    return lines


# One pass.


def test_a_new_agent_sends_nothing(make, placement):
    assert make().connections == []
    assert placement.requests == []


def test_first_pass(agent, placement, log):
    result = run_pass(agent)
    assert set(placement.writes[:3]) == {('PUT', f'/traits/{trait}') for trait in OWN}
    assert placement.writes[3:] == [
        ('PUT', f'{HERE}/inventories/MEMORY_MB'),
        ('PUT', f'{HERE}/traits'),
    ]
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.node.traits == ENABLED_TRAITS
    assert placement.node.inventories['VCPU']['total'] == 64
    assert result.provider.name == NAME
    found, change = logged(log, logging.INFO)
    assert 'found by UUID' in found
    assert 'compute_id' in found
    assert change.startswith(f'{NAME}: total 65536 -> 1048576, reserved 512 -> 0, ')
    assert 'CUSTOM_FILE_BACKED_MEMORY not set -> set' in change
    assert log.records == []


@pytest.mark.parametrize('work', [run_pass, dry_run])
def test_an_endpoint_that_is_not_placements_root(agent, placement, work):
    """The message names the endpoint, not nova-compute, even if its compute_id is there."""
    detail = {'errors': [{'status': 404, 'detail': 'The resource could not be found.'}]}
    placement.failure = {'status_code': 404, 'text': json.dumps(detail)}
    with pytest.raises(errors.PlacementError, match="this is not Placement's root"):
        work(agent)


def test_a_quiet_pass_costs_one_request(settled, placement, log):
    """It still has the numbers, for ``systemctl status``."""
    placement.allocate(77)
    run_pass(settled)
    assert placement.count(lambda: run_pass(settled)) == [INVENTORY]
    assert log.records == []
    result = run_pass(settled)
    assert result.seen.allocated_mib == 77
    assert dataclasses.asdict(result.seen.inventory) == WANTED


def test_the_traits_are_created_again_now_and_then(settled, placement, clock):
    """One that no provider has can be deleted."""
    placement.traits -= OWN
    clock.now += 599
    run_pass(settled)
    assert placement.traits == TRAITS
    clock.now += 1
    run_pass(settled)
    assert placement.traits == TRAITS | OWN


def test_every_ten_minutes_everything_is_read(settled, placement, clock):
    clock.now += 600
    requests_sent = placement.count(lambda: run_pass(settled))
    assert [path.partition('?')[0] for _, path in requests_sent] == [
        '/traits',
        f'{HERE}/inventories',
        f'{HERE}/traits',
        f'{HERE}/allocations',
    ]
    assert placement.count(lambda: run_pass(settled)) == [INVENTORY]


def test_a_disabled_host_gets_no_trait(make, placement):
    """But they exist: a pre-filter may name them."""
    before = json.dumps(placement.node.inventories)
    run_pass(make(''))
    assert placement.traits == TRAITS | OWN
    assert placement.node.traits == TRAITS
    assert json.dumps(placement.node.inventories) == before


def test_no_inventory_yet(agent, placement, compute_id):
    """It may be a leftover: nova-compute may report under another UUID."""
    del placement.node.inventories['MEMORY_MB']
    for _ in range(2):
        with pytest.raises(errors.NotReadyError, match=f'^{NAME}: nova-compute has not created'):
            run_pass(agent)
    assert [path for _, path in placement.writes if path.startswith(HERE)] == []
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'other')
    compute_id(OTHER_UUID)
    assert run_pass(agent).provider.name == 'other'
    assert placement.providers[OTHER_UUID].inventories['MEMORY_MB'] == WANTED


def test_no_provider_yet(agent, placement):
    node = placement.providers.pop(UUID)
    with pytest.raises(errors.NotReadyError, match='Placement has no resource provider with UUID'):
        run_pass(agent)
    placement.providers[UUID] = node
    run_pass(agent)
    assert placement.node.traits == ENABLED_TRAITS


def test_asked_to_stop(make, placement):
    calls = []

    def before_request():
        calls.append(1)
        if len(calls) == 3:
            raise errors.StopRequested

    with pytest.raises(errors.StopRequested):
        run_pass(make(before_request=before_request))
    assert len(placement.requests) == 2


# What is dropped, and what is kept.

CONNECTION_ERRORS = {
    'refused': requests.exceptions.ConnectionError('refused'),
    '401': {'status_code': 401, 'text': 'who are you'},
    '503': {'status_code': 503, 'text': '', 'headers': {'Retry-After': '5'}},
    'HTML with 200': {'text': '<html>'},
}
"""One of each kind; every status and exception is in test_http.py."""


@pytest.mark.parametrize('error', CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_the_connection_is_dropped(settled, placement, error):
    """The endpoint may have moved, and what answers there may be another Placement."""
    assert len(settled.connections) == 1
    placement.failure = error
    for _ in range(2):
        with pytest.raises(errors.PlacementError):
            run_pass(settled)
    assert len(settled.connections) == 2
    placement.failure = None
    placement.traits -= OWN
    assert run_pass(settled).plan.steps == ()
    assert len(settled.connections) == 3
    assert placement.traits == TRAITS | OWN


@pytest.mark.parametrize('error', CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
@pytest.mark.parametrize('at', range(11))
def test_an_error_at_any_request(agent, placement, error, at):
    """Whichever request fails: nothing is written after it, and a later pass finishes."""

    def before(method, path):
        if len(placement.requests) == at + 1:
            placement.failure = error

    placement.before = before
    try:
        run_pass(agent)
    except errors.PlacementError:
        after = placement.requests[at + 1 :]
        assert not [path for how, path in after if how == 'PUT' and f'/{UUID}/' in path]
    else:
        assert len(placement.requests) <= at  # a pass is shorter than that
    placement.before, placement.failure = (lambda method, path: None), None
    run_pass(agent)
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.node.traits == ENABLED_TRAITS
    assert placement.node.inventories['VCPU']['total'] == 64
    assert placement.count(lambda: run_pass(agent)) == [INVENTORY]


def test_the_connection_is_kept_after_a_conflict(agent, placement):
    """A conflict says nothing against the connection or the provider."""

    def before(method, path):
        if method == 'PUT' and path.startswith(HERE):
            placement.node.generation += 1

    placement.before = before
    with pytest.raises(errors.ConflictError):
        run_pass(agent)
    placement.before = lambda method, path: None
    assert placement.count(lambda: run_pass(agent))[0] == INVENTORY
    assert len(agent.connections) == 1
    assert placement.node.inventories['MEMORY_MB'] == WANTED


@pytest.mark.parametrize(('uuid', 'name'), [(UUID, 'renamed'), (OTHER_UUID, NAME)])
def test_a_deleted_provider_is_looked_up_again(settled, placement, compute_id, uuid, name):
    """nova-compute may create it again under another name or UUID; the connection is kept."""
    del placement.providers[UUID]
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'unrelated')
    compute_id(uuid)
    with pytest.raises(errors.NotReadyError, match=rf'^{NAME} \({UUID}\) was deleted from'):
        run_pass(settled)
    node = placement.providers[uuid] = fake_placement.Provider(uuid, name)
    assert run_pass(settled).provider.name == name
    assert node.inventories['MEMORY_MB'] == WANTED
    assert node.traits == ENABLED_TRAITS
    assert len(settled.connections) == 1


def test_a_deleted_provider_is_one_failure(settled, placement, compute_id):
    """Until it is there again, under whichever UUID; later a missing one is another failure."""
    node = placement.providers.pop(UUID)
    for _ in range(3):
        with pytest.raises(errors.NotReadyError) as raised:
            run_pass(settled)
        assert str(raised.value) == (
            f'{NAME} ({UUID}) was deleted from Placement; nova-compute creates it again when it '
            'next reports: is it running on this host?'
        )
    placement.providers[UUID] = node
    run_pass(settled)
    del node.inventories['MEMORY_MB']
    with pytest.raises(errors.NotReadyError, match='nova-compute has not created'):
        run_pass(settled)
    compute_id(OTHER_UUID)
    with pytest.raises(errors.NotReadyError, match='Placement has no resource provider with'):
        run_pass(settled)


def test_after_a_reload_another_missing_provider_is_another_failure(settled, placement, home):
    del placement.providers[UUID]
    with pytest.raises(errors.NotReadyError, match='was deleted'):
        run_pass(settled)
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + '[file_backed_memory]\nresource_provider = other\n')
    settled.reload()
    with pytest.raises(errors.NotReadyError, match='no resource provider with name other'):
        run_pass(settled)


# Dry run and withdrawal.


def test_a_dry_run_writes_nothing(agent, placement):
    record = placement.node.inventories['MEMORY_MB']
    result = dry_run(agent)
    names = [name for name, _, _ in result.plan.differences]
    assert names[:2] == ['total', 'reserved']
    assert names[-1] == 'CUSTOM_FILE_BACKED_MEMORY_DISK'
    assert result.provider.uuid == UUID
    del placement.node.inventories['MEMORY_MB']
    assert 'nova-compute has not created' in dry_run(agent).plan.waiting_for
    assert placement.writes == []
    placement.node.inventories['MEMORY_MB'] = record
    run_pass(agent)
    placement.requests.clear()
    assert dry_run(agent).plan.differences == ()
    assert placement.writes == []


def test_withdraw(settled, placement):
    writes = [request for request in placement.count(settled.withdraw) if request[0] == 'PUT']
    assert writes == [('PUT', f'{HERE}/traits')]
    assert placement.node.traits == TRAITS
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.count(settled.withdraw) == [INVENTORY]


def test_withdraw_creates_no_trait(make, placement):
    """Uninstalling from a cloud that never had the traits leaves it without them."""
    make('').withdraw()
    assert placement.writes == []


# What is logged.


def test_overcommitment_is_logged_once(agent, placement, log):
    """Not for each instance that comes or goes; systemd and the doctor show the numbers."""
    placement.allocate(1048577)
    run_pass(agent)
    (line,) = logged(log, logging.ERROR)
    assert line.startswith(f'{NAME}: 1 instance holds 1048577 MiB, 1 MiB more than the 1048576')
    placement.allocate(100, 'c2')
    result = run_pass(agent)
    assert log.records == []
    assert '2 instances hold 1048677 MiB, 101 MiB more' in result.overcommitment
    placement.allocate(0, 'c2')
    placement.allocate(1048576)
    run_pass(agent)
    assert logged(log, logging.INFO) == [
        f'{NAME}: no more is allocated than the host offers again'
    ]
    placement.node.generation += 1
    run_pass(agent)
    assert log.records == []
    placement.allocate(1048577)
    run_pass(agent)
    assert len(logged(log, logging.ERROR)) == 1


def test_overcommitment_of_a_host_that_was_turned_off_is_a_warning(make, placement, log):
    """As planned, its instances hold more than the DRAM until they have left."""
    placement.node.traits.add('CUSTOM_FILE_BACKED_MEMORY')
    placement.allocate(200000)
    make('').reconcile(HostFacts(draining=True, unhealthy=(Problem('draining', '2 guests'),)))
    (line,) = logged(log)
    assert line.startswith(f'{NAME}: 1 instance holds 200000 MiB, 102464 MiB more than the 97536')


def test_no_overcommitment_on_a_disabled_host(make, placement, log):
    """DRAM may be overcommitted as the operator likes."""
    placement.allocate(10**6)
    run_pass(make(''))
    assert logged(log, logging.ERROR) == []


def test_an_overwrite_is_logged_ever_more_rarely(settled, placement, log, clock):
    """The 1st, 2nd, 4th and 8th is a warning; after an hour without one it is the 1st again."""

    def overwrite():
        log.clear()
        placement.write_inventory(total=65536)
        run_pass(settled)
        assert placement.node.inventories['MEMORY_MB'] == WANTED
        return logged(log)

    log.set_level(logging.DEBUG, logger='fbm_placement')
    warnings = [overwrite() for _ in range(10)]
    assert [number for number, lines in enumerate(warnings, 1) if lines] == [1, 2, 4, 8]
    assert warnings[0][0].startswith(f'{NAME}: MEMORY_MB was overwritten: found total=65536')
    assert 'overwritten (overwrite 8 in this loop): found total=65536' in warnings[7][0]
    placement.write_inventory()
    run_pass(settled)
    assert f'{NAME}: overwritten and restored, 11 times so far' in logged(log, logging.DEBUG)
    clock.now += 3601
    assert overwrite()[0].startswith(f'{NAME}: MEMORY_MB was overwritten: found')


def test_an_overwrite_during_an_outage_is_logged_as_one(settled, placement, log):
    placement.write_inventory()
    placement.failure = {'status_code': 503, 'text': ''}
    with pytest.raises(errors.PlacementError):
        run_pass(settled)
    placement.failure = None
    run_pass(settled)
    (line,) = logged(log)
    assert line.startswith(f'{NAME}: MEMORY_MB was overwritten')


def test_what_the_agent_changes_is_no_overwrite(agent, placement, log):
    """The first pass, another goal, or a provider that was created again."""
    run_pass(agent)
    agent.reconcile(HostFacts(unhealthy=(Problem('full', 'the store is full'),)))
    del placement.providers[UUID]
    with pytest.raises(errors.NotReadyError):
        run_pass(agent)
    placement.providers[UUID] = fake_placement.Provider()
    run_pass(agent)
    assert logged(log) == []


def test_removed_traits_are_logged_and_restored(settled, placement, log):
    placement.node.traits.discard('CUSTOM_FILE_BACKED_MEMORY')
    placement.node.generation += 1
    run_pass(settled)
    (line,) = logged(log)
    assert line.startswith(f'{NAME}: another client changed the traits')
    assert placement.node.traits == ENABLED_TRAITS


# Reload.

WRONG = [
    '[file_backed_memory]\ninterval = 1\n',
    '[file_backed_memory]\ninterval = often\nresource_provider = other\n',
    '[file_backed_memory]\ninterval = 9\nresource_provider = $nothing\n',
    'no configuration at all\n',
    '[DEFAULT]\nlog_config_append = /none\n',
    None,
]


@pytest.mark.parametrize('text', WRONG)
def test_reload(settled, placement, home, log, text):
    """A wrong file, or one that is just being replaced, changes nothing; fixed, it counts."""
    file, before = home.folder / 'nova.conf', settled.options
    good = file.read_text()
    if text is None:
        file.unlink()
    else:
        file.write_text(good + text)
    settled.reload()
    assert settled.options == before
    (line,) = logged(log, logging.ERROR)
    assert line.startswith('Configuration not reloaded, the previous one stays: ')
    assert placement.count(lambda: run_pass(settled)) == [INVENTORY]
    file.write_text(good + '[file_backed_memory]\ninterval = 18\n')
    settled.reload()
    assert settled.options.interval == 18
    assert {record.levelno for record in log.records} == {logging.INFO}
    (line,) = logged(log, logging.INFO)
    assert line.startswith('Configuration reloaded: ')
    assert placement.count(lambda: run_pass(settled)) == [INVENTORY]


def test_reload_does_not_follow_novas_options(settled, placement, home):
    """nova-compute reads its options once: an agent that follows an edited file fights it."""
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text().replace('1048576', '2097152'))
    settled.reload()
    placement.write_inventory()
    run_pass(settled)
    assert placement.node.inventories['MEMORY_MB'] == WANTED


def test_reload_with_another_resource_provider(settled, placement, home, log):
    """The new one is kept true from now on; the old one is left, with a warning."""
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'other')
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + '[file_backed_memory]\nresource_provider = other\n')
    settled.reload()
    (line,) = logged(log)
    assert line.startswith(f'resource_provider changed: {NAME} ({UUID}) is left as it is')
    assert all(trait in line for trait in OWN)
    generation = placement.node.generation
    assert run_pass(settled).provider.uuid == OTHER_UUID
    assert placement.providers[OTHER_UUID].inventories['MEMORY_MB'] == WANTED
    assert placement.node.generation == generation


def test_reload_with_another_resource_provider_in_an_outage(settled, placement, home, log):
    placement.failure = {'status_code': 503}
    with pytest.raises(errors.PlacementError):
        run_pass(settled)
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + '[file_backed_memory]\nresource_provider = other\n')
    settled.reload()
    (line,) = logged(log)
    assert line.startswith(f'resource_provider changed: {NAME} ({UUID}) is left as it is')


def test_a_placement_section_that_is_wrong(home):
    """No waiting fixes it, so it isn't PlacementError."""
    home.write('[placement]\nauth_type = nonsense\n')
    conf = home.load()
    with pytest.raises(errors.ConfigurationError, match='nonsense'):
        run_pass(Agent(conf, reader.read_settings(conf), reader.read_agent_options(conf)))

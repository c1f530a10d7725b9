# SPDX-License-Identifier: Apache-2.0
"""What the agent remembers, drops and logs between passes, over a Placement in memory."""

import dataclasses
import json
import logging

import pytest
import requests

from fbm_placement import agent as agent_module
from fbm_placement import errors, names
from fbm_placement.agent import Agent
from fbm_placement.conf import reader
from fbm_placement.model import Problem
from fbm_placement.plan import HostFacts
from tests.unit import fake_placement
from tests.unit.fake_placement import NAME, TRAITS, UUID
from tests.unit.nova_conf_text import ENABLED

OTHER_UUID = 'a1b2c3d4-0000-4000-8000-000000000002'
WANTED = fake_placement.inventory(total=1048576, reserved=0, ratio=1.0)
ENABLED_TRAITS = TRAITS | {names.TRAIT_ENABLED, names.TRAIT_DISK}


class Clock:
    """A clock that a test sets."""

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
    """Make an agent as the service makes it; the host has a compute_id."""
    connections = []
    real = agent_module.connection.connect

    def connect(conf, before_request):
        connections.append(conf)
        return real(conf, before_request)

    monkeypatch.setattr(agent_module.connection, 'connect', connect)

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


def run_pass(agent):
    """Make one pass, as the loop does."""
    return agent.reconcile(agent.observe())


def dry_run(agent):
    return agent.dry_run(agent.observe(publish=False))


def logged(caplog, level=logging.WARNING):
    """Return what was logged at this level, and forget all."""
    lines = [record.getMessage() for record in caplog.records if record.levelno == level]
    caplog.clear()
    return lines


# One pass.


def test_a_new_agent_sends_nothing(make, placement):
    """A daemon can be made while Placement is away."""
    made = make()
    assert placement.requests == []
    assert made.connections == []


def test_first_pass(agent, placement, log):
    """A pass sets everything, and logs the changes in one line."""
    result = run_pass(agent)
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.node.traits == ENABLED_TRAITS
    assert placement.node.inventories['VCPU']['total'] == 64
    assert result.plan.steps
    assert result.provider.name == NAME
    lines = logged(log, logging.INFO)
    assert any('found by UUID' in line and 'compute_id' in line for line in lines)
    (change,) = [line for line in lines if '->' in line]
    assert change.startswith(f'{NAME}: total 65536 -> 1048576, reserved 512 -> 0, ')
    assert f'{names.TRAIT_ENABLED} not set -> set' in change


@pytest.mark.parametrize('work', [run_pass, dry_run])
def test_an_endpoint_that_is_not_placements_root(make, placement, work):
    """The message names the endpoint, not nova-compute, even if its compute_id is there."""
    detail = {'errors': [{'status': 404, 'detail': 'The resource could not be found.'}]}
    placement.trouble = {'status_code': 404, 'text': json.dumps(detail)}
    with pytest.raises(errors.PlacementError, match="this is not Placement's root"):
        work(make())


def test_a_quiet_pass_costs_one_request(agent, placement, log):
    """Nothing changed, nothing logged, one request."""
    run_pass(agent)
    logged(log)
    assert placement.count(lambda: run_pass(agent)) == [
        ('GET', f'/resource_providers/{UUID}/inventories')
    ]
    assert log.records == []


def test_the_traits_are_created_once(agent, placement):
    """All three exist after the first pass, and aren't looked for again."""
    run_pass(agent)
    assert placement.traits >= names.OWN_TRAITS
    placement.write_inventory()
    again = placement.count(lambda: run_pass(agent))
    assert [path for _, path in again if path.startswith('/traits')] == []


def test_the_traits_are_created_on_a_disabled_host_too(make, placement):
    """A pre-filter may name a trait when it exists, on whatever host."""
    before = json.dumps(placement.node.inventories)
    run_pass(make(''))
    assert placement.traits >= names.OWN_TRAITS
    assert placement.node.traits == TRAITS
    assert json.dumps(placement.node.inventories) == before


def test_the_traits_come_before_everything(agent, placement):
    """The traits are there before the first write to the provider names them."""
    run_pass(agent)
    created = {('PUT', f'/traits/{trait}') for trait in names.OWN_TRAITS}
    assert set(placement.writes[:3]) == created
    assert placement.writes[3:] == [
        ('PUT', f'/resource_providers/{UUID}/inventories/MEMORY_MB'),
        ('PUT', f'/resource_providers/{UUID}/traits'),
    ]


def test_no_inventory_yet(agent, placement, log):
    """Before nova-compute's first report there is nothing to keep; nothing is written."""
    del placement.node.inventories['MEMORY_MB']
    for _ in range(2):
        with pytest.raises(errors.NotReadyError) as caught:
            run_pass(agent)
        assert str(caught.value).startswith(f'{NAME}: nova-compute has not created')
    assert [path for _, path in placement.writes if path.startswith('/resource_providers')] == []
    placement.write_inventory()
    run_pass(agent)
    assert placement.node.inventories['MEMORY_MB'] == WANTED


def test_no_provider_yet(agent, placement):
    """Each pass looks the provider up until nova-compute has created it."""
    node = placement.providers.pop(UUID)
    with pytest.raises(errors.NotReadyError, match='Placement has no resource provider with UUID'):
        run_pass(agent)
    placement.providers[UUID] = node
    run_pass(agent)
    assert placement.node.traits == ENABLED_TRAITS


def test_the_provider_is_looked_for_again_while_it_waits(agent, placement, compute_id):
    """What has no inventory may be a leftover: nova-compute may report under another UUID."""
    del placement.node.inventories['MEMORY_MB']
    with pytest.raises(errors.NotReadyError):
        run_pass(agent)
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'other')
    compute_id(OTHER_UUID)
    assert run_pass(agent).provider.name == 'other'
    assert placement.providers[OTHER_UUID].inventories['MEMORY_MB'] == WANTED


# What is dropped, and what is kept.

CONNECTION_ERRORS = {
    'refused': requests.exceptions.ConnectionError('refused'),
    '401': {'status_code': 401, 'text': 'who are you'},
    '503': {'status_code': 503, 'text': '', 'headers': {'Retry-After': '5'}},
    'HTML with 200': {'text': '<html>'},
}
"""One of each kind; every status and exception is in test_http.py."""


@pytest.mark.parametrize('error', CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_the_connection_is_dropped(agent, placement, error):
    """The endpoint may have moved: the next pass asks the catalogue again, and then recovers."""
    run_pass(agent)
    assert len(agent.connections) == 1
    placement.trouble = error
    for _ in range(2):
        with pytest.raises(errors.PlacementError):
            run_pass(agent)
    assert len(agent.connections) == 2
    placement.trouble = None
    assert run_pass(agent).plan.steps == ()
    assert len(agent.connections) == 3


def test_the_traits_are_ensured_again_on_a_new_connection(agent, placement):
    """What answers at the new endpoint may be another Placement."""
    run_pass(agent)
    placement.trouble = {'status_code': 503, 'text': ''}
    with pytest.raises(errors.PlacementError):
        run_pass(agent)
    placement.trouble = None
    placement.traits -= names.OWN_TRAITS
    run_pass(agent)
    assert placement.traits >= names.OWN_TRAITS


@pytest.mark.parametrize('error', CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
@pytest.mark.parametrize('at', range(11))
def test_an_error_at_any_request(make, placement, error, at):
    """Whichever request fails: nothing is written after it, and a later pass finishes."""
    made = make()

    def before(method, path):
        if len(placement.requests) == at + 1:
            placement.trouble = error

    placement.before = before
    try:
        run_pass(made)
    except errors.PlacementError:
        after = placement.requests[at + 1 :]
        assert not [path for how, path in after if how == 'PUT' and f'/{UUID}/' in path]
    else:
        assert len(placement.requests) <= at  # a pass is shorter than that
    placement.before, placement.trouble = (lambda method, path: None), None
    run_pass(made)
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.node.traits == ENABLED_TRAITS
    assert placement.node.inventories['VCPU']['total'] == 64
    assert len(placement.count(lambda: run_pass(made))) == 1


def conflicts_without_end(placement):
    """Let another client write before each of the agent's writes."""

    def before(method, path):
        if method == 'PUT' and path.startswith('/resource_providers'):
            placement.node.generation += 1

    placement.before = before


def test_the_connection_is_kept_after_a_conflict(make, placement):
    """A conflict says nothing against the connection or the provider."""
    waits = []
    made = make(wait=waits.append)
    conflicts_without_end(placement)
    with pytest.raises(errors.ConflictError):
        run_pass(made)
    assert len(waits) == 3
    placement.before = lambda method, path: None
    again = placement.count(lambda: run_pass(made))
    assert len(made.connections) == 1
    assert ('GET', f'/resource_providers?uuid={UUID}') not in again
    assert placement.node.inventories['MEMORY_MB'] == WANTED


def test_foreign_writes_in_between_are_kept(agent, placement):
    """What another client writes between reading and writing survives."""

    def before(method, path):
        if path.endswith('/inventories/MEMORY_MB') and 'CUSTOM_NEW' not in placement.node.traits:
            placement.traits.add('CUSTOM_NEW')
            placement.node.traits.add('CUSTOM_NEW')
            placement.node.generation += 1

    placement.before = before
    run_pass(agent)
    assert placement.node.traits == ENABLED_TRAITS | {'CUSTOM_NEW'}


def test_a_deleted_provider_is_looked_up_again(agent, placement, log):
    """Deleted and created again by nova-compute, it is looked up again; the connection is kept."""
    run_pass(agent)
    del placement.providers[UUID]
    with pytest.raises(errors.NotReadyError) as caught:
        run_pass(agent)
    assert str(caught.value).startswith(f'{NAME} was deleted from Placement (')
    placement.providers[UUID] = fake_placement.Provider(name='renamed')
    assert run_pass(agent).provider.name == 'renamed'
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.node.traits == ENABLED_TRAITS
    assert len(agent.connections) == 1


def test_a_changed_compute_id_is_followed(agent, placement, compute_id):
    """nova-compute got another identity: the provider that belongs to it is kept true."""
    run_pass(agent)
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'other')
    del placement.providers[UUID]
    compute_id(OTHER_UUID)
    with pytest.raises(errors.NotReadyError):
        run_pass(agent)
    run_pass(agent)
    assert placement.providers[OTHER_UUID].inventories['MEMORY_MB'] == WANTED


def test_asked_to_stop(make, placement):
    """StopRequested goes through, from between two requests."""
    calls = []

    def before_request():
        calls.append(1)
        if len(calls) == 3:
            raise errors.StopRequested

    with pytest.raises(errors.StopRequested):
        run_pass(make(before_request=before_request))
    assert len(placement.requests) == 2


# Dry run and withdrawal.


def test_a_dry_run_writes_nothing(agent, placement):
    """A dry run sends no PUT, not even for the traits."""
    result = dry_run(agent)
    assert placement.writes == []
    assert {name for name, _, _ in result.plan.differences} >= {'total', names.TRAIT_ENABLED}
    assert result.provider.uuid == UUID


def test_a_dry_run_before_nova_compute_has_reported(agent, placement):
    """It shows what is missing instead of failing."""
    del placement.node.inventories['MEMORY_MB']
    result = dry_run(agent)
    assert 'nova-compute has not created' in result.plan.waiting_for
    assert placement.writes == []


def test_a_dry_run_finds_nothing_after_a_pass(agent, placement):
    """Nothing differs then."""
    run_pass(agent)
    placement.requests.clear()
    assert dry_run(agent).plan.differences == ()
    assert placement.writes == []


def test_withdraw(agent, placement):
    """The traits are removed, foreign ones and the inventory stay; then there is no work."""
    run_pass(agent)
    writes = [request for request in placement.count(agent.withdraw) if request[0] == 'PUT']
    assert writes == [('PUT', f'/resource_providers/{UUID}/traits')]
    assert placement.node.traits == TRAITS
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert len(placement.count(agent.withdraw)) == 1


def test_withdraw_creates_no_trait(make, placement):
    """Uninstalling from a cloud that never had the traits leaves it without them."""
    make('').withdraw()
    assert placement.writes == []
    assert placement.traits == TRAITS


# What is logged.


def test_overcommitment_is_logged_once_and_when_it_changes(agent, placement, log):
    """Loudly, with the sum and what to do; again with other numbers, and when it has ended."""
    placement.allocate(1048577)
    run_pass(agent)
    (line,) = logged(log, logging.ERROR)
    assert line.startswith(f'{NAME}: 1 instance holds 1048577 MiB, 1 MiB more than the 1048576')
    assert 'bug 2104040' in line
    run_pass(agent)
    placement.node.generation += 1
    run_pass(agent)
    assert logged(log, logging.ERROR) == []
    placement.allocate(100, 'c2')
    run_pass(agent)
    (line,) = logged(log, logging.ERROR)
    assert '2 instances hold 1048677 MiB, 101 MiB more' in line
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


def test_no_overcommitment_on_a_disabled_host(make, placement, log):
    """DRAM may be overcommitted as the operator likes."""
    placement.allocate(10**6)
    run_pass(make(''))
    assert logged(log, logging.ERROR) == []


def test_an_overwrite_is_logged_ever_more_rarely(agent, placement, log):
    """The 1st, 2nd, 4th and 8th overwrite are logged; each is undone."""
    run_pass(agent)
    numbers = []
    for number in range(1, 11):
        logged(log)
        placement.write_inventory(total=65536)
        run_pass(agent)
        assert placement.node.inventories['MEMORY_MB'] == WANTED
        lines = logged(log)
        if lines:
            numbers.append(number)
            assert lines[0].startswith(f'{NAME}: MEMORY_MB was overwritten')
            assert number == 1 or f' {number}' in lines[0].split(': found')[0]
    assert numbers == [1, 2, 4, 8]


def test_an_overwrite_loop_is_forgotten(agent, placement, log, clock):
    """After an hour without one the next overwrite is a first one again."""
    run_pass(agent)
    for _ in range(3):
        placement.write_inventory()
        run_pass(agent)
    logged(log)
    clock.now += 3601
    placement.write_inventory()
    run_pass(agent)
    (line,) = logged(log)
    assert line.startswith(f'{NAME}: MEMORY_MB was overwritten: found')


def test_every_overwrite_is_in_the_debug_log(agent, placement, log):
    """The third one, which is no warning."""
    run_pass(agent)
    log.set_level(logging.DEBUG, logger='fbm_placement')
    for _ in range(3):
        log.clear()
        placement.write_inventory()
        run_pass(agent)
    assert f'{NAME}: overwritten and restored, 3 times so far' in logged(log, logging.DEBUG)


def test_an_overwrite_during_an_outage_is_logged_as_one(agent, placement, log):
    run_pass(agent)
    placement.write_inventory()
    placement.trouble = {'status_code': 503, 'text': ''}
    with pytest.raises(errors.PlacementError):
        run_pass(agent)
    placement.trouble = None
    run_pass(agent)
    (line,) = logged(log)
    assert line.startswith(f'{NAME}: MEMORY_MB was overwritten')


def test_what_the_agent_changes_is_no_overwrite(agent, placement, log):
    """Another goal, or a provider that was created again."""
    run_pass(agent)
    agent.reconcile(HostFacts(unhealthy=(Problem('full', 'the store is full'),)))
    del placement.providers[UUID]
    with pytest.raises(errors.NotReadyError):
        run_pass(agent)
    placement.providers[UUID] = fake_placement.Provider()
    run_pass(agent)
    assert logged(log) == []


def test_the_first_change_is_no_overwrite(agent, placement, log):
    """Before the first pass the agent had set nothing."""
    run_pass(agent)
    assert logged(log) == []


def test_removed_traits_are_logged_and_restored(agent, placement, log):
    """The inventory is not mentioned."""
    run_pass(agent)
    logged(log)
    placement.node.traits.discard(names.TRAIT_ENABLED)
    placement.node.generation += 1
    run_pass(agent)
    (line,) = logged(log)
    assert line.startswith(f'{NAME}: another client changed the traits')
    assert placement.node.traits == ENABLED_TRAITS


# Reload.


def test_reload(agent, nova_conf, home, log):
    """A new interval counts from now on."""
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + '[file_backed_memory]\ninterval = 17\n')
    agent.reload()
    assert agent.options.interval == 17
    assert any('Configuration reloaded' in line for line in logged(log, logging.INFO))


@pytest.mark.parametrize(
    'text',
    [
        '[file_backed_memory]\ninterval = 1\n',
        '[file_backed_memory]\ninterval = often\nresource_provider = other\n',
        '[file_backed_memory]\ninterval = 9\nresource_provider = $nothing\n',
        'no configuration at all\n',
        '[DEFAULT]\ndebug = perhaps\n',
    ],
)
def test_reload_of_a_wrong_file(agent, placement, home, log, text):
    """A wrong file changes nothing and is logged."""
    run_pass(agent)
    before = agent.options
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + text)
    agent.reload()
    assert agent.options == before
    (line,) = logged(log, logging.ERROR)
    assert line.startswith('Configuration not reloaded, the previous one stays: ')
    assert len(placement.count(lambda: run_pass(agent))) == 1


def test_reload_of_a_missing_file(agent, home, log):
    """A file that is just being replaced ends nothing."""
    (home.folder / 'nova.conf').unlink()
    agent.reload()
    assert agent.options.interval == 60
    assert len(logged(log, logging.ERROR)) == 1


def test_reload_after_a_wrong_one(agent, home):
    """Fixed and reloaded, it counts."""
    file = home.folder / 'nova.conf'
    good = file.read_text()
    file.write_text(good + '[file_backed_memory]\ninterval = often\n')
    agent.reload()
    file.write_text(good + '[file_backed_memory]\ninterval = 18\n')
    agent.reload()
    assert agent.options.interval == 18


def test_reload_does_not_follow_novas_options(agent, placement, home):
    """nova-compute reads its options once: an agent that follows an edited file fights it."""
    run_pass(agent)
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text().replace('1048576', '2097152'))
    agent.reload()
    placement.write_inventory()
    run_pass(agent)
    assert placement.node.inventories['MEMORY_MB'] == WANTED


def test_reload_with_another_resource_provider(agent, placement, home, log):
    """The new one is kept true from now on; the old one is left, and the log says what to do."""
    run_pass(agent)
    logged(log)
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'other')
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + '[file_backed_memory]\nresource_provider = other\n')
    agent.reload()
    (line,) = logged(log)
    assert line.startswith(f'resource_provider changed: {NAME} ({UUID}) is left as it is')
    for trait in names.OWN_TRAITS:
        assert trait in line
    generation = placement.node.generation
    assert run_pass(agent).provider.uuid == OTHER_UUID
    assert placement.providers[OTHER_UUID].inventories['MEMORY_MB'] == WANTED
    assert placement.node.generation == generation


def test_reload_without_a_change_keeps_the_provider(agent, placement, home, log):
    """Nothing changed: the next pass is a quiet one."""
    run_pass(agent)
    logged(log)
    agent.reload()
    assert logged(log) == []
    assert len(placement.count(lambda: run_pass(agent))) == 1


def test_a_wrong_option_at_the_start(make):
    """At the start a wrong option forbids to run."""
    with pytest.raises(errors.ConfigurationError, match=r'\[file_backed_memory\]interval'):
        make(ENABLED + '[file_backed_memory]\ninterval = 1\n')


def test_a_placement_section_that_is_wrong(home, log):
    """No waiting fixes it, so it isn't PlacementError."""
    home.write('[placement]\nauth_type = nonsense\n')
    conf = home.load()
    with pytest.raises(errors.ConfigurationError, match='nonsense'):
        run_pass(Agent(conf, reader.read_settings(conf), reader.read_agent_options(conf)))


def test_a_quiet_pass_still_has_the_numbers(agent, placement):
    """``systemctl status`` shows what is allocated without a request for it."""
    placement.allocate(77)
    run_pass(agent)
    result = run_pass(agent)
    assert result.seen.allocated_mib == 77
    assert dataclasses.asdict(result.seen.inventory) == WANTED

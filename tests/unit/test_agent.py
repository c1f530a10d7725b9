# SPDX-License-Identifier: Apache-2.0
"""What the agent remembers, forgets and tells between passes, over a Placement in memory."""

import dataclasses
import json
import logging

import pytest
import requests

from fbm_placement import agent as agent_module
from fbm_placement import errors, names
from fbm_placement.agent import Agent
from fbm_placement.conf import reader
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


def told(caplog, level=logging.WARNING):
    """Return what was logged at this level, and forget all."""
    lines = [record.getMessage() for record in caplog.records if record.levelno == level]
    caplog.clear()
    return lines


# One pass.


def test_making_one_asks_nobody(make, placement):
    """A daemon can be made while Placement is away."""
    made = make()
    assert placement.requests == []
    assert made.connections == []
    with pytest.raises(errors.NotReadyError):
        _ = made.provider


def test_first_pass(agent, placement, log):
    """A pass makes Placement say what it should, and tells each change in one line."""
    outcome = agent.run_pass()
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.node.traits == ENABLED_TRAITS
    assert placement.node.inventories['VCPU']['total'] == 64
    assert outcome.plan.steps
    assert agent.provider.name == NAME
    lines = told(log, logging.INFO)
    assert any('found by UUID' in line and 'compute_id' in line for line in lines)
    (change,) = [line for line in lines if '->' in line]
    assert change.startswith(f'{NAME}: total 65536 -> 1048576, reserved 512 -> 0, ')
    assert f'{names.TRAIT_ENABLED} not set -> set' in change


@pytest.mark.parametrize('work', [Agent.run_pass, Agent.look])
def test_an_endpoint_that_is_not_placements_root(make, placement, work):
    """It is told as what it is: nova-compute is not to blame, even if its compute_id is there."""
    detail = {'errors': [{'status': 404, 'detail': 'The resource could not be found.'}]}
    placement.trouble = {'status_code': 404, 'text': json.dumps(detail)}
    with pytest.raises(errors.PlacementError, match="this is not Placement's root"):
        work(make())


def test_a_quiet_pass_costs_one_request(agent, placement, log):
    """Nothing changed, nothing told, one request."""
    agent.run_pass()
    told(log)
    assert placement.count(agent.run_pass) == [('GET', f'/resource_providers/{UUID}/inventories')]
    assert log.records == []


def test_the_traits_are_created_once(agent, placement):
    """All three exist after the first pass, and aren't looked for again."""
    agent.run_pass()
    assert placement.traits >= names.OWN_TRAITS
    placement.write_inventory()
    again = placement.count(agent.run_pass)
    assert [path for _, path in again if path.startswith('/traits')] == []


def test_the_traits_are_created_on_a_disabled_host_too(make, placement):
    """A pre-filter may name a trait when it exists, on whatever host."""
    before = json.dumps(placement.node.inventories)
    make('').run_pass()
    assert placement.traits >= names.OWN_TRAITS
    assert placement.node.traits == TRAITS
    assert json.dumps(placement.node.inventories) == before


def test_the_traits_come_before_everything(agent, placement):
    """The traits are there before the first write to the provider names them."""
    agent.run_pass()
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
            agent.run_pass()
        assert str(caught.value).startswith(f'{NAME}: nova-compute has not created')
    assert [path for _, path in placement.writes if path.startswith('/resource_providers')] == []
    placement.write_inventory()
    agent.run_pass()
    assert placement.node.inventories['MEMORY_MB'] == WANTED


def test_no_provider_yet(agent, placement):
    """The provider is looked for anew at each pass until nova-compute has made it."""
    node = placement.providers.pop(UUID)
    with pytest.raises(errors.NotReadyError, match='Placement has no resource provider with UUID'):
        agent.run_pass()
    placement.providers[UUID] = node
    agent.run_pass()
    assert placement.node.traits == ENABLED_TRAITS


def test_the_provider_is_looked_for_again_while_it_waits(agent, placement, compute_id):
    """What has no inventory may be a leftover: nova-compute may report under another UUID."""
    del placement.node.inventories['MEMORY_MB']
    with pytest.raises(errors.NotReadyError):
        agent.run_pass()
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'anew')
    compute_id(OTHER_UUID)
    agent.run_pass()
    assert agent.provider.name == 'anew'
    assert placement.providers[OTHER_UUID].inventories['MEMORY_MB'] == WANTED


# What is forgotten, and what is kept.

CONNECTION_TROUBLE = {
    'refused': requests.exceptions.ConnectionError('refused'),
    'timeout': requests.exceptions.ReadTimeout('timeout'),
    '401': {'status_code': 401, 'text': 'who are you'},
    '403': {'status_code': 403, 'text': json.dumps(fake_placement.error('no'))},
    '404 of a web server': {'status_code': 404, 'text': '<html>'},
    '406': {'status_code': 406, 'text': json.dumps(fake_placement.error('no'))},
    '409 of another kind': {
        'status_code': 409,
        'text': json.dumps(fake_placement.error('no', 'placement.other')),
    },
    '429': {'status_code': 429, 'text': '', 'headers': {'Retry-After': '5'}},
    '500': {'status_code': 500, 'text': 'boom'},
    '503': {'status_code': 503, 'text': 'away'},
    'HTML with 200': {'text': '<html>'},
    'truncated': {'text': '{"resource_pro'},
    'another shape': {'text': '{"a": 1}'},
}


@pytest.mark.parametrize('trouble', CONNECTION_TROUBLE.values(), ids=CONNECTION_TROUBLE)
def test_the_connection_is_forgotten(agent, placement, trouble):
    """The endpoint may have moved: the next pass asks the catalogue again, and then recovers."""
    agent.run_pass()
    assert len(agent.connections) == 1
    placement.trouble = trouble
    for _ in range(2):
        with pytest.raises(errors.PlacementError):
            agent.run_pass()
    assert len(agent.connections) == 2
    placement.trouble = None
    assert agent.run_pass().plan.steps == ()
    assert len(agent.connections) == 3


def test_the_traits_are_ensured_again_on_a_new_connection(agent, placement):
    """What answers at the new endpoint may be another Placement."""
    agent.run_pass()
    placement.trouble = {'status_code': 503, 'text': ''}
    with pytest.raises(errors.PlacementError):
        agent.run_pass()
    placement.trouble = None
    placement.traits -= names.OWN_TRAITS
    agent.run_pass()
    assert placement.traits >= names.OWN_TRAITS


@pytest.mark.parametrize('trouble', CONNECTION_TROUBLE.values(), ids=CONNECTION_TROUBLE)
@pytest.mark.parametrize('at', range(11))
def test_trouble_at_any_request(make, placement, trouble, at):
    """Trouble at whichever request: nothing is written after it, and a later pass finishes."""
    made = make()

    def before(method, path):
        if len(placement.requests) == at + 1:
            placement.trouble = trouble

    placement.before = before
    try:
        made.run_pass()
    except errors.PlacementError:
        after = placement.requests[at + 1 :]
        assert not [path for how, path in after if how == 'PUT' and f'/{UUID}/' in path]
    else:
        assert len(placement.requests) <= at  # a pass is shorter than that
    placement.before, placement.trouble = (lambda method, path: None), None
    made.run_pass()
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.node.traits == ENABLED_TRAITS
    assert placement.node.inventories['VCPU']['total'] == 64
    assert len(placement.count(made.run_pass)) == 1


def conflicts_for_ever(placement):
    """Let somebody else write before each of the agent's writes."""

    def before(method, path):
        if method == 'PUT' and path.startswith('/resource_providers'):
            placement.node.generation += 1

    placement.before = before


def test_the_connection_is_kept_after_a_conflict(make, placement):
    """A conflict says nothing against the connection or the provider."""
    waits = []
    made = make(wait=waits.append)
    conflicts_for_ever(placement)
    with pytest.raises(errors.ConflictError):
        made.run_pass()
    assert len(waits) == 3
    placement.before = lambda method, path: None
    again = placement.count(made.run_pass)
    assert len(made.connections) == 1
    assert ('GET', f'/resource_providers?uuid={UUID}') not in again
    assert placement.node.inventories['MEMORY_MB'] == WANTED


def test_foreign_writes_in_between_are_kept(agent, placement):
    """What somebody else writes between reading and writing survives."""

    def before(method, path):
        if path.endswith('/inventories/MEMORY_MB') and 'CUSTOM_NEW' not in placement.node.traits:
            placement.traits.add('CUSTOM_NEW')
            placement.node.traits.add('CUSTOM_NEW')
            placement.node.generation += 1

    placement.before = before
    agent.run_pass()
    assert placement.node.traits == ENABLED_TRAITS | {'CUSTOM_NEW'}


def test_the_provider_is_forgotten_when_it_has_gone(agent, placement, log):
    """Deleted and created anew by nova-compute, it is looked up again; the connection is kept."""
    agent.run_pass()
    del placement.providers[UUID]
    with pytest.raises(errors.NotReadyError) as caught:
        agent.run_pass()
    assert str(caught.value).startswith(f'{NAME} has gone from Placement (')
    with pytest.raises(errors.NotReadyError):
        _ = agent.provider
    placement.providers[UUID] = fake_placement.Provider(name='renamed')
    agent.run_pass()
    assert agent.provider.name == 'renamed'
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert placement.node.traits == ENABLED_TRAITS
    assert len(agent.connections) == 1


def test_a_changed_compute_id_is_followed(agent, placement, compute_id):
    """nova-compute got another identity: the provider that belongs to it is kept true."""
    agent.run_pass()
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'anew')
    del placement.providers[UUID]
    compute_id(OTHER_UUID)
    with pytest.raises(errors.NotReadyError):
        agent.run_pass()
    agent.run_pass()
    assert placement.providers[OTHER_UUID].inventories['MEMORY_MB'] == WANTED


def test_asked_to_end(make, placement):
    """StopRequested goes through, from between two requests."""
    calls = []

    def before_request():
        calls.append(1)
        if len(calls) == 3:
            raise errors.StopRequested

    with pytest.raises(errors.StopRequested):
        make(before_request=before_request).run_pass()
    assert len(placement.requests) == 2


# Looking, and taking back.


def test_look_writes_nothing(agent, placement):
    """A dry run sends no PUT, not even for the traits."""
    outcome = agent.look()
    assert placement.writes == []
    assert {d.field for d in outcome.plan.differences} >= {'total', names.TRAIT_ENABLED}
    assert agent.provider.uuid == UUID


def test_look_before_nova_compute_has_reported(agent, placement):
    """A dry run tells what is waited for instead of failing."""
    del placement.node.inventories['MEMORY_MB']
    outcome = agent.look()
    assert 'nova-compute has not created' in outcome.plan.waiting_for
    assert placement.writes == []


def test_look_finds_nothing_after_a_pass(agent, placement):
    """A dry run after a pass has nothing to show."""
    agent.run_pass()
    placement.requests.clear()
    assert agent.look().plan.differences == ()
    assert placement.writes == []


def test_withdraw(agent, placement):
    """The traits are taken back, foreign ones and the inventory stay; then there is no work."""
    agent.run_pass()
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


# What is told.


def test_overcommitment_is_told_once_and_when_it_changes(agent, placement, log):
    """Loudly, with the sum and what to do; again with other numbers, and when it has ended."""
    placement.allocate(1048577)
    agent.run_pass()
    (line,) = told(log, logging.ERROR)
    assert line.startswith(f'{NAME}: 1 instance holds 1048577 MiB, 1 MiB more than the 1048576')
    assert 'bug 2104040' in line
    agent.run_pass()
    placement.node.generation += 1
    agent.run_pass()
    assert told(log, logging.ERROR) == []
    placement.allocate(100, 'c2')
    agent.run_pass()
    (line,) = told(log, logging.ERROR)
    assert '2 instances hold 1048677 MiB, 101 MiB more' in line
    placement.allocate(0, 'c2')
    placement.allocate(1048576)
    agent.run_pass()
    assert told(log, logging.INFO) == [f'{NAME}: no more is allocated than the host offers again']
    placement.node.generation += 1
    agent.run_pass()
    assert log.records == []
    placement.allocate(1048577)
    agent.run_pass()
    assert len(told(log, logging.ERROR)) == 1


def test_no_overcommitment_on_a_disabled_host(make, placement, log):
    """DRAM may be overcommitted as the operator likes."""
    placement.allocate(10**6)
    make('').run_pass()
    assert told(log, logging.ERROR) == []


def test_an_overwrite_is_told_at_growing_distances(agent, placement, log):
    """The 1st, 2nd, 4th and 8th overwrite are told; each is put right."""
    agent.run_pass()
    numbers = []
    for number in range(1, 11):
        told(log)
        placement.write_inventory(total=65536)
        agent.run_pass()
        assert placement.node.inventories['MEMORY_MB'] == WANTED
        lines = told(log)
        if lines:
            numbers.append(number)
            assert lines[0].startswith(f'{NAME}: MEMORY_MB was overwritten')
            assert number == 1 or f' {number}' in lines[0].split(': found')[0]
    assert numbers == [1, 2, 4, 8]


def test_a_quarrel_is_forgotten(agent, placement, log, clock):
    """More than an hour of peace: the next overwrite is a first one again."""
    agent.run_pass()
    for _ in range(3):
        placement.write_inventory()
        agent.run_pass()
    told(log)
    clock.now += 3601
    placement.write_inventory()
    agent.run_pass()
    (line,) = told(log)
    assert line.startswith(f'{NAME}: MEMORY_MB was overwritten: found')


def test_an_untold_overwrite_is_told_to_whoever_debugs(agent, placement, log):
    """The third overwrite is in the debug log."""
    agent.run_pass()
    log.set_level(logging.DEBUG, logger='fbm_placement')
    for _ in range(3):
        log.clear()
        placement.write_inventory()
        agent.run_pass()
    assert f'{NAME}: overwritten and put back, 3 times so far' in told(log, logging.DEBUG)


def test_the_first_change_is_no_overwrite(agent, placement, log):
    """What Placement said before the agent's first pass is nobody's offence."""
    agent.run_pass()
    assert told(log) == []


def test_taken_traits_are_told_as_such(agent, placement, log):
    """Somebody removed a trait: that is told, and put right."""
    agent.run_pass()
    told(log)
    placement.node.traits.discard(names.TRAIT_ENABLED)
    placement.node.generation += 1
    agent.run_pass()
    (line,) = told(log)
    assert line.startswith(f'{NAME}: the traits were changed by someone else')
    assert placement.node.traits == ENABLED_TRAITS


# Reading [file_backed_memory] again.


def test_reload(agent, nova_conf, home, log):
    """A new interval counts from now on."""
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + '[file_backed_memory]\ninterval = 17\n')
    agent.reload()
    assert agent.options.interval == 17
    assert any('Configuration read again' in line for line in told(log, logging.INFO))


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
    """A wrong file changes nothing, and is told; all goes on as it was."""
    agent.run_pass()
    before = agent.options
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + text)
    agent.reload()
    assert agent.options == before
    (line,) = told(log, logging.ERROR)
    assert line.startswith('Configuration not read again, the old one stays: ')
    assert len(placement.count(agent.run_pass)) == 1


def test_reload_of_a_missing_file(agent, home, log):
    """A file that is just being replaced ends nothing."""
    (home.folder / 'nova.conf').unlink()
    agent.reload()
    assert agent.options.interval == 60
    assert len(told(log, logging.ERROR)) == 1


def test_reload_after_a_wrong_one(agent, home):
    """Mended and read again, it counts."""
    file = home.folder / 'nova.conf'
    good = file.read_text()
    file.write_text(good + '[file_backed_memory]\ninterval = often\n')
    agent.reload()
    file.write_text(good + '[file_backed_memory]\ninterval = 18\n')
    agent.reload()
    assert agent.options.interval == 18


def test_reload_does_not_follow_novas_options(agent, placement, home):
    """nova-compute reads its options once: following an edited file would start a quarrel."""
    agent.run_pass()
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text().replace('1048576', '2097152'))
    agent.reload()
    placement.write_inventory()
    agent.run_pass()
    assert placement.node.inventories['MEMORY_MB'] == WANTED


def test_reload_with_another_resource_provider(agent, placement, home, log):
    """The new one is kept true from now on; the old one is left, and what to do is told."""
    agent.run_pass()
    told(log)
    placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, 'other')
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text() + '[file_backed_memory]\nresource_provider = other\n')
    agent.reload()
    (line,) = told(log)
    assert line.startswith(f'resource_provider changed: {NAME} ({UUID}) is left as it is')
    for trait in names.OWN_TRAITS:
        assert trait in line
    generation = placement.node.generation
    agent.run_pass()
    assert agent.provider.uuid == OTHER_UUID
    assert placement.providers[OTHER_UUID].inventories['MEMORY_MB'] == WANTED
    assert placement.node.generation == generation


def test_reload_without_a_change_keeps_the_provider(agent, placement, home, log):
    """Nothing changed: the next pass is a quiet one."""
    agent.run_pass()
    told(log)
    agent.reload()
    assert told(log) == []
    assert len(placement.count(agent.run_pass)) == 1


def test_a_wrong_option_at_the_start(make):
    """At the start a wrong option forbids to run."""
    with pytest.raises(errors.ConfigurationError, match=r'\[file_backed_memory\]interval'):
        make(ENABLED + '[file_backed_memory]\ninterval = 1\n')


def test_a_placement_section_that_is_wrong(home, log):
    """No waiting mends it, so it isn't PlacementError."""
    home.write('[placement]\nauth_type = nonsense\n')
    conf = home.load()
    with pytest.raises(errors.ConfigurationError, match='nonsense'):
        Agent(conf, reader.read_settings(conf), reader.read_agent_options(conf)).run_pass()


def test_the_outcome_of_a_quiet_pass_still_has_the_numbers(agent, placement):
    """``systemctl status`` shows what is allocated without a request for it."""
    placement.allocate(77)
    agent.run_pass()
    outcome = agent.run_pass()
    assert outcome.seen.allocated_mib == 77
    assert dataclasses.asdict(outcome.seen.inventory) == WANTED

# SPDX-License-Identifier: Apache-2.0
"""Whatever others write, and whenever: nothing foreign is lost, and one pass repairs the rest.

The agent and its adversaries speak to the real Placement over HTTP. What that did is read from
Placement's own database, all of it, after *each* of the agent's requests: so a changed row is
attributed to the request that changed it, and not to the writer who came in between.

HYPOTHESIS_PROFILE=shrink makes the example that failed as small as it can, in minutes;
HYPOTHESIS_PROFILE=thorough searches for a quarter of an hour, with other examples each time.
"""

import contextlib
import functools
import os
import sqlite3
import sys
import uuid as uuids
from dataclasses import dataclass, replace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from fbm_placement import conf as configuration
from fbm_placement import errors, model
from fbm_placement.agent import reconcile
from fbm_placement.agent.agent import Agent
from fbm_placement.conf import reader
from fbm_placement.model import HostFacts
from tests.fitting_host import FittingHost
from tests.services.expected import DISK_TRAIT, ENABLED_TRAIT, UNHEALTHY_TRAIT, inventory
from tests.services.nova_compute import ComputeError, NovaCompute
from tests.services.nova_conf import NovaConf, admin_token
from tests.services.placement import PlacementServer

PROFILE = os.environ.get('HYPOTHESIS_PROFILE', 'default')
THOROUGH = PROFILE == 'thorough'
SETTINGS = hypothesis.settings(
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    # By default the same examples in each run: about 15 s, most of it Placement's.
    max_examples=200 if THOROUGH else 16,
    stateful_step_count=30 if THOROUGH else 7,
    derandomize=not THOROUGH,
    print_blob=THOROUGH,
    # To shrink an example takes minutes: the test would time out before the report.
    phases=[hypothesis.Phase.generate] if PROFILE == 'default' else list(hypothesis.Phase),
)

DRAM_MIB = 65536
# More than DRAM, as much (as nova-compute reports it), and less than instances have.
SIZES = st.sampled_from([1048576, DRAM_MIB, 1024])
SIZES_OR_DISABLED = SIZES | st.just(0)
RESERVES = st.sampled_from([0, 512])
FOREIGN_TRAITS = ['CUSTOM_RACK_7', 'CUSTOM_FILE_BACKED', 'COMPUTE_RESCUE_BFV', 'HW_CPU_X86_SSE']
FOREIGN_CLASSES = ['VCPU', 'DISK_GB', 'CUSTOM_LICENCE']
AGGREGATES = [str(uuids.UUID(int=number)) for number in (1, 2)]
OWN_TRAITS = [ENABLED_TRAIT, DISK_TRAIT, UNHEALTHY_TRAIT]
MEMORY = 'MEMORY_MB'
LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Snapshot:
    """All that Placement holds: what the agent owns of one provider, and everything else."""

    inventory: dict[str, float] | None
    own_traits: frozenset[str]
    existing_own_traits: frozenset[str]
    """Those that Placement knows at all."""
    generation: int | None
    """None: the provider doesn't exist."""
    foreign: frozenset[tuple[object, ...]]
    """Every row of every other thing, with the name of its table, down to its time stamps."""


class Database:
    """Placement's database, read between two requests, when there is no writer."""

    def __init__(self, server):
        path = server.directory / 'placement.sqlite'
        self._connection = sqlite3.connect(f'file:{path}?mode=ro', uri=True)
        self._connection.row_factory = sqlite3.Row
        self._seen = None

    def close(self):
        self._connection.close()

    def snapshot(self, uuid):
        # It changes with each write, and most requests don't write.
        version = (uuid, *self._connection.execute('PRAGMA data_version').fetchone())
        if self._seen is None or self._seen[0] != version:
            self._seen = version, self._read(uuid)
        return self._seen[1]

    def _read(self, uuid):
        names = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {
            name: [dict(row) for row in self._connection.execute(f'SELECT * FROM {name}')]
            for (name,) in names
        }
        traits = {row['id']: row['name'] for row in tables['traits']}
        classes = {row['id']: row['name'] for row in tables['resource_classes']}
        provider = next((r for r in tables['resource_providers'] if r['uuid'] == uuid), None)
        memory, own, existing, foreign = None, set(), set(), set()
        for table, rows in tables.items():
            for row in rows:
                ours = provider and row.get('resource_provider_id') == provider['id']
                trait = traits.get(row.get('trait_id'))
                if table == 'traits' and row['name'] in OWN_TRAITS:
                    existing.add(row['name'])
                elif (
                    table == 'inventories' and ours and classes[row['resource_class_id']] == MEMORY
                ):
                    memory = {field: row[field] for field in MEMORY_FIELDS}
                elif table == 'resource_provider_traits' and ours and trait in OWN_TRAITS:
                    own.add(trait)
                else:
                    # Any write to the provider changes these two.
                    changes = {'generation', 'updated_at'} if row is provider else set()
                    foreign.add((table, *(row[key] for key in row if key not in changes)))
        return Snapshot(
            inventory=memory,
            own_traits=frozenset(own),
            existing_own_traits=frozenset(existing),
            generation=None if provider is None else provider['generation'],
            foreign=frozenset(foreign),
        )


def target(size, reserved):
    if not size:
        return None, frozenset()
    return inventory(size, reserved=reserved), frozenset({ENABLED_TRAIT, DISK_TRAIT})


def action(name, **arguments):
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


# Mostly one at a time, so that an agent that overlooks one fails.
MEMORY_FIELDS = {
    'total': st.integers(777, LARGEST),
    'reserved': st.integers(0, 777),
    'min_unit': st.integers(1, 4096),
    'max_unit': st.integers(1, LARGEST),
    'step_size': st.integers(1, 4096),
    'allocation_ratio': st.sampled_from([0.5, 1.0, 1.5, 16.0]),
}
MEMORY_CHANGES = st.one_of(
    *(st.fixed_dictionaries({name: values}) for name, values in MEMORY_FIELDS.items()),
    st.fixed_dictionaries(MEMORY_FIELDS),
)

# What gives an enabled host's agent something to do.
DAMAGES = [
    action('memory_overwritten', fields=MEMORY_CHANGES),
    action('trait_changed', trait=st.sampled_from(OWN_TRAITS)),
    action('own_trait_deleted', trait=st.sampled_from(OWN_TRAITS)),
    action('nova_restarts', offers=st.none() | SIZES),
]

OTHERS = st.one_of(
    *DAMAGES,
    action('nova_reports', refresh=st.booleans()),
    action('instance_comes', memory_mib=st.sampled_from([1, 2048, 16384])),
    action('instance_goes'),
    action('trait_changed', trait=st.sampled_from(FOREIGN_TRAITS)),
    action(
        'foreign_class_changed',
        resource_class=st.sampled_from(FOREIGN_CLASSES),
        total=st.integers(1, 99),
    ),
    action('aggregates_changed', aggregates=st.lists(st.sampled_from(AGGREGATES), unique=True)),
    action('memory_deleted'),
    action('provider_deleted', back=st.sampled_from([None, 'bare', 'reported'])),
    action('child_changed'),
    action('other_host_changed', trait=st.sampled_from(OWN_TRAITS + FOREIGN_TRAITS)),
)

# What others do before the n-th request of a pass. Turning on takes 10 requests at most, and a try
# after a conflict 5 more.
INTERRUPTIONS = st.dictionaries(st.integers(1, 12), OTHERS, max_size=4)

# What they do before that. In each rule, and not a rule of its own: hypothesis leaves whole rules
# out of an example, and one without the others tests little.
FIRST = st.lists(OTHERS, min_size=1, max_size=3)


class AgentAndOthers(RuleBasedStateMachine):
    """One host's agent, its nova-compute, another host and other clients with admin rights."""

    may_write = True

    def __init__(self, server, directory):
        super().__init__()
        self.server = server
        self.directory = directory
        self.database = Database(server)
        self.nova = NovaCompute(server.url, memory_mib=DRAM_MIB)
        self.other_host = None
        self.exists = False
        self.instances = []
        self.child = None
        self.agent = None
        self.seconds = 1000.0
        self._has_another_uuid = False
        self._interruptions = {}
        self._stop_at = None
        self._requests = 0
        self._mark: Any = None

    # The agent

    @initialize(
        lookup=st.sampled_from(['compute_id', 'uuid', 'name']),
        size=SIZES_OR_DISABLED,
        reserved=RESERVES,
    )
    def begin(self, lookup, size, reserved):
        self.lookup = lookup
        self.nova.start()
        self.nova.change_traits(add=FOREIGN_TRAITS[:2])
        self.exists = True
        self._configure(size, reserved)

    @rule(first=FIRST, size=SIZES_OR_DISABLED, reserved=RESERVES, interruptions=INTERRUPTIONS)
    def agent_restarts(self, first, size, reserved, interruptions):
        """The configuration was edited, or not."""
        self._do(*first)
        self._configure(size, reserved)
        self._pass(interruptions)

    def _configure(self, size, reserved):
        path, compute_id = self.directory / 'nova.conf', self.directory / 'compute_id'
        compute_id.unlink(missing_ok=True)
        own = {}
        if self.lookup == 'compute_id':
            compute_id.write_text(self.nova.uuid + '\n')
        else:
            own['resource_provider'] = getattr(self.nova, self.lookup)
        NovaConf(
            path,
            {
                'DEFAULT': {'reserved_host_memory_mb': reserved, 'state_path': self.directory},
                'libvirt': {'virt_type': 'kvm', 'file_backed_memory': size},
                'placement': admin_token(self.server.url),
                'file_backed_memory': own,
            },
        )
        self.conf = configuration.load(
            ['--config-file', str(path)], prog='fbm-agent', description=''
        )
        self.configured = reader.read_settings(self.conf)
        self.target = self.allowed = target(size, reserved)
        self._agent_comes_back()

    @rule(first=FIRST, interruptions=INTERRUPTIONS, stop_at=st.none() | st.integers(1, 10))
    def agent_passes(self, first, interruptions, stop_at):
        """Others write between its requests, and it may be stopped between any two."""
        self._do(*first)
        self._pass(interruptions, stop_at)

    @rule(first=FIRST, each_time=OTHERS)
    def agent_loses_every_race(self, first, each_time):
        """Another client writes before each of its requests, until it gives up."""
        self._do(*first)
        self._pass(dict.fromkeys(range(1, 17), each_time))

    def _run_pass(self):
        return self.agent.reconcile(self.agent.observe())

    def _pass(self, interruptions, stop_at=None):
        self._stop_at = stop_at
        try:
            self._interrupted(self._run_pass, interruptions)
        except errors.StopRequested:
            self._agent_comes_back()

    def _interrupted(self, work, interruptions):
        """Let the agent work, with what may come of it when others do so much meanwhile."""
        self._interruptions = interruptions
        try:
            self._watched(work)
        except errors.NotReadyError:
            # That it is not raised without a reason is checked by _converges().
            pass
        except (errors.ConflictError, errors.BadRequestError):
            # Each of the others can spoil one try.
            assert len(interruptions) >= reconcile.TRIES

    @rule(first=FIRST, interruptions=INTERRUPTIONS, dry_run=st.booleans())
    def run_by_hand(self, first, interruptions, dry_run):
        """With --withdraw or --dry-run, while the service runs."""
        self._do(*first)
        self.may_write = not dry_run
        if not dry_run:
            self.allowed = target(0, 0)
        by_hand = self._new_agent(self.configured if dry_run else model.DISABLED)
        dry = functools.partial(by_hand.dry_run, HostFacts())
        self._interrupted(dry if dry_run else by_hand.withdraw, interruptions)
        if not (dry_run or interruptions):
            assert not self._snapshot().own_traits
        self.allowed = self.target

    @rule(first=FIRST, damage=st.one_of(*DAMAGES))
    def others_rest(self, first, damage):
        self._do(*first)
        self._converges()
        self._do(damage)
        self._converges()

    def _converges(self):
        """One pass converges, the next one costs one request and writes nothing.

        Where more is allocated than there is, it costs three: that is read until it is over.
        """
        memory, own_traits = self.target
        before = self._snapshot()
        waits = before.generation is None or (memory is not None and before.inventory is None)
        if waits:
            self._fails_as_not_ready()
            return
        try:
            self._watched(self._run_pass)
        except errors.NotReadyError:
            # It may learn of another UUID from a pass that fails.
            assert self._has_another_uuid
            self._watched(self._run_pass)
        self._has_another_uuid = False
        after = self._snapshot()
        assert after.own_traits == own_traits
        assert after.inventory == (memory or before.inventory)

        self._watched(self._run_pass)
        assert self._requests == (3 if self._too_much_is_allocated() else 1)
        assert self._snapshot() == after

    def _too_much_is_allocated(self):
        memory, _ = self.target
        if memory is None or not self.instances:
            return False
        held = sum(resources[MEMORY] for resources in self.nova.allocations().values())
        return held > memory['total'] - memory['reserved']

    def _agent_comes_back(self):
        self.agent = self._new_agent(self.configured)
        self._has_another_uuid = False

    def _new_agent(self, host_settings):
        return Agent(
            self.conf,
            host_settings,
            reader.read_agent_options(self.conf),
            host=FittingHost(),
            wait=lambda _seconds: None,
            before_request=self._before_request,
            clock=lambda: self.seconds,
        )

    def _fails_as_not_ready(self):
        with pytest.raises(errors.NotReadyError):
            self._watched(self._run_pass)

    # What is checked of the agent

    def _watched(self, work):
        """Let the agent work, and check what each of its requests did."""
        self._requests = 0
        self._mark = self._snapshot(), self.server.log.stat().st_size
        try:
            work()
        except (errors.FileBackedMemoryError, errors.StopRequested):
            self._check_last_request()
            raise
        else:
            self._check_last_request()
        finally:
            self._interruptions, self._stop_at = {}, None
            self.may_write = True

    def _before_request(self):
        self._requests += 1
        self._check_last_request()
        if self._requests in self._interruptions:
            self._do(self._interruptions[self._requests])
        self._mark = self._snapshot(), self.server.log.stat().st_size
        if self._requests == self._stop_at:
            raise errors.StopRequested

    def _check_last_request(self):
        before, log_position = self._mark
        after = self._snapshot()
        gone, new = before.foreign - after.foreign, after.foreign - before.foreign
        assert not gone, f'foreign rows changed: {gone} -> {new}'
        assert not new, f'foreign rows appeared: {new}'
        assert before.existing_own_traits <= after.existing_own_traits

        memory, own_traits = self.allowed
        assert after.inventory in (before.inventory, memory)
        assert after.own_traits - before.own_traits <= own_traits
        assert not (before.own_traits - after.own_traits) & own_traits
        if ENABLED_TRAIT in after.own_traits - before.own_traits:
            assert after.inventory == memory, 'enabled before the capacity was there'

        with self.server.log.open('rb') as log:
            log.seek(log_position)
            answered = [line for line in log.read().decode().splitlines() if ' status: ' in line]
        assert len(answered) <= 1, 'before_request was not called before each request'
        if any('"PUT ' in line for line in answered):
            assert self.may_write, 'a dry run wrote'
        if any('"PUT /resource_providers/' in line and ' status: 2' in line for line in answered):
            did = (after.inventory, after.own_traits) != (before.inventory, before.own_traits)
            assert did, 'wrote what was there already'

    def _snapshot(self):
        return self.database.snapshot(self.nova.uuid)

    # The others

    def damage(self):
        self.nova_restarts(offers=None)
        self.trait_changed(trait=ENABLED_TRAIT)

    def _do(self, *actions):
        for name, arguments in actions:
            if self.exists or name in ('nova_reports', 'nova_restarts', 'other_host_changed'):
                getattr(self, name)(**arguments)

    def nova_reports(self, refresh):
        self.nova.report(refresh=refresh)
        self.exists = True

    def nova_restarts(self, offers):
        """It knows [libvirt]file_backed_memory, or reports DRAM."""
        if offers is None:
            self.nova.memory_mib, self.nova.memory_reserved = DRAM_MIB, 512
            self.nova.memory_ratio = 1.5
        else:
            self.nova.knows_file_backed_memory(offers)
        self.nova.start()
        self.exists = True

    def instance_comes(self, memory_mib):
        with _may_be_refused():
            self.instances.append(self.nova.allocate(memory_mib=memory_mib))

    def instance_goes(self):
        if self.instances:
            self.nova.deallocate(self.instances.pop())

    def memory_overwritten(self, fields):
        if MEMORY in self.nova.inventories():
            self.nova.overwrite_inventory(MEMORY, **fields)

    def memory_deleted(self):
        with _may_be_refused():
            self.nova.call('DELETE', f'{self._path}/inventories/{MEMORY}')

    def trait_changed(self, trait):
        self.nova.toggle_trait(trait)

    def foreign_class_changed(self, resource_class, total):
        if resource_class.startswith('CUSTOM_'):
            self.nova.call('PUT', f'/resource_classes/{resource_class}')
        # One that is not there yet can't be put alone.
        body = self.nova.call('GET', f'{self._path}/inventories')
        body['inventories'][resource_class] = {'total': total, 'max_unit': total}
        self.nova.call('PUT', f'{self._path}/inventories', body=body)

    def aggregates_changed(self, aggregates):
        self.nova.set_aggregates(sorted(aggregates))

    def own_trait_deleted(self, trait):
        """From Placement altogether, if no other provider has it."""
        if self.exists and trait in self.nova.traits():
            self.nova.change_traits(remove={trait})
        with _may_be_refused():
            self.nova.call('DELETE', f'/traits/{trait}')

    def provider_deleted(self, back):
        """As deleting the compute service does; what comes back may have another UUID."""
        if self.instances:
            return
        if self.child:
            self.child_changed()
        self.nova.delete()
        self.exists = False
        if self.lookup == 'name':
            self.nova.uuid = str(uuids.UUID(int=uuids.UUID(self.nova.uuid).int ^ 1))
            self._has_another_uuid = True
        if back == 'bare':
            self.nova.create_provider()
            self.exists = True
        elif back == 'reported':
            self.nova_reports(refresh=True)

    def child_changed(self):
        """A child provider, as for a NUMA cell or a GPU, comes or goes."""
        if self.child:
            self.child.delete()
            self.child = None
            return
        self.child = NovaCompute(self.server.url)
        self.child.create_provider(parent=self.nova.uuid)
        memory = {'resource_class': MEMORY, 'total': 4096}
        self.child.call('POST', f'/resource_providers/{self.child.uuid}/inventories', body=memory)
        self.child.change_traits(add=OWN_TRAITS)

    def other_host_changed(self, trait):
        """Another host of the same kind, with the same traits."""
        if self.other_host is None:
            self.other_host = NovaCompute(self.server.url).start()
        else:
            self.other_host.toggle_trait(trait)

    @property
    def _path(self):
        return f'/resource_providers/{self.nova.uuid}'

    def teardown(self):
        try:
            if self.agent is not None and sys.exception() is None:
                self._converges()
                self._a_fresh_agent_finds_nothing_to_do()
        finally:
            self._leave_nothing_behind()

    def _a_fresh_agent_finds_nothing_to_do(self):
        """But for deleted traits: all three exist after an agent's start."""
        before = self._snapshot()
        self._agent_comes_back()
        with contextlib.suppress(errors.NotReadyError):
            self._watched(self._run_pass)
        after = self._snapshot()
        assert after.existing_own_traits == set(OWN_TRAITS)
        assert replace(before, existing_own_traits=after.existing_own_traits) == after

    def _leave_nothing_behind(self):
        """The next example finds no trait in use, and no trait at all of ours."""
        try:
            while self.instances:
                self.instance_goes()
            if self.exists and self.child:
                self.child_changed()
            if self.exists:
                self.nova.delete()
                self.exists = False
            if self.other_host is not None:
                self.other_host.delete()
            for trait in OWN_TRAITS:
                self.own_trait_deleted(trait)
        finally:
            self.database.close()


@contextlib.contextmanager
def _may_be_refused():
    """What doesn't fit, is in use or isn't there: Placement's answer to the others, not to us."""
    try:
        yield
    except ComputeError as error:
        if error.status not in (404, 409):
            raise


@pytest.fixture(scope='module')
def own_placement(tmp_path_factory):
    """A Placement where no other host has our traits, so that they can be deleted."""
    with PlacementServer(tmp_path_factory.mktemp('placement-of-properties')) as server:
        yield server


@pytest.mark.timeout(120 if PROFILE == 'default' else 0)
def test_nothing_foreign_is_lost_and_one_pass_converges(own_placement, tmp_path):
    factory: Any = functools.partial(AgentAndOthers, own_placement, tmp_path)
    run_state_machine_as_test(factory, settings=SETTINGS)


@pytest.fixture
def machine(own_placement, tmp_path):
    """As hypothesis has it, for what must not be left to a few examples."""
    machine = AgentAndOthers(own_placement, tmp_path)
    machine.begin('compute_id', 1048576, 0)
    machine._converges()
    yield machine
    machine._leave_nothing_behind()


def test_no_field_is_overlooked(machine):
    for field in MEMORY_FIELDS:
        machine.memory_overwritten(fields={field: 777})
        machine._converges()


RACES: list[tuple[str, dict[str, Any]]] = [
    ('nova_reports', {'refresh': True}),
    ('nova_restarts', {'offers': 1048576}),
    ('instance_comes', {'memory_mib': 1}),
    ('memory_overwritten', {'fields': {'max_unit': 777}}),
    ('trait_changed', {'trait': ENABLED_TRAIT}),
    ('trait_changed', {'trait': UNHEALTHY_TRAIT}),
    ('trait_changed', {'trait': 'CUSTOM_RACK_7'}),
    ('foreign_class_changed', {'resource_class': 'DISK_GB', 'total': 99}),
    ('aggregates_changed', {'aggregates': AGGREGATES}),
    ('own_trait_deleted', {'trait': DISK_TRAIT}),
    ('memory_deleted', {}),
    ('provider_deleted', {'back': None}),
    ('provider_deleted', {'back': 'bare'}),
    ('provider_deleted', {'back': 'reported'}),
    ('child_changed', {}),
    ('other_host_changed', {'trait': ENABLED_TRAIT}),
]


@pytest.mark.parametrize(
    'race', RACES, ids=[f'{name}-{list(what.values())}' for name, what in RACES]
)
def test_anything_may_happen_before_each_request(machine, race):
    """The pass has both to write, and loses the race once; or there is none to lose."""
    for position in range(1, 8):
        machine.damage()
        machine._pass({position: race})
        machine._converges()


@pytest.mark.parametrize('dry_run', [True, False])
def test_it_may_be_run_by_hand(machine, dry_run):
    machine.own_trait_deleted(trait=OWN_TRAITS[-1])
    machine.memory_overwritten(fields={'total': 777})
    machine.run_by_hand(first=[], interruptions={}, dry_run=dry_run)
    machine._converges()


def test_too_much_is_allocated(machine):
    machine.instance_comes(memory_mib=2048)
    machine._configure(1024, 0)
    machine._converges()
    assert machine._requests == 3
    machine.instance_goes()
    machine._converges()
    assert machine._requests == 1


def test_a_provider_of_another_uuid_is_found_by_its_name(machine):
    machine.lookup = 'name'
    machine._configure(1048576, 0)
    machine._converges()
    machine.provider_deleted(back='reported')
    machine._converges()


def test_it_may_be_stopped_before_each_request(machine):
    for position in range(1, 8):
        machine.damage()
        machine._pass({}, stop_at=position)
        machine._converges()


def test_a_full_pass_tells_a_recreated_provider_from_the_old_one(own_placement, tmp_path):
    """Deleted and created between two passes, it can be at the old one's generation."""
    machine = AgentAndOthers(own_placement, tmp_path)
    try:
        machine.nova.knows_file_backed_memory(DRAM_MIB)
        machine.begin('compute_id', DRAM_MIB, 0)
        machine._converges()
        settled = machine.nova.generation()
        machine.provider_deleted(back='reported')
        while machine.nova.generation() < settled:
            machine.instance_comes(memory_mib=1024)
        assert machine.nova.generation() == settled
        machine.seconds += reconcile.FULL_CHECK_SECONDS
        machine._converges()
    finally:
        machine._leave_nothing_behind()

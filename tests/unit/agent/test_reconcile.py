# SPDX-License-Identifier: Apache-2.0
"""One pass: observe, plan, apply, and what a conflict makes of it."""

import pytest

from fbm_placement import constants, errors
from fbm_placement.agent.reconcile import Reconciler
from fbm_placement.model import DISABLED, HostFacts, Provider, Settings
from fbm_placement.placement.session import connect
from fbm_placement.rules import publish
from tests.unit import fake_placement
from tests.unit.fake_placement import NAME, TRAITS, UUID

ON = publish.target(Settings(1000, 0, 'kvm', 1.0), HostFacts())
OFF = publish.target(DISABLED, HostFacts())
ENABLED_TRAITS = TRAITS | {'CUSTOM_FILE_BACKED_MEMORY', 'CUSTOM_FILE_BACKED_MEMORY_DISK'}
INVENTORY, *OTHERS = (
    ('GET', f'/resource_providers/{UUID}/{what}')
    for what in ('inventories', 'traits', 'allocations')
)


@pytest.fixture
def placement(placement):
    placement.traits |= constants.OWN_TRAITS
    return placement


@pytest.fixture
def waits():
    return []


@pytest.fixture
def make(nova_conf, placement, waits):
    def make(**kwargs):
        provider = Provider(UUID, NAME, is_root=True)
        return Reconciler(connect(nova_conf()), provider, waits.append, **kwargs)

    return make


@pytest.fixture
def reconciler(make):
    return make()


def interrupt(placement, number, action):
    end = len(placement.requests) + number

    def before(method, path):
        if len(placement.requests) == end:
            action()

    placement.before = before


def another_client_writes(placement):
    """Raise the generation, as an allocation does."""
    placement.node.generation += 1


def is_enabled(placement):
    wanted = fake_placement.inventory(total=1000, reserved=0, ratio=1.0)
    node = placement.node
    return node.inventories['MEMORY_MB'] == wanted and node.traits == ENABLED_TRAITS


def test_a_quiet_pass_costs_one_request(placement, reconciler):
    """The generation alone shows that nothing has changed since the last pass."""
    assert reconciler.run_pass(ON).plan.steps
    assert placement.count(lambda: reconciler.run_pass(ON)) == [INVENTORY]
    assert not reconciler.run_pass(ON).plan.steps


def test_a_pass_that_wrote_nothing_settles_too(placement, make):
    """After a restart of the agent the second pass is quiet already."""
    make().run_pass(ON)
    reconciler = make()
    assert placement.count(lambda: reconciler.run_pass(ON)) == [INVENTORY, *OTHERS]
    assert placement.count(lambda: reconciler.run_pass(ON)) == [INVENTORY]


def test_another_generation_is_not_quiet(placement, reconciler):
    """An allocation may have come, or a trait may have gone: all is read, nothing written."""
    reconciler.run_pass(ON)
    another_client_writes(placement)
    assert placement.count(lambda: reconciler.run_pass(ON)) == [INVENTORY, *OTHERS]


def test_another_goal_is_not_quiet(placement, reconciler):
    reconciler.run_pass(ON)
    reconciler.run_pass(OFF)
    assert placement.node.traits == TRAITS
    reconciler.run_pass(ON)
    assert is_enabled(placement)


@pytest.mark.parametrize('number', range(1, 6))
def test_a_writer_before_any_request(placement, reconciler, number):
    """All is read and decided again, and nothing that came in between is lost."""

    def add_trait():
        placement.node.traits.add('CUSTOM_RACK_8')
        another_client_writes(placement)

    interrupt(placement, number, add_trait)
    placement.traits.add('CUSTOM_RACK_8')
    reconciler.run_pass(ON)
    placement.node.traits.remove('CUSTOM_RACK_8')
    assert is_enabled(placement)


def test_a_read_across_two_generations_is_not_taken_for_settled(placement, reconciler):
    """The traits may have been read before the write that the next pass has to see."""
    reconciler.run_pass(ON)
    another_client_writes(placement)
    interrupt(placement, 2, lambda: another_client_writes(placement))
    reconciler.run_pass(ON)
    assert placement.count(lambda: reconciler.run_pass(ON)) == [INVENTORY, *OTHERS]


def test_gives_up_after_four_tries_until_the_next_pass(placement, reconciler, waits):
    """Waits in between grow, are spread, and come between tries only."""

    def before(method, path):
        if method == 'PUT':
            another_client_writes(placement)

    placement.before = before
    with pytest.raises(errors.ConflictError):
        reconciler.run_pass(ON)
    assert [path.split('/')[-1] for _, path in placement.writes] == ['MEMORY_MB'] * 4
    for wait, longest in zip(waits, (0.2, 0.4, 0.8), strict=True):
        assert longest / 2 <= wait <= longest


def test_a_trait_that_was_deleted_is_created_again(placement, reconciler):
    """Placement answers 400 where a trait doesn't exist."""
    placement.traits -= constants.OWN_TRAITS
    reconciler.run_pass(ON)
    assert is_enabled(placement)


def test_a_bad_request_that_stays_is_raised(placement, reconciler):
    def before(method, path):
        placement.traits -= constants.OWN_TRAITS

    placement.before = before
    with pytest.raises(errors.BadRequestError):
        reconciler.run_pass(ON)


@pytest.mark.parametrize('number', [1, 4])
def test_without_the_record_the_pass_waits_for_nova_compute(placement, reconciler, number):
    """Also if it goes between the requests; nothing is published."""
    interrupt(placement, number, placement.node.inventories.clear)
    with pytest.raises(errors.NotReadyError, match=f'^{NAME}: nova-compute has not created'):
        reconciler.run_pass(ON)
    assert placement.node.traits == TRAITS


def test_an_old_generation_of_a_new_provider(placement, make):
    """Its generations begin at 0 again, so one that was settled may come back."""
    now = 0.0
    reconciler = make(clock=lambda: now)
    reconciler.run_pass(ON)
    placement.node.traits = set(TRAITS)
    now = 599.0
    assert not reconciler.run_pass(ON).plan.steps
    now = 600.0
    reconciler.run_pass(ON)
    assert is_enabled(placement)


def test_after_a_failure_nothing_is_taken_for_settled(placement, reconciler):
    reconciler.run_pass(ON)
    node = placement.providers.pop(UUID)
    with pytest.raises(errors.NotFoundError):
        reconciler.run_pass(ON)
    node.traits = set(TRAITS)
    placement.providers[UUID] = node
    reconciler.run_pass(ON)
    assert is_enabled(placement)


def test_too_much_allocated_is_read_each_time(placement, reconciler):
    """An instance that is deleted need not raise the generation, and its end must be seen."""
    for mib in (5000, 500):
        placement.node.allocations = {'c1': {'resources': {'MEMORY_MB': mib}}}
        assert reconciler.run_pass(ON).seen.allocated_mib == mib

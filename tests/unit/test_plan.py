# SPDX-License-Identifier: Apache-2.0
"""The rules of the agent, row by row."""

import dataclasses

import pytest

from fbm_placement import names, plan
from fbm_placement.model import Problem
from fbm_placement.plan import HostFacts, Inventory, Observation, PutInventory, PutTraits
from fbm_placement.settings import DISABLED, Settings

ENABLED = Settings(
    capacity_mib=1048576, reserved_mib=512, virt_type='kvm', ram_allocation_ratio=1.0
)
GOOD = Inventory(
    total=1048576,
    reserved=512,
    min_unit=1,
    max_unit=1048576,
    step_size=1,
    allocation_ratio=1.0,
)
DRAM = Inventory(
    total=65536, reserved=512, min_unit=1, max_unit=65536, step_size=1, allocation_ratio=1.5
)
FOREIGN = frozenset({'COMPUTE_NODE', 'OWNER_NOVA', 'CUSTOM_RACK_7'})
ILL = (Problem('not-mounted', 'the store is not mounted'),)
ON_DISK = frozenset({names.TRAIT_ENABLED, names.TRAIT_DISK})


def observed(
    inventory: Inventory | None = GOOD,
    traits: frozenset[str] = FOREIGN | ON_DISK,
    allocated_mib: int = 0,
    consumers: int = 0,
) -> Observation:
    """Return what Placement said."""
    return Observation(7, inventory, traits, allocated_mib, consumers)


def planned(settings: Settings, seen: Observation, facts: HostFacts | None = None) -> plan.Plan:
    """Plan for a host with these settings."""
    return plan.make_plan(plan.target(settings, facts or HostFacts()), seen)


def test_the_six_fields_are_those_that_nova_compute_reports() -> None:
    """All six are said: one left out of a PUT would fall back to Placement's default."""
    assert plan.target(ENABLED, HostFacts()).inventory == GOOD
    assert len(dataclasses.fields(Inventory)) == 6


@pytest.mark.parametrize(
    ('settings', 'facts', 'own_traits'),
    [
        (ENABLED, HostFacts(), ON_DISK),
        (ENABLED, HostFacts(store_is_disk=False), {names.TRAIT_ENABLED}),
        (ENABLED, HostFacts(unhealthy=ILL), names.OWN_TRAITS),
        (
            ENABLED,
            HostFacts(store_is_disk=False, unhealthy=ILL),
            {names.TRAIT_ENABLED, names.TRAIT_UNHEALTHY},
        ),
        (DISABLED, HostFacts(), set()),
    ],
)
def test_traits_of_a_host(settings: Settings, facts: HostFacts, own_traits: set[str]) -> None:
    """A store of which nothing is known counts as disk."""
    assert plan.target(settings, facts).own_traits == own_traits


DRAINING = HostFacts(draining=True, unhealthy=(Problem('draining', 'draining: 2 guests'),))
UNHEALTHY_TRAIT = frozenset({names.TRAIT_UNHEALTHY})


@pytest.mark.parametrize('state', [frozenset(), ON_DISK, frozenset({names.TRAIT_ENABLED})])
@pytest.mark.parametrize('settings', [ENABLED, DISABLED])
def test_a_draining_host_keeps_its_published_state(
    settings: Settings, state: frozenset[str]
) -> None:
    """Its guests can still move to hosts like them, and nothing new comes."""
    goal = plan.target(settings, DRAINING)
    assert goal.traits(FOREIGN | state) == FOREIGN | state | UNHEALTHY_TRAIT
    assert goal.traits(FOREIGN | state | UNHEALTHY_TRAIT) == FOREIGN | state | UNHEALTHY_TRAIT


def test_a_host_that_is_turned_off_has_no_traits_of_a_store() -> None:
    """Drained, its store is nobody's business."""
    assert plan.target(DISABLED, HostFacts(unhealthy=ILL)).traits(ON_DISK) == frozenset()


def test_a_host_that_drains_after_it_was_turned_on_is_closed_before_its_inventory_grows() -> None:
    """Otherwise an instance could come in between, to a host that is neither."""
    steps = planned(ENABLED, observed(DRAM, FOREIGN), DRAINING).steps
    assert steps == (PutTraits(FOREIGN | UNHEALTHY_TRAIT), PutInventory(GOOD))


def test_an_unhealthy_host_that_is_turned_on_is_closed_first_and_promises_last() -> None:
    """No reader sees capacity on an open sick host, nor the promise before the capacity."""
    steps = planned(ENABLED, observed(DRAM, FOREIGN), HostFacts(unhealthy=ILL)).steps
    assert steps == (
        PutTraits(FOREIGN | UNHEALTHY_TRAIT),
        PutInventory(GOOD),
        PutTraits(FOREIGN | names.OWN_TRAITS),
    )


def test_a_host_that_is_only_closed_gets_one_write() -> None:
    """Its inventory is right already."""
    steps = planned(ENABLED, observed(), HostFacts(unhealthy=ILL)).steps
    assert steps == (PutTraits(FOREIGN | names.OWN_TRAITS),)
    healthy = planned(ENABLED, observed(traits=FOREIGN | names.OWN_TRAITS)).steps
    assert healthy == (PutTraits(FOREIGN | ON_DISK),)


@pytest.mark.parametrize('found', [frozenset(), ON_DISK])
@pytest.mark.parametrize('settings', [ENABLED, DISABLED])
def test_while_it_drains_a_host_is_what_all_of_its_guests_are(
    settings: Settings, found: frozenset[str]
) -> None:
    """Also where a tool, or a provider made anew, has lost the traits."""
    ill = (Problem('draining', 'draining'),)
    in_files = plan.target(settings, HostFacts(draining=True, guests_enabled=True, unhealthy=ill))
    assert in_files.traits(FOREIGN | found) - {names.TRAIT_DISK} == (
        FOREIGN | UNHEALTHY_TRAIT | {names.TRAIT_ENABLED}
    )
    in_dram = plan.target(settings, HostFacts(draining=True, guests_enabled=False, unhealthy=ill))
    assert in_dram.traits(FOREIGN | found) == FOREIGN | UNHEALTHY_TRAIT


def test_where_guests_cannot_be_seen_only_an_enabled_host_is_closed() -> None:
    """A fleet without file-backed memory must not stop for a mount option of /proc."""
    blind = HostFacts(draining=True, guests_seen=False)
    assert plan.target(DISABLED, blind).traits(FOREIGN) == FOREIGN
    assert plan.target(DISABLED, blind).traits(FOREIGN | ON_DISK) == FOREIGN | names.OWN_TRAITS


def test_a_host_that_drains_after_it_was_turned_off_leaves_the_inventory_alone() -> None:
    """nova-compute reports its DRAM there."""
    steps = planned(DISABLED, observed(DRAM, FOREIGN | ON_DISK), DRAINING).steps
    assert steps == (PutTraits(FOREIGN | ON_DISK | UNHEALTHY_TRAIT),)


def test_too_much_on_a_host_that_drains_after_it_was_turned_off_is_told() -> None:
    """nova-compute offers DRAM for what lives in files, and Placement lets nothing off."""
    seen = observed(DRAM, FOREIGN | ON_DISK, allocated_mib=200000, consumers=3)
    told = plan.overcommitment(plan.target(DISABLED, DRAINING), seen)
    assert told is not None
    assert '102464 MiB more than the 97536 MiB' in told
    assert 'setting [libvirt]file_backed_memory back' in told
    assert plan.overcommitment(plan.target(DISABLED, HostFacts()), seen) is None


def test_the_difference_names_only_what_changes_while_draining() -> None:
    """What is kept is no difference."""
    differences = planned(DISABLED, observed(DRAM, FOREIGN | ON_DISK), DRAINING).differences
    assert [d.field for d in differences] == [names.TRAIT_UNHEALTHY]


def test_nothing_is_written_where_nothing_differs() -> None:
    """The quiet pass."""
    assert planned(ENABLED, observed()) == plan.Plan(differences=(), steps=())
    assert planned(DISABLED, observed(DRAM, FOREIGN)).steps == ()


def test_turning_on_writes_the_inventory_before_the_traits() -> None:
    """No reader sees the promise before the capacity."""
    steps = planned(ENABLED, observed(DRAM, FOREIGN)).steps
    assert steps == (PutInventory(GOOD), PutTraits(FOREIGN | ON_DISK))


def test_turning_off_takes_the_traits_and_leaves_the_inventory() -> None:
    """The inventory is nova-compute's again."""
    off = planned(DISABLED, observed())
    assert off.steps == (PutTraits(FOREIGN),)
    assert [d.field for d in off.differences] == sorted(ON_DISK)


def test_withdrawing_is_turning_off() -> None:
    """What --withdraw aims at is what a disabled host aims at."""
    assert plan.target(DISABLED, HostFacts()) == plan.WITHDRAWN


@pytest.mark.parametrize('field', [field.name for field in dataclasses.fields(Inventory)])
def test_each_field_is_put_right(field: str) -> None:
    """One wrong field is enough, and all six are written."""
    wrong = dataclasses.replace(GOOD, **{field: getattr(GOOD, field) + 1})
    found = planned(ENABLED, observed(wrong))
    assert found.steps == (PutInventory(GOOD),)
    assert found.differences == (
        plan.Difference(field, str(getattr(wrong, field)), str(getattr(GOOD, field))),
    )


@pytest.mark.parametrize('missing', sorted(ON_DISK))
def test_a_missing_trait_is_added_and_no_other_dropped(missing: str) -> None:
    """PUT replaces the whole set, so everything foreign must be in it."""
    found = planned(ENABLED, observed(traits=FOREIGN | ON_DISK - {missing}))
    assert found.steps == (PutTraits(FOREIGN | ON_DISK),)
    assert found.differences == (plan.Difference(missing, 'not set', 'set'),)


def test_an_own_trait_that_does_not_hold_is_taken_away() -> None:
    """The agent owns its three traits always: no one else's UNHEALTHY stays."""
    found = planned(ENABLED, observed(traits=FOREIGN | names.OWN_TRAITS))
    assert found.steps == (PutTraits(FOREIGN | ON_DISK),)


def test_waits_for_nova_compute_to_create_the_record() -> None:
    """Without a MEMORY_MB record neither it nor the traits are written."""
    found = planned(ENABLED, observed(inventory=None, traits=FOREIGN))
    assert found.steps == ()
    assert found.waiting_for is not None
    assert 'nova-compute' in found.waiting_for


def test_a_disabled_host_without_a_record_is_not_waited_for() -> None:
    """Traits come off whatever the inventory is."""
    found = planned(DISABLED, observed(inventory=None))
    assert found.waiting_for is None
    assert found.steps == (PutTraits(FOREIGN),)


@pytest.mark.parametrize(
    ('allocated_mib', 'too_much'), [(0, False), (1048064, False), (1048065, True)]
)
def test_more_allocated_than_offered(allocated_mib: int, too_much: bool) -> None:
    """The reserve is not offered, so it counts."""
    goal = plan.target(ENABLED, HostFacts())
    told = plan.overcommitment(goal, observed(allocated_mib=allocated_mib, consumers=3))
    assert (told is not None) == too_much
    if told:
        assert '3 instances hold 1048065 MiB, 1 MiB more than the 1048064 MiB' in told
        assert '2104040' in told


def test_one_instance_is_one_instance() -> None:
    """Words."""
    goal = plan.target(ENABLED, HostFacts())
    told = plan.overcommitment(goal, observed(allocated_mib=2000000, consumers=1))
    assert told is not None
    assert told.startswith('1 instance holds 2000000 MiB')


def test_a_disabled_host_is_not_told_of_allocations() -> None:
    """They are nova-compute's to mind."""
    assert plan.overcommitment(plan.WITHDRAWN, observed(allocated_mib=10**9)) is None


@pytest.mark.parametrize(('inventory', 'capacity_mib'), [(GOOD, 1048064), (DRAM, 97536)])
def test_capacity_is_counted_as_placement_counts(inventory: Inventory, capacity_mib: int) -> None:
    """(total - reserved) * allocation_ratio."""
    assert inventory.capacity_mib == capacity_mib

# SPDX-License-Identifier: Apache-2.0
"""The rules of what is published in Placement, and in which order."""

import dataclasses
import itertools

import pytest

from fbm_placement.model import DISABLED, HostFacts, Inventory, Problem, Settings
from fbm_placement.rules import publish
from fbm_placement.rules.publish import Observation, Target

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
NONE: frozenset[str] = frozenset()
FOREIGN = frozenset({'COMPUTE_NODE', 'OWNER_NOVA', 'CUSTOM_RACK_7'})
FBM = frozenset({'CUSTOM_FILE_BACKED_MEMORY'})
DISK = frozenset({'CUSTOM_FILE_BACKED_MEMORY_DISK'})
CLOSED = frozenset({'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'})
FULL = (Problem('full', 'the store is full'),)
UNHEALTHY = HostFacts(unhealthy=FULL)
DRAINING = HostFacts(draining=True, unhealthy=(Problem('draining', 'draining: 2 guests'),))


def observed(
    inventory: Inventory | None = GOOD, traits: frozenset[str] = FBM | DISK, allocated_mib: int = 0
) -> Observation:
    return Observation(7, inventory, FOREIGN | traits, allocated_mib, consumers=3)


def planned(settings: Settings, seen: Observation, facts: HostFacts | None = None) -> publish.Plan:
    return publish.make_plan(publish.target(settings, facts or HostFacts()), seen)


def test_the_six_fields_are_those_that_nova_compute_reports() -> None:
    """All six: one left out of a PUT would fall back to Placement's default."""
    assert publish.target(ENABLED, HostFacts()).inventory == GOOD
    assert len(dataclasses.fields(Inventory)) == 6


@pytest.mark.parametrize(
    ('settings', 'facts', 'own_traits'),
    [
        (ENABLED, HostFacts(), FBM | DISK),
        (ENABLED, HostFacts(store_is_disk=False), FBM),
        (ENABLED, UNHEALTHY, FBM | DISK | CLOSED),
        (ENABLED, HostFacts(store_is_disk=False, unhealthy=FULL), FBM | CLOSED),
        (DISABLED, HostFacts(), NONE),
        (DISABLED, UNHEALTHY, NONE),
    ],
)
def test_traits_of_a_host(settings: Settings, facts: HostFacts, own_traits: set[str]) -> None:
    """A store of which nothing is known counts as disk."""
    assert publish.target(settings, facts).traits(FOREIGN) == FOREIGN | own_traits


@pytest.mark.parametrize('kind', [NONE, DISK])
def test_the_kind_of_a_store_that_is_not_there_stays_as_it_was(kind: frozenset[str]) -> None:
    """A tmpfs that is not mounted yet is no disk, and an unmounted disk is none the less one."""
    goal = publish.target(ENABLED, HostFacts(store_is_disk=None, unhealthy=FULL))
    assert goal.traits(FOREIGN | kind) == FOREIGN | FBM | CLOSED | kind


@pytest.mark.parametrize('state', [NONE, FBM | DISK, FBM])
@pytest.mark.parametrize('settings', [ENABLED, DISABLED])
def test_a_draining_host_keeps_its_published_state(
    settings: Settings, state: frozenset[str]
) -> None:
    """Its guests can still move to hosts like them, and nothing new arrives."""
    goal = publish.target(settings, DRAINING)
    assert goal.traits(FOREIGN | state) == FOREIGN | state | CLOSED
    assert goal.traits(FOREIGN | state | CLOSED) == FOREIGN | state | CLOSED


@pytest.mark.parametrize('found', [NONE, FBM | DISK])
@pytest.mark.parametrize('settings', [ENABLED, DISABLED])
def test_a_draining_host_has_the_state_of_its_guests_if_all_are_alike(
    settings: Settings, found: frozenset[str]
) -> None:
    """Also where a tool, or a provider that was created again, has lost the traits."""
    in_files = publish.target(settings, dataclasses.replace(DRAINING, guests_enabled=True))
    assert in_files.traits(FOREIGN | found) - DISK == FOREIGN | CLOSED | FBM
    in_dram = publish.target(settings, dataclasses.replace(DRAINING, guests_enabled=False))
    assert in_dram.traits(FOREIGN | found) == FOREIGN | CLOSED


def test_where_guests_cannot_be_seen_only_an_enabled_host_is_closed() -> None:
    """A fleet without file-backed memory must not stop for a mount option of /proc."""
    goal = publish.target(DISABLED, HostFacts(draining=True, guests_seen=False))
    assert goal.traits(FOREIGN) == FOREIGN
    assert goal.traits(FOREIGN | FBM | DISK) == FOREIGN | FBM | DISK | CLOSED


def test_what_a_target_sets_keeps_and_leaves_alone() -> None:
    """One trait may be set and kept, set already, or that of another client."""
    assert Target(None, FBM, kept_traits=FBM).traits(FBM) == FBM
    assert Target(None, FBM | CLOSED, closed_if_enabled=True).traits(NONE) == FBM | CLOSED
    assert Target(None, NONE, kept_traits=FOREIGN).traits(FOREIGN | DISK) == FOREIGN


def test_without_allocations_nothing_is_held() -> None:
    seen = Observation(7, GOOD, NONE)
    assert (seen.allocated_mib, seen.consumers) == (0, 0)


# The steps.


@pytest.mark.parametrize(
    ('settings', 'facts', 'seen', 'steps'),
    [
        # As it should be.
        (ENABLED, HostFacts(), observed(), ()),
        (DISABLED, HostFacts(), observed(DRAM, NONE), ()),
        # Turned on: the capacity before the trait.
        (ENABLED, HostFacts(), observed(DRAM, NONE), (GOOD, FOREIGN | FBM | DISK)),
        # Turned on while unhealthy or draining: closed before the capacity grows.
        (
            ENABLED,
            UNHEALTHY,
            observed(DRAM, NONE),
            (FOREIGN | CLOSED, GOOD, FOREIGN | FBM | DISK | CLOSED),
        ),
        (ENABLED, DRAINING, observed(DRAM, NONE), (FOREIGN | CLOSED, GOOD)),
        # Closed and opened again.
        (ENABLED, UNHEALTHY, observed(), (FOREIGN | FBM | DISK | CLOSED,)),
        (ENABLED, HostFacts(), observed(traits=FBM | DISK | CLOSED), (FOREIGN | FBM | DISK,)),
        # Turned off: the inventory is nova-compute's, whatever it is.
        (DISABLED, HostFacts(), observed(), (FOREIGN,)),
        (DISABLED, HostFacts(), observed(None), (FOREIGN,)),
        (DISABLED, DRAINING, observed(DRAM), (FOREIGN | FBM | DISK | CLOSED,)),
        # A trait was removed. PUT replaces the whole set, so everything foreign is in it.
        (ENABLED, HostFacts(), observed(traits=FBM), (FOREIGN | FBM | DISK,)),
        (ENABLED, HostFacts(), observed(traits=DISK), (FOREIGN | FBM | DISK,)),
    ],
)
def test_steps(
    settings: Settings,
    facts: HostFacts,
    seen: Observation,
    steps: tuple[Inventory | frozenset[str], ...],
) -> None:
    found = planned(settings, seen, facts)
    assert found.steps == steps
    assert bool(found.differences) == bool(steps)


def subsets(whole: frozenset[str]) -> list[frozenset[str]]:
    sizes = range(len(whole) + 1)
    return [frozenset(some) for size in sizes for some in itertools.combinations(whole, size)]


@pytest.mark.parametrize('inventory', [None, DRAM, GOOD])
@pytest.mark.parametrize('goal_inventory', [None, GOOD])
def test_every_plan_is_safe_and_as_short_as_can_be(
    inventory: Inventory | None, goal_inventory: Inventory | None
) -> None:
    """In all 512 combinations of the three traits: found, wanted and kept."""
    three = subsets(FBM | DISK | CLOSED)
    for found, own, kept, closed in itertools.product(three, three, three, (False, True)):
        goal = Target(goal_inventory, own, kept, closed_if_enabled=closed)
        wanted, traits, record, sizes = goal.traits(FOREIGN | found), FOREIGN | found, inventory, 0
        steps = publish.make_plan(goal, observed(inventory, found)).steps
        if inventory is None and goal_inventory is not None:
            assert steps == ()
            continue
        for step in steps:
            assert step not in (record, traits), 'a write that changes nothing'
            if isinstance(step, Inventory):
                record, sizes = step, sizes + 1
                assert not CLOSED & wanted - traits, 'capacity on a host that is not closed yet'
            else:
                assert not FBM & step - traits or goal_inventory in (None, record), 'no capacity'
                traits = step
        assert (record, traits) == (goal_inventory or inventory, wanted)
        closes_first = sizes and CLOSED & wanted - found and wanted != FOREIGN | found | CLOSED
        assert len(steps) == sizes + (wanted != FOREIGN | found) + bool(closes_first)


# What differs.


@pytest.mark.parametrize('by', [1, -1])
@pytest.mark.parametrize('field', [field.name for field in dataclasses.fields(Inventory)])
def test_each_field_is_corrected(field: str, by: int) -> None:
    """One wrong field is enough, and all six are written."""
    wrong = dataclasses.replace(GOOD, **{field: getattr(GOOD, field) + by})
    found = planned(ENABLED, observed(wrong))
    assert found.steps == (GOOD,)
    assert found.differences == ((field, str(getattr(wrong, field)), str(getattr(GOOD, field))),)


def test_the_traits_that_differ_are_named_in_order() -> None:
    found = planned(ENABLED, observed(traits=CLOSED | DISK))
    assert found.differences == (
        ('CUSTOM_FILE_BACKED_MEMORY', 'not set', 'set'),
        ('CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY', 'set', 'not set'),
    )


def test_what_is_kept_while_draining_is_no_difference() -> None:
    differences = planned(DISABLED, observed(DRAM), DRAINING).differences
    assert differences == (('CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY', 'not set', 'set'),)


def test_waits_for_nova_compute_to_create_the_record() -> None:
    """Without a MEMORY_MB record neither it nor the traits are written."""
    found = planned(ENABLED, observed(None, NONE))
    assert found.steps == ()
    assert 'nova-compute has not created the MEMORY_MB inventory' in str(found.waiting_for)
    assert planned(DISABLED, observed(None)).waiting_for is None


# Too much allocated.


@pytest.mark.parametrize(
    ('settings', 'facts', 'seen', 'text'),
    [
        (ENABLED, HostFacts(), observed(), None),
        # The reserve is not offered.
        (ENABLED, HostFacts(), observed(allocated_mib=1048064), None),
        (
            ENABLED,
            HostFacts(),
            observed(allocated_mib=1048065),
            '3 instances hold 1048065 MiB, 1 MiB more than the 1048064 MiB',
        ),
        # nova-compute reports DRAM already, for what lives in files.
        (
            DISABLED,
            DRAINING,
            observed(DRAM, allocated_mib=200000),
            '3 instances hold 200000 MiB, 102464 MiB more than the 97536 MiB',
        ),
        # Drained, the allocations are nova-compute's concern.
        (DISABLED, HostFacts(), observed(DRAM, allocated_mib=10**9), None),
    ],
)
def test_overcommitment(
    settings: Settings, facts: HostFacts, seen: Observation, text: str | None
) -> None:
    message = publish.overcommitment(publish.target(settings, facts), seen)
    if text is None:
        assert message is None
    else:
        assert str(message).startswith(text)
        assert 'bug 2104040' in str(message)
        back = 'set [libvirt]file_backed_memory back' in str(message)
        assert back == (settings == DISABLED)


HELD = (
    '3 instances hold {0} MiB, 1 MiB more than the {1} MiB that this host offers: no instance can '
    'come here, and with a Placement before 14.0 none can be moved off either (bug 2104040); to '
    'fix it, {2}'
)


def test_the_advice_on_overcommitment() -> None:
    """Whole, because an operator follows it: an enabled host, and one that was turned off."""
    enabled = publish.overcommitment(
        publish.target(ENABLED, HostFacts()), observed(allocated_mib=1048065)
    )
    assert enabled == HELD.format(
        1048065,
        1048064,
        'raise [libvirt]file_backed_memory if the store is larger, else upgrade Placement, or '
        'raise it until instances have moved away',
    )
    turned_off = publish.overcommitment(
        publish.target(DISABLED, DRAINING), observed(DRAM, allocated_mib=97537)
    )
    assert turned_off == HELD.format(
        97537,
        97536,
        'upgrade Placement, or set [libvirt]file_backed_memory back until instances have moved '
        'away',
    )


@pytest.mark.parametrize(('inventory', 'capacity_mib'), [(GOOD, 1048064), (DRAM, 97536)])
def test_capacity_is_counted_as_placement_counts(inventory: Inventory, capacity_mib: int) -> None:
    """(total - reserved) * allocation_ratio."""
    assert inventory.capacity_mib == capacity_mib

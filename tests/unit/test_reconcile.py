# SPDX-License-Identifier: Apache-2.0
"""One pass: observe, plan, apply, and what a conflict makes of it."""

from collections.abc import Callable

import pytest

from fbm_placement import errors, names, plan, reconcile
from fbm_placement.placement import Allocations, Provider
from fbm_placement.plan import HostFacts, Inventory, Target
from fbm_placement.settings import DISABLED, Settings

ON = plan.target(Settings(1000, 0, 'kvm', 1.0), HostFacts())
OFF = plan.target(DISABLED, HostFacts())
DRAM = Inventory(
    total=500, reserved=0, min_unit=1, max_unit=500, step_size=1, allocation_ratio=1.5
)
FOREIGN = frozenset({'COMPUTE_NODE'})
PROVIDER = Provider('uuid', 'compute-7', is_root=True)


class FakePlacement:
    """A stand-in for ``placement.Placement``: one provider in memory, with a generation.

    The real one is spoken to in tests/functional. This one can be told to let somebody else write
    just before the n-th call.
    """

    def __init__(self) -> None:
        """Start as nova-compute leaves it."""
        self.generation = 5
        self.record: Inventory | None = DRAM
        self.names = FOREIGN
        self.known = set(names.OWN_TRAITS)
        self.calls: list[str] = []
        self.before: dict[int, Callable[[], None]] = {}

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.before.pop(len(self.calls), lambda: None)()

    def _check(self, generation: int) -> None:
        if generation != self.generation:
            raise errors.ConflictError('stale')
        self.generation += 1

    def somebody_writes(self) -> None:
        """Raise the generation, as an allocation does."""
        self.generation += 1

    def inventory(self, uuid: str) -> tuple[int, Inventory | None]:
        """Read."""
        self._called('inventory')
        return self.generation, self.record

    def traits(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Read."""
        self._called('traits')
        return self.generation, self.names

    def allocations(self, uuid: str) -> Allocations:
        """Read."""
        self._called('allocations')
        return Allocations(0, 0)

    def put_inventory(self, uuid: str, generation: int, inventory: Inventory) -> int:
        """Write."""
        self._called('PUT inventory')
        self._check(generation)
        if self.record is None:
            raise errors.BadRequestError('no record')
        self.record = inventory
        return self.generation

    def put_traits(self, uuid: str, generation: int, traits: frozenset[str]) -> int:
        """Write."""
        self._called('PUT traits')
        self._check(generation)
        if (traits & names.OWN_TRAITS) - self.known:
            raise errors.BadRequestError('no such trait')
        self.names = traits
        return self.generation

    def create_missing_traits(self, wanted: frozenset[str]) -> frozenset[str]:
        """Create."""
        self._called('create traits')
        self.known |= wanted
        return wanted


@pytest.fixture
def placement() -> FakePlacement:
    """Return one that nova-compute has reported to."""
    return FakePlacement()


@pytest.fixture
def waits() -> list[float]:
    """Return the seconds waited."""
    return []


@pytest.fixture
def reconciler(placement: FakePlacement, waits: list[float]) -> reconcile.Reconciler:
    """Return one that waits in no time."""
    return reconcile.Reconciler(placement, PROVIDER, waits.append)


def is_at(placement: FakePlacement, goal: Target) -> bool:
    """Tell whether everything is as it should be, foreign traits included."""
    return (
        goal.inventory is None or placement.record == goal.inventory
    ) and placement.names == FOREIGN | goal.own_traits


def test_a_quiet_pass_costs_one_request(placement, reconciler) -> None:
    """Nothing changed since the last pass, so the generation alone tells that all is well."""
    assert reconciler.run_pass(ON).plan.steps
    placement.calls.clear()
    assert not reconciler.run_pass(ON).plan.steps
    assert placement.calls == ['inventory']


def test_a_pass_that_wrote_nothing_settles_too(placement, reconciler) -> None:
    """After a restart of the agent the second pass is quiet already."""
    reconcile.Reconciler(placement, PROVIDER, lambda _: None).run_pass(ON)
    reconciler.run_pass(ON)
    placement.calls.clear()
    reconciler.run_pass(ON)
    assert placement.calls == ['inventory']


def test_a_changed_generation_is_looked_into(placement, reconciler) -> None:
    """An allocation may have come, or a trait may have gone: all is read, nothing written."""
    reconciler.run_pass(ON)
    placement.somebody_writes()
    placement.calls.clear()
    reconciler.run_pass(ON)
    assert placement.calls == ['inventory', 'traits', 'allocations']


def test_another_goal_is_not_quiet(placement, reconciler) -> None:
    """The same generation says nothing about another goal."""
    reconciler.run_pass(ON)
    reconciler.run_pass(OFF)
    assert is_at(placement, OFF)
    reconciler.run_pass(ON)
    assert is_at(placement, ON)


@pytest.mark.parametrize('call', range(1, 6))
def test_a_writer_between_any_two_requests(placement, reconciler, call: int) -> None:
    """All is read again and decided again, and the pass gets there all the same."""
    placement.before[call] = placement.somebody_writes
    reconciler.run_pass(ON)
    assert is_at(placement, ON)


def test_a_conflict_never_overwrites_what_came_between(placement, reconciler) -> None:
    """A trait that another writer added after the read survives."""

    def add_trait() -> None:
        placement.names |= {'CUSTOM_NEW'}
        placement.somebody_writes()

    placement.before[4] = add_trait
    reconciler.run_pass(ON)
    assert 'CUSTOM_NEW' in placement.names
    assert placement.names >= ON.own_traits


def test_a_read_across_two_generations_is_not_taken_for_settled(placement, reconciler) -> None:
    """The traits may have been read before the write that the next pass has to see."""
    reconciler.run_pass(ON)
    placement.somebody_writes()
    placement.before[len(placement.calls) + 2] = placement.somebody_writes
    reconciler.run_pass(ON)
    placement.calls.clear()
    reconciler.run_pass(ON)
    assert placement.calls == ['inventory', 'traits', 'allocations']


def test_gives_up_after_four_tries_until_the_next_pass(placement, reconciler, waits) -> None:
    """Waits in between grow, are spread, and come between tries only."""

    def conflict(*_: object) -> int:
        placement.calls.append('PUT inventory')
        raise errors.ConflictError('stale')

    placement.put_inventory = conflict
    with pytest.raises(errors.ConflictError):
        reconciler.run_pass(ON)
    assert placement.calls.count('PUT inventory') == 4
    assert placement.names == FOREIGN
    assert len(waits) == 3
    for wait, longest in zip(waits, (0.2, 0.4, 0.8), strict=True):
        assert longest / 2 <= wait <= longest


def test_a_trait_that_was_deleted_is_created_again(placement, reconciler) -> None:
    """Placement answers 400 where a trait doesn't exist."""
    placement.known.clear()
    reconciler.run_pass(ON)
    assert is_at(placement, ON)


def test_the_record_may_go_between_the_requests(placement, reconciler) -> None:
    """Then the pass waits for nova-compute, and publishes nothing."""

    def remove() -> None:
        placement.record = None

    placement.before[4] = remove
    assert reconciler.run_pass(ON).plan.waiting_for is not None
    assert placement.names == FOREIGN


def test_a_bad_request_that_stays_is_told(placement, reconciler) -> None:
    """It is not repeated for ever."""

    def refuse(*_: object) -> int:
        raise errors.BadRequestError('no')

    placement.put_traits = refuse
    with pytest.raises(errors.BadRequestError):
        reconciler.run_pass(ON)


def test_looking_writes_nothing(placement, reconciler) -> None:
    """The dry run."""
    outcome = reconciler.dry_run(ON)
    assert outcome.plan.steps == (ON.inventory, FOREIGN | ON.own_traits)
    assert not [call for call in placement.calls if call.startswith(('PUT', 'create'))]


def test_a_provider_made_again_is_seen_at_an_old_generation(placement, waits) -> None:
    """Its generations begin at 0 again, so one that was settled may come back."""
    now = 0.0
    reconciler = reconcile.Reconciler(placement, PROVIDER, waits.append, lambda: now)
    reconciler.run_pass(ON)
    placement.names = FOREIGN
    assert not reconciler.run_pass(ON).plan.steps
    now = reconcile.FULL_CHECK_SECONDS
    reconciler.run_pass(ON)
    assert is_at(placement, ON)


def test_a_provider_that_has_gone_is_not_taken_for_settled(placement, reconciler) -> None:
    """Nor is what comes after it taken for the one that was."""
    reconciler.run_pass(ON)

    def gone() -> None:
        raise errors.NotFoundError('gone')

    placement.before[len(placement.calls) + 1] = gone
    with pytest.raises(errors.NotFoundError):
        reconciler.run_pass(ON)
    placement.names = FOREIGN
    reconciler.run_pass(ON)
    assert is_at(placement, ON)


def test_too_much_allocated_is_read_each_time(placement, reconciler, monkeypatch) -> None:
    """An instance that is deleted need not raise the generation, and its end must be seen."""
    monkeypatch.setattr(placement, 'allocations', lambda _: Allocations(5000, 2))
    assert reconciler.run_pass(ON).seen.allocated_mib == 5000
    monkeypatch.setattr(placement, 'allocations', lambda _: Allocations(500, 1))
    assert reconciler.run_pass(ON).seen.allocated_mib == 500

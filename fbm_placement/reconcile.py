# SPDX-License-Identifier: Apache-2.0
"""One pass over one provider: observe, plan, apply; after a conflict all three again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from oslo_log import log

from fbm_placement import errors, names
from fbm_placement.placement import PlacementClient
from fbm_placement.plan import (
    Inventory,
    Observation,
    Plan,
    PutInventory,
    Target,
    make_plan,
    overcommitment,
)

LOG = log.getLogger(__name__)

TRIES = 4
"""How often one pass reads, decides and writes before it leaves the rest to the next pass."""

FIRST_CONFLICT_WAIT_SECONDS = 0.2
"""Doubled at each conflict, and spread: whoever else is writing should get done first."""

FULL_LOOK_SECONDS = 600.0
"""So often everything is read although the generation is the same.

A provider that was deleted and made again counts from 0, so an old generation may come back; and
an instance that is deleted with ``DELETE /allocations`` doesn't raise it (placement/objects/).
"""

NOTHING_TO_DO = Plan(differences=(), steps=())


@dataclass(frozen=True)
class Outcome:
    """What one pass found and did."""

    goal: Target
    seen: Observation
    """As found, before anything was written."""
    plan: Plan
    overwritten: bool = False
    """The provider had been at this goal, and somebody else took it away from there."""


class Reconciler:
    """Brings one provider to a target, and remembers at which generation it was there."""

    def __init__(
        self,
        uuid: str,
        wait: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Work on provider ``uuid``.

        :param wait: waits for so many seconds, or shorter when the agent is asked to end
        """
        self.uuid = uuid
        self._clock = clock
        self._looked_at = 0.0
        self._wait = wait
        self._reached: Target | None = None
        self._settled: Observation | None = None

    def look(self, placement: PlacementClient, goal: Target) -> Outcome:
        """Observe and plan, but write nothing."""
        seen = self._observe(placement, *placement.inventory(self.uuid))
        return Outcome(goal, seen, make_plan(goal, seen))

    def run_pass(self, placement: PlacementClient, goal: Target) -> Outcome:
        """Bring the provider to ``goal``; write nothing where nothing differs.

        :raises ConflictError: others wrote in between, ``TRIES`` times in a row
        :raises BadRequestError: what was named had gone, ``TRIES`` times in a row
        :raises PlacementError: Placement could not be asked, or refused
        """
        for attempt in range(1, TRIES):
            try:
                return self._try(placement, goal)
            except (errors.ConflictError, errors.BadRequestError) as exc:
                LOG.debug('Try %d of %d: %s', attempt, TRIES, exc)
                if isinstance(exc, errors.BadRequestError):
                    # What was named has gone since: a trait, or nova-compute's record.
                    placement.create_missing_traits(names.OWN_TRAITS)
            self._wait(conflict_wait(attempt))
        return self._try(placement, goal)

    def _try(self, placement: PlacementClient, goal: Target) -> Outcome:
        settled, self._settled = self._settled, None
        generation, inventory = placement.inventory(self.uuid)
        # Whoever writes inventory or traits, or adds an allocation, raises the generation.
        if (
            settled is not None
            and self._reached == goal
            and self._clock() - self._looked_at < FULL_LOOK_SECONDS
            and (generation, inventory) == (settled.generation, settled.inventory)
        ):
            self._settled = settled
            return Outcome(goal, settled, NOTHING_TO_DO)
        seen = self._observe(placement, generation, inventory)
        plan = make_plan(goal, seen)
        generation = self._apply(placement, plan, generation)
        outcome = Outcome(goal, seen, plan, bool(plan.steps) and self._reached == goal)
        if plan.waiting_for is None:
            self._reached = goal
        # Where too much is allocated the sum is read each time, so that its end is seen.
        if plan.waiting_for is None and overcommitment(goal, seen) is None:
            self._looked_at = self._clock()
            self._settled = replace(
                seen,
                generation=generation,
                inventory=goal.inventory or seen.inventory,
                traits=goal.traits(seen.traits),
            )
        return outcome

    def _observe(
        self, placement: PlacementClient, generation: int, inventory: Inventory | None
    ) -> Observation:
        # The traits may be of a later generation already. Then a write with the inventory's gets
        # a conflict, and the next look isn't taken for a quiet one.
        _, traits = placement.traits(self.uuid)
        allocations = placement.allocations(self.uuid)
        return Observation(
            generation=generation,
            inventory=inventory,
            traits=traits,
            allocated_mib=allocations.allocated_mib,
            consumers=allocations.consumers,
        )

    def _apply(self, placement: PlacementClient, plan: Plan, generation: int) -> int:
        for step in plan.steps:
            if isinstance(step, PutInventory):
                generation = placement.put_inventory(self.uuid, generation, step.inventory)
            else:
                generation = placement.put_traits(self.uuid, generation, step.traits)
        return generation


def conflict_wait(attempt: int) -> float:
    """Return the seconds to wait before try ``attempt`` (the first repeated one is 1)."""
    longest = FIRST_CONFLICT_WAIT_SECONDS * 2 ** (attempt - 1)
    return random.uniform(longest / 2, longest)

# SPDX-License-Identifier: Apache-2.0
"""One pass over one provider: observe, plan, apply; after a conflict all three again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from oslo_log import log

from fbm_placement import errors, names
from fbm_placement.placement import PlacementClient, Provider
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
"""Doubled at each conflict, and spread, so that the other client can finish first."""

FULL_CHECK_SECONDS = 600.0
"""So often everything is read although the generation is the same.

A provider that was deleted and created again counts from 0, so an old generation may come back;
and ``DELETE /allocations`` doesn't raise it (placement/objects/).
"""

NOTHING_TO_DO = Plan(differences=(), steps=())


@dataclass(frozen=True)
class PassResult:
    """What one pass found and did."""

    provider: Provider
    goal: Target
    seen: Observation
    """Before anything was written."""
    plan: Plan
    overwritten: bool = False
    """The provider was at this goal before, and another client changed it."""

    @property
    def overcommitment(self) -> str | None:
        """A message if more is allocated than the host offers."""
        return overcommitment(self.goal, self.seen)


@dataclass(frozen=True)
class _Settled:
    """A provider at its goal: while its generation stays the same nothing need be read."""

    goal: Target
    observation: Observation
    at: float

    def holds(self, goal: Target, seen: tuple[int, Inventory | None], now: float) -> bool:
        return (
            goal == self.goal
            and now - self.at < FULL_CHECK_SECONDS
            and seen == (self.observation.generation, self.observation.inventory)
        )


class Reconciler:
    """Brings one provider to a target, and remembers at which generation it was there."""

    def __init__(
        self,
        provider: Provider,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Work on this provider.

        :param wait: waits for so many seconds, or shorter when the agent is asked to stop
        """
        self.provider = provider
        self._wait = wait
        self._clock = clock
        self._reached: Target | None = None
        self._settled: _Settled | None = None

    def dry_run(self, client: PlacementClient, goal: Target) -> PassResult:
        """Observe and plan, but write nothing."""
        seen = self._observe(client, *client.inventory(self.provider.uuid))
        return PassResult(self.provider, goal, seen, make_plan(goal, seen))

    def run_pass(self, client: PlacementClient, goal: Target) -> PassResult:
        """Bring the provider to ``goal``; write nothing where nothing differs.

        :raises ConflictError: another client wrote in between, ``TRIES`` times in a row
        :raises BadRequestError: what was named did not exist, ``TRIES`` times in a row
        :raises PlacementError: Placement could not be asked, or refused
        """
        for attempt in range(1, TRIES):
            try:
                return self._try(client, goal)
            except (errors.ConflictError, errors.BadRequestError) as exc:
                LOG.debug('Try %d of %d: %s', attempt, TRIES, exc)
                if isinstance(exc, errors.BadRequestError):
                    # A trait, or nova-compute's inventory, was deleted since.
                    client.create_missing_traits(names.OWN_TRAITS)
            self._wait(conflict_wait(attempt))
        return self._try(client, goal)

    def _try(self, client: PlacementClient, goal: Target) -> PassResult:
        settled, self._settled = self._settled, None
        generation, inventory = client.inventory(self.provider.uuid)
        # A write of inventory or traits, or a new allocation, raises the generation.
        if settled is not None and settled.holds(goal, (generation, inventory), self._clock()):
            self._settled = settled
            return PassResult(self.provider, goal, settled.observation, NOTHING_TO_DO)
        seen = self._observe(client, generation, inventory)
        plan = make_plan(goal, seen)
        generation = self._apply(client, plan, generation)
        overwritten = bool(plan.steps) and self._reached == goal
        result = PassResult(self.provider, goal, seen, plan, overwritten)
        if plan.waiting_for is not None:
            return result
        self._reached = goal
        # While too much is allocated the sum is read at each pass, so that its end is seen.
        if result.overcommitment is None:
            now_there = replace(
                seen,
                generation=generation,
                inventory=goal.inventory or seen.inventory,
                traits=goal.traits(seen.traits),
            )
            self._settled = _Settled(goal, now_there, self._clock())
        return result

    def _observe(
        self, client: PlacementClient, generation: int, inventory: Inventory | None
    ) -> Observation:
        # The traits may be of a later generation already. Then a write with the inventory's
        # generation gets a conflict, and the next pass isn't taken for a quiet one.
        _, traits = client.traits(self.provider.uuid)
        held = client.allocations(self.provider.uuid)
        return Observation(generation, inventory, traits, held.allocated_mib, held.consumers)

    def _apply(self, client: PlacementClient, plan: Plan, generation: int) -> int:
        uuid = self.provider.uuid
        for step in plan.steps:
            if isinstance(step, PutInventory):
                generation = client.put_inventory(uuid, generation, step.inventory)
            else:
                generation = client.put_traits(uuid, generation, step.traits)
        return generation


def conflict_wait(attempt: int) -> float:
    """Return the seconds to wait after try ``attempt``, counted from 1."""
    longest = FIRST_CONFLICT_WAIT_SECONDS * 2 ** (attempt - 1)
    return random.uniform(longest / 2, longest)

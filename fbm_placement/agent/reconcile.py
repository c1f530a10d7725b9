# SPDX-License-Identifier: Apache-2.0
"""One pass over one provider: observe, plan, apply; after a conflict all three again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from oslo_log import log

from fbm_placement import constants, errors
from fbm_placement.model import Inventory, Provider
from fbm_placement.placement.client import PlacementClient
from fbm_placement.rules.publish import Observation, Plan, Target, make_plan, overcommitment

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


@dataclass(frozen=True)
class PassResult:
    """What one pass found and did."""

    provider: Provider
    goal: Target
    seen: Observation
    """Before anything was written."""
    plan: Plan

    @property
    def overcommitment(self) -> str | None:
        return overcommitment(self.goal, self.seen)


class Reconciler:
    """Brings one provider to a target, and remembers at which generation it was there."""

    def __init__(
        self,
        client: PlacementClient,
        provider: Provider,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wait`` waits for so many seconds, or less when the agent is asked to stop."""
        self.provider = provider
        self._client = client
        self._wait = wait
        self._clock = clock
        self._settled: PassResult | None = None
        self._settled_at = 0.0

    def dry_run(self, goal: Target) -> PassResult:
        """Observe and plan, but write nothing."""
        seen = observe(self._client, self.provider.uuid)
        return PassResult(self.provider, goal, seen, make_plan(goal, seen))

    def run_pass(
        self, goal: Target, check: Callable[[Inventory | None], None] = lambda _: None
    ) -> PassResult:
        """Bring the provider to ``goal``; write nothing where nothing differs.

        :param check: called with the inventory before anything is written; what it raises ends
            the pass
        :raises NotReadyError: nova-compute has not created the inventory yet
        :raises ConflictError: another client wrote in between, ``TRIES`` times in a row
        :raises BadRequestError: what was named did not exist, ``TRIES`` times in a row
        :raises PlacementError: Placement could not be asked, or refused
        """
        for attempt in range(1, TRIES):
            try:
                return self._try(goal, check)
            except (errors.ConflictError, errors.BadRequestError) as exc:
                LOG.debug('Try %d of %d: %s', attempt, TRIES, exc)
                if isinstance(exc, errors.BadRequestError):
                    # A trait, or nova-compute's inventory, was deleted since.
                    self._client.create_missing_traits(constants.OWN_TRAITS)
            longest = FIRST_CONFLICT_WAIT_SECONDS * 2 ** (attempt - 1)
            self._wait(random.uniform(longest / 2, longest))
        return self._try(goal, check)

    def _try(self, goal: Target, check: Callable[[Inventory | None], None]) -> PassResult:
        settled, self._settled = self._settled, None
        found = self._client.inventory(self.provider.uuid)
        check(found[1])
        # A write of inventory or traits, or a new allocation, raises the generation.
        if (
            settled is not None
            and settled.goal == goal
            and self._clock() - self._settled_at < FULL_CHECK_SECONDS
            and (settled.seen.generation, settled.seen.inventory) == found
        ):
            self._settled = settled
            return settled
        seen = observe(self._client, self.provider.uuid, found)
        result = PassResult(self.provider, goal, seen, make_plan(goal, seen))
        if result.plan.waiting_for is not None:
            raise errors.NotReadyError(f'{self.provider.name}: {result.plan.waiting_for}')
        after = self._apply(result)
        # While too much is allocated the sum is read at each pass, so that its end is seen.
        if result.overcommitment is None:
            self._settled = replace(result, seen=after, plan=Plan(differences=(), steps=()))
            self._settled_at = self._clock()
        return result

    def _apply(self, result: PassResult) -> Observation:
        """Write, and return what there is now."""
        uuid, now = self.provider.uuid, result.seen
        for step in result.plan.steps:
            if isinstance(step, Inventory):
                generation = self._client.put_inventory(uuid, now.generation, step)
                now = replace(now, generation=generation, inventory=step)
            else:
                generation = self._client.put_traits(uuid, now.generation, step)
                now = replace(now, generation=generation, traits=step)
        return now


def observe(
    client: PlacementClient, uuid: str, inventory: tuple[int, Inventory | None] | None = None
) -> Observation:
    """Read all that a plan needs; ``inventory``: what ``client.inventory`` returned before."""
    generation, record = inventory or client.inventory(uuid)
    # The traits may be of a later generation already. Then a write with the inventory's
    # generation gets a conflict, and the next pass isn't taken for a quiet one.
    _, traits = client.traits(uuid)
    return Observation(generation, record, traits, *client.allocations(uuid))

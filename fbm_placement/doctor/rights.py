# SPDX-License-Identifier: Apache-2.0
"""What Placement lets the agent's user do, found out without doing it.

Each write is one that Placement refuses either way: for the lack of the right, which it looks at
first (403), or else for a generation that the provider can't have (409) or a name that no trait
may get (400), which tells that the right is there.
"""

from collections.abc import Callable

from fbm_placement import errors
from fbm_placement.placement import PlacementClient
from fbm_placement.plan import Observation

NO_GENERATION = -1
_NO_CUSTOM_NAME = 'FILE_BACKED_MEMORY_WITHOUT_THE_PREFIX_CUSTOM'


def missing_rights(placement: PlacementClient, uuid: str, seen: Observation) -> tuple[str, ...]:
    """Return Placement's words for each write of the agent that it would refuse.

    :raises PlacementError: it couldn't be asked
    """
    attempts: list[Callable[[], object]] = [
        lambda: placement.put_traits(uuid, NO_GENERATION, seen.traits),
        lambda: placement.create_trait(_NO_CUSTOM_NAME),
    ]
    if seen.inventory is not None:
        inventory = seen.inventory
        attempts.append(lambda: placement.put_inventory(uuid, NO_GENERATION, inventory))
    return tuple(reason for attempt in attempts if (reason := _refusal(attempt)) is not None)


def _refusal(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except (errors.ConflictError, errors.BadRequestError):
        return None
    except errors.ForbiddenError as exc:
        return str(exc)
    return None

# SPDX-License-Identifier: Apache-2.0
"""The rules of what the agent publishes in Placement, and of the steps that lead there.

The agent owns the MEMORY_MB inventory while the host is enabled, and its own traits always; it
changes no other resource class, provider or trait.
"""

from dataclasses import asdict, dataclass

from fbm_placement import constants
from fbm_placement.model import HostFacts, Inventory, Settings
from fbm_placement.text import count


@dataclass(frozen=True)
class Observation:
    """What Placement has of the provider, at one generation."""

    generation: int
    inventory: Inventory | None
    """The MEMORY_MB record; None: nova-compute has not created one yet."""
    traits: frozenset[str]
    allocated_mib: int = 0
    """The sum of the MEMORY_MB allocations."""
    consumers: int = 0
    """How many instances hold them."""


@dataclass(frozen=True)
class Target:
    """What Placement should have."""

    inventory: Inventory | None
    """None: the inventory is nova-compute's."""
    own_traits: frozenset[str]
    kept_traits: frozenset[str] = frozenset()
    """Those of the agent's traits that stay as they are found."""
    closed_if_enabled: bool = False
    """Add UNHEALTHY if the provider has the enabled trait."""

    def traits(self, seen: frozenset[str]) -> frozenset[str]:
        """Return all traits that the provider should have, foreign ones included."""
        wanted = (seen - (constants.OWN_TRAITS - self.kept_traits)) | self.own_traits
        closed = self.closed_if_enabled and constants.TRAIT_ENABLED in wanted
        return wanted | {constants.TRAIT_UNHEALTHY} if closed else wanted


WITHDRAWN = Target(inventory=None, own_traits=frozenset())
"""Of a disabled host, and for uninstalling: no traits, the inventory is left to nova-compute."""


@dataclass(frozen=True)
class Plan:
    """The steps to the target, in their order."""

    differences: tuple[tuple[str, str, str], ...]
    """A field of the inventory or a trait, what Placement has, and what it should have."""
    steps: tuple[Inventory | frozenset[str], ...]
    """What to write: the MEMORY_MB record, or the provider's whole set of traits."""
    waiting_for: str | None = None
    """What another service has to do before there can be steps."""


def target(settings: Settings, facts: HostFacts) -> Target:
    """Decide what Placement should have of a host with these settings."""
    inventory = None
    if settings.enabled:
        inventory = Inventory.reported(settings.capacity_mib, settings.reserved_mib)
    closed = [constants.TRAIT_UNHEALTHY] if facts.unhealthy else []
    enabled, disk = [constants.TRAIT_ENABLED, *closed], [constants.TRAIT_DISK]
    # The published state is that of the guests: libvirt moves none to the other kind of host.
    if facts.draining and facts.guests_enabled is None:
        kept = frozenset({constants.TRAIT_ENABLED, constants.TRAIT_DISK})
        return Target(inventory, frozenset(closed), kept, closed_if_enabled=not facts.guests_seen)
    if facts.draining:
        if not facts.guests_enabled:
            return Target(inventory, frozenset(closed))
        return Target(inventory, frozenset(enabled), frozenset(disk))
    if not settings.enabled:
        return WITHDRAWN
    if facts.store_is_disk is None:
        return Target(inventory, frozenset(enabled), frozenset(disk))
    return Target(inventory, frozenset([*enabled, *disk] if facts.store_is_disk else enabled))


def make_plan(goal: Target, seen: Observation) -> Plan:
    """Plan the steps from what Placement has to what it should have.

    The trait that closes the host comes first, then the inventory, then the other traits: no
    reader sees the enabled trait without the capacity. Turning off writes traits alone.
    """
    if goal.inventory is not None and seen.inventory is None:
        return Plan(
            differences=((constants.MEMORY_MB, 'no inventory', str(goal.inventory.total)),),
            steps=(),
            waiting_for='nova-compute has not created the MEMORY_MB inventory yet, or another '
            'client deleted it: is nova-compute running on this host? If it is, restart it',
        )
    steps: list[Inventory | frozenset[str]] = []
    current, wanted = seen.traits, goal.traits(seen.traits)
    if goal.inventory is not None and goal.inventory != seen.inventory:
        if constants.TRAIT_UNHEALTHY in wanted - current:
            current |= {constants.TRAIT_UNHEALTHY}
            steps.append(current)
        steps.append(goal.inventory)
    if current != wanted:
        steps.append(wanted)
    return Plan(_differences(goal, seen), tuple(steps))


def overcommitment(goal: Target, seen: Observation) -> str | None:
    """Return a message if more is allocated than the host offers (nova bug 2104040)."""
    # Of a host that drains after it was turned off nova-compute reports DRAM already.
    offered = goal.inventory or (seen.inventory if goal.kept_traits else None)
    if offered is None or seen.allocated_mib <= offered.capacity_mib:
        return None
    excess = seen.allocated_mib - offered.capacity_mib
    held = count(seen.consumers, 'instance holds', 'instances hold')
    fix = (
        'raise [libvirt]file_backed_memory if the store is larger, else upgrade Placement, or '
        'raise it until instances have moved away'
        if goal.inventory is not None
        else 'upgrade Placement, or set [libvirt]file_backed_memory back until instances have '
        'moved away'
    )
    return (
        f'{held} {seen.allocated_mib} MiB, {excess} MiB more than the '
        f'{offered.capacity_mib} MiB that this host offers: no instance can come here, and '
        'with a Placement before 14.0 none can be moved off either (bug 2104040); to fix it, '
        f'{fix}'
    )


def _differences(goal: Target, seen: Observation) -> tuple[tuple[str, str, str], ...]:
    found = []
    if goal.inventory is not None and seen.inventory is not None:
        has, wanted = asdict(seen.inventory), asdict(goal.inventory)
        found += [(k, str(has[k]), str(wanted[k])) for k in has if has[k] != wanted[k]]
    for trait in sorted(seen.traits ^ goal.traits(seen.traits)):
        here = trait in seen.traits
        found.append((trait, 'set', 'not set') if here else (trait, 'not set', 'set'))
    return tuple(found)

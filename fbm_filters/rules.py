# SPDX-License-Identifier: Apache-2.0
"""Who may arrive at a host: request facts in, required and forbidden traits and a reason out.

Pure: nothing here speaks to Nova or to Placement. Pre-filter and filter ask the same function, so
the two leave the same hosts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from fbm_placement.names import OWN_TRAITS, TRAIT_DISK, TRAIT_ENABLED, TRAIT_UNHEALTHY

SUBJECT = 'File-backed memory'

TRAIT_OF_NOVA = 'COMPUTE_MEM_BACKING_FILE'
"""What nova-compute 31 and later says of a host whose *new* guests are file-backed, by nova.conf;
TRAIT_ENABLED tells what the guests there are. To ask for the one is to ask for the other."""

ANY = 'any'
FORBIDDEN = 'forbidden'


@dataclass(frozen=True)
class Need:
    """What an instance asks for and file-backed memory can't give, or not on a disk."""

    words: str
    """Short: Nova cuts what it tells a user after 255 characters."""
    forbids: str
    """The trait of the hosts that can't give it."""
    why: str


_PINNED = "pins the guest's pages for a device, which the kernel refuses on a disk filesystem"

NEEDS = {
    'page_size': Need(
        'a memory page size (hw:mem_page_size)',
        TRAIT_ENABLED,
        'Nova gives file-backed memory none, not even small ones, and locks memory only with one',
    ),
    'realtime': Need(
        'realtime (hw:cpu_realtime)',
        TRAIT_DISK,
        'it locks the memory into DRAM that nobody has counted',
    ),
    'memory_encryption': Need('memory encryption (hw:mem_encryption)', TRAIT_DISK, _PINNED),
    'pci_passthrough': Need('PCI passthrough (pci_passthrough:alias)', TRAIT_DISK, _PINNED),
    'sriov': Need('an SR-IOV port', TRAIT_DISK, _PINNED),
    'vdpa': Need('a vDPA port', TRAIT_DISK, _PINNED),
    'mediated_devices': Need('a mediated device (resources:VGPU)', TRAIT_DISK, _PINNED),
    'accelerators': Need('an accelerator (accel:device_profile)', TRAIT_DISK, _PINNED),
}
"""Every need by its name in ``[file_backed_memory]incompatible``."""

_HOSTS = {
    (TRAIT_ENABLED, True): 'a host with file-backed memory',
    (TRAIT_ENABLED, False): 'a host without file-backed memory',
    (TRAIT_DISK, True): 'a host whose store is a disk',
    (TRAIT_DISK, False): 'a host whose store is no disk',
    (TRAIT_UNHEALTHY, True): 'an unhealthy host',
    (TRAIT_UNHEALTHY, False): 'a healthy host',
}


@dataclass(frozen=True)
class Host:
    """A host, as Placement knows it."""

    name: str
    own_traits: frozenset[str]

    @property
    def enabled(self) -> bool:
        """Whether its guests' memory is file-backed."""
        return TRAIT_ENABLED in self.own_traits


@dataclass(frozen=True)
class RequestFacts:
    """What the rules need to know of one request."""

    needs: frozenset[str] = frozenset()
    """Names in ``NEEDS``."""
    required: frozenset[str] = frozenset()
    """Traits that flavor, image or another pre-filter require."""
    forbidden: frozenset[str] = frozenset()
    """Traits that flavor or another pre-filter forbid."""
    source: Host | None = None
    """Where a live migration comes from; None: the request is no live migration."""
    destination: Host | None = None
    """The host that the request names; None: the scheduler chooses."""


@dataclass(frozen=True)
class Policy:
    """``[file_backed_memory]`` of nova-scheduler."""

    default_policy: str = ANY
    incompatible: frozenset[str] = frozenset(NEEDS)


@dataclass(frozen=True)
class Restriction:
    """One rule that applies to the request."""

    trait: str
    required: bool
    asker: str
    """What in the request, or in the configuration, asks for it."""
    why: str = ''

    def fits(self, own_traits: frozenset[str]) -> bool:
        """Tell whether a host with these traits keeps the rule."""
        return (self.trait in own_traits) == self.required

    def __str__(self) -> str:
        """Tell the rule in a few words."""
        return f'{self.asker} needs {_HOSTS[self.trait, self.required]}'

    @property
    def explained(self) -> str:
        """The rule with its reason, for the log."""
        return f'{self} ({self.why})' if self.why else str(self)


@dataclass(frozen=True)
class Answer:
    """Which hosts the request may go to."""

    restrictions: tuple[Restriction, ...]
    refusal: str | None = None
    """Why there is no such host at all, and what to change."""
    is_live_migration: bool = False

    @property
    def required(self) -> frozenset[str]:
        """The traits that a host must have."""
        return frozenset(r.trait for r in self.restrictions if r.required)

    @property
    def forbidden(self) -> frozenset[str]:
        """The traits that a host must not have."""
        return frozenset(r.trait for r in self.restrictions if not r.required)

    @property
    def concerns_file_backed_memory(self) -> bool:
        """Whether more is asked than what every arrival is asked: that the host be healthy."""
        return any(r.trait != TRAIT_UNHEALTHY for r in self.restrictions)

    def fits(self, own_traits: frozenset[str]) -> bool:
        """Tell whether the request may go to a host with these traits."""
        return self.refusal is None and all(r.fits(own_traits) for r in self.restrictions)


def decide(facts: RequestFacts, policy: Policy) -> Answer:
    """Decide which hosts an arriving request may go to.

    An arrival is a boot, a cold migration, a resize, an unshelve, an evacuation or a live
    migration. A rebuild in place is left to Nova.
    """
    restrictions = tuple(_restrictions(facts, policy))
    return Answer(
        restrictions,
        refusal=_contradiction(restrictions) or _misfit(restrictions, facts),
        is_live_migration=facts.source is not None,
    )


def _restrictions(facts: RequestFacts, policy: Policy) -> Iterable[Restriction]:
    asked = [*_asked_for(facts), *_needed(facts, policy)]
    yield from asked
    if facts.source is not None:
        yield Restriction(
            TRAIT_ENABLED,
            required=facts.source.enabled,
            asker=_guest(facts.source, facts.destination),
            why="libvirt does not change the kind of a guest's memory in a live migration",
        )
    elif policy.default_policy == FORBIDDEN and not any(r.trait == TRAIT_ENABLED for r in asked):
        yield Restriction(
            TRAIT_ENABLED,
            required=False,
            asker='[file_backed_memory]default_policy = forbidden',
            why=f'neither flavor nor image has trait:{TRAIT_ENABLED}=required',
        )
    yield Restriction(TRAIT_UNHEALTHY, required=False, asker='every instance')


def _guest(source: Host, destination: Host | None) -> str:
    """Name a running guest; its host is told to who has named one, by Nova's policy an admin."""
    return 'the running guest' if destination is None else f'the guest on {source.name}'


def _asked_for(facts: RequestFacts) -> Iterable[Restriction]:
    for trait in sorted(facts.required & OWN_TRAITS):
        yield Restriction(trait, required=True, asker=f'trait:{trait}=required')
    for trait in (TRAIT_DISK, TRAIT_OF_NOVA):
        if trait in facts.required and TRAIT_ENABLED not in facts.required:
            # A host has the one only together with the other.
            yield Restriction(TRAIT_ENABLED, required=True, asker=f'trait:{trait}=required')
    for trait in sorted(facts.forbidden & OWN_TRAITS):
        yield Restriction(trait, required=False, asker=f'trait:{trait}=forbidden')
    if TRAIT_OF_NOVA in facts.forbidden:
        asker = f'trait:{TRAIT_OF_NOVA}=forbidden'
        yield Restriction(TRAIT_ENABLED, required=False, asker=asker)


def _needed(facts: RequestFacts, policy: Policy) -> Iterable[Restriction]:
    for name in sorted(facts.needs & policy.incompatible):
        need = NEEDS[name]
        yield Restriction(need.forbids, required=False, asker=need.words, why=need.why)


def _contradiction(restrictions: tuple[Restriction, ...]) -> str | None:
    for one in restrictions:
        for other in restrictions:
            if one.trait == other.trait and one.required and not other.required:
                return f'{SUBJECT}: change one of these: {one}, {other}'
    return None


def _misfit(restrictions: tuple[Restriction, ...], facts: RequestFacts) -> str | None:
    if facts.destination is None:
        return None
    for rule in restrictions:
        if not rule.fits(facts.destination.own_traits):
            is_one = _HOSTS[rule.trait, not rule.required]
            return (
                f'{SUBJECT}: name another host, or none: {facts.destination.name} is {is_one}, '
                f'but {rule}'
            )
    return None

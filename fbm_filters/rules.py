# SPDX-License-Identifier: Apache-2.0
"""Who may arrive at a host: request facts in, required and forbidden traits and a reason out.

Pre-filter and filter apply the answer of one function, so the two leave the same hosts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fbm_placement.constants import OWN_TRAITS, TRAIT_DISK, TRAIT_ENABLED, TRAIT_UNHEALTHY

SUBJECT = 'File-backed memory'

TRAIT_OF_NOVA = 'COMPUTE_MEM_BACKING_FILE'
"""Of nova-compute 31 and later: *new* guests on the host are file-backed, by nova.conf. A request
for it counts as one for TRAIT_ENABLED, which shows what the guests there are. What must not go to
a host with TRAIT_ENABLED must not go to one with this either: its agent may not run yet."""

ANY = 'any'
FORBIDDEN = 'forbidden'


@dataclass(frozen=True)
class Need:
    """What an instance asks for and file-backed memory can't give, or not on a disk."""

    text: str
    """Short: Nova cuts what a user reads after 255 characters."""
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
        'it locks the memory into DRAM that Placement has not counted',
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
    (TRAIT_OF_NOVA, True): 'a host with file-backed memory',
    (TRAIT_OF_NOVA, False): 'a host without file-backed memory',
    (TRAIT_UNHEALTHY, True): 'an unhealthy host',
    (TRAIT_UNHEALTHY, False): 'a healthy host',
}


@dataclass(frozen=True)
class SchedulerHost:
    """A host, as Placement knows it."""

    name: str
    """For the log only: a user who reads a refusal must not learn names of hosts."""
    own_traits: frozenset[str]

    @property
    def enabled(self) -> bool:
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
    source: SchedulerHost | None = None
    """Where a live migration comes from; None: the request is no live migration."""
    destination: SchedulerHost | None = None
    """The host that a live migration names; None: the scheduler chooses."""


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
    origin: str
    """What in the request, or in the configuration, brings the rule."""
    why: str = ''

    def __str__(self) -> str:
        return f'{self.origin} needs {_HOSTS[self.trait, self.required]}'

    @property
    def explained(self) -> str:
        """The rule with its reason, for the log."""
        return f'{self} ({self.why})' if self.why else str(self)


@dataclass(frozen=True)
class Answer:
    """Which hosts the request may go to."""

    restrictions: tuple[Restriction, ...]
    refusal: str | None = None
    """Why there is no such host at all, and what to change; users read it."""
    is_live_migration: bool = False
    hosts: str = ''
    """The names of source and destination of a live migration, for the log."""

    @property
    def required(self) -> frozenset[str]:
        return frozenset(r.trait for r in self.restrictions if r.required)

    @property
    def forbidden(self) -> frozenset[str]:
        return frozenset(r.trait for r in self.restrictions if not r.required)

    @property
    def concerns_file_backed_memory(self) -> bool:
        """Whether there is a rule besides that for every arrival, a healthy host."""
        return bool({r.trait for r in self.restrictions} - {TRAIT_UNHEALTHY})


def decide(facts: RequestFacts, policy: Policy) -> Answer:
    """Decide which hosts an arriving request may go to.

    An arrival is a boot, a cold migration, a resize, an unshelve, an evacuation or a live
    migration. A rebuild in place is left to Nova.
    """
    restrictions = tuple(_restrictions(facts, policy))
    source, destination = facts.source, facts.destination
    return Answer(
        restrictions,
        refusal=_contradiction(restrictions) or _misfit(restrictions, destination),
        is_live_migration=source is not None,
        hosts=' to '.join(host.name for host in (source, destination) if host is not None),
    )


def _restrictions(facts: RequestFacts, policy: Policy) -> Iterable[Restriction]:
    for rule in _rules(facts, policy):
        yield rule
        if rule.trait == TRAIT_ENABLED and not rule.required:
            yield replace(rule, trait=TRAIT_OF_NOVA)


def _rules(facts: RequestFacts, policy: Policy) -> Iterable[Restriction]:
    by_request = [*_by_traits(facts), *_by_needs(facts.needs & policy.incompatible)]
    yield from by_request
    if facts.source is not None:
        yield Restriction(
            TRAIT_ENABLED,
            facts.source.enabled,
            'the guest on its present host',
            "libvirt does not change the kind of a guest's memory in a live migration",
        )
    elif policy.default_policy == FORBIDDEN and TRAIT_ENABLED not in {r.trait for r in by_request}:
        yield Restriction(
            TRAIT_ENABLED,
            False,
            '[file_backed_memory]default_policy = forbidden',
            f'neither flavor nor image has trait:{TRAIT_ENABLED}=required',
        )
    yield Restriction(TRAIT_UNHEALTHY, False, 'every instance')


def _by_traits(facts: RequestFacts) -> Iterable[Restriction]:
    for trait in sorted(facts.required & OWN_TRAITS):
        yield Restriction(trait, True, f'trait:{trait}=required')
    if TRAIT_ENABLED not in facts.required:
        # A host has each of these only together with TRAIT_ENABLED.
        for trait in sorted(facts.required & {TRAIT_DISK, TRAIT_OF_NOVA}):
            yield Restriction(TRAIT_ENABLED, True, f'trait:{trait}=required')
    if TRAIT_OF_NOVA in facts.forbidden:
        yield Restriction(TRAIT_ENABLED, False, f'trait:{TRAIT_OF_NOVA}=forbidden')
    for trait in sorted(facts.forbidden & OWN_TRAITS):
        yield Restriction(trait, False, f'trait:{trait}=forbidden')


def _by_needs(needs: frozenset[str]) -> Iterable[Restriction]:
    for need in (NEEDS[name] for name in sorted(needs)):
        yield Restriction(need.forbids, False, need.text, need.why)


def _contradiction(restrictions: tuple[Restriction, ...]) -> str | None:
    forbidding = {rule.trait: rule for rule in reversed(restrictions) if not rule.required}
    for rule in restrictions:
        if rule.required and rule.trait in forbidding:
            return f'{SUBJECT}: change one of these: {rule}, {forbidding[rule.trait]}'
    return None


def _misfit(
    restrictions: tuple[Restriction, ...], destination: SchedulerHost | None
) -> str | None:
    if destination is None:
        return None
    for rule in restrictions:
        if (rule.trait in destination.own_traits) is not rule.required:
            seen = f'the host that was named is {_HOSTS[rule.trait, not rule.required]}'
            return f'{SUBJECT}: name another host, or none: {seen}, but {rule}'
    return None

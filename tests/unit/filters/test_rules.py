# SPDX-License-Identifier: Apache-2.0
"""The decision table: row by row, then every combination against its sentences."""

import itertools
from collections.abc import Iterable

import pytest

from fbm_filters import rules
from fbm_filters.rules import (
    FORBIDDEN,
    NEEDS,
    TRAIT_OF_NOVA,
    Policy,
    RequestFacts,
    SchedulerHost,
    decide,
)
from fbm_placement.constants import OWN_TRAITS, TRAIT_DISK, TRAIT_ENABLED, TRAIT_UNHEALTHY

PLAIN = frozenset[str]()
TMPFS = frozenset({TRAIT_ENABLED})
DISK = frozenset({TRAIT_ENABLED, TRAIT_DISK})
KINDS = {'plain': PLAIN, 'tmpfs': TMPFS, 'disk': DISK}
HOSTS = {
    **KINDS,
    # Its agent does not run yet.
    'early': frozenset({'COMPUTE_MEM_BACKING_FILE'}),
    **{f'unhealthy {name}': traits | {TRAIT_UNHEALTHY} for name, traits in KINDS.items()},
}
DISK_NEEDS = sorted(name for name, need in NEEDS.items() if need.forbids == TRAIT_DISK)


def open_to(facts: RequestFacts, policy: Policy | None = None) -> set[str]:
    return fitting(decide(facts, policy or Policy()))


def fitting(answer: rules.Answer) -> set[str]:
    return {
        name
        for name, traits in HOSTS.items()
        if answer.required <= traits and not answer.forbidden & traits
    }


def asking(
    *needs: str,
    required: Iterable[str] = (),
    forbidden: Iterable[str] = (),
    source: SchedulerHost | None = None,
    destination: SchedulerHost | None = None,
) -> RequestFacts:
    traits = frozenset(required), frozenset(forbidden)
    return RequestFacts(frozenset(needs), *traits, source, destination)


def copied(text: str) -> str:
    return ''.join(list(text))


def on(traits: frozenset[str], name: str = 'compute-1') -> SchedulerHost:
    return SchedulerHost(name, traits)


# The table, row by row.


@pytest.mark.parametrize(
    ('facts', 'hosts'),
    [
        (asking(), {'plain', 'early', 'tmpfs', 'disk'}),
        (asking(required={TRAIT_ENABLED}), {'tmpfs', 'disk'}),
        (asking(forbidden={TRAIT_ENABLED}), {'plain'}),
        (asking(required={TRAIT_DISK}), {'disk'}),
        (asking(forbidden={TRAIT_DISK}), {'plain', 'early', 'tmpfs'}),
        (asking(forbidden={TRAIT_UNHEALTHY}), {'plain', 'early', 'tmpfs', 'disk'}),
        (asking(required={'CUSTOM_OTHER'}), {'plain', 'early', 'tmpfs', 'disk'}),
        (asking(required={TRAIT_OF_NOVA}), {'tmpfs', 'disk'}),
        (asking(forbidden={TRAIT_OF_NOVA}), {'plain'}),
        # Not the same objects as the rules have: they come from a flavor.
        (asking(forbidden={copied(TRAIT_ENABLED)}), {'plain'}),
        (asking(forbidden={copied(TRAIT_OF_NOVA)}), {'plain'}),
        (asking('page_size'), {'plain'}),
        *((asking(name), {'plain', 'early', 'tmpfs'}) for name in DISK_NEEDS),
        (asking('realtime', required={TRAIT_ENABLED}), {'tmpfs'}),
        (asking(source=on(PLAIN)), {'plain'}),
        (asking(source=on(TMPFS)), {'tmpfs', 'disk'}),
        (asking(source=on(DISK)), {'tmpfs', 'disk'}),
        (asking(source=on(DISK | {TRAIT_UNHEALTHY})), {'tmpfs', 'disk'}),
        (asking('sriov', source=on(DISK)), {'tmpfs'}),
        (asking('page_size', source=on(PLAIN)), {'plain'}),
        (asking(source=on(TMPFS), destination=on(DISK)), {'tmpfs', 'disk'}),
    ],
)
def test_row(facts: RequestFacts, hosts: set[str]) -> None:
    assert open_to(facts) == hosts


def test_default_policy() -> None:
    """Without a wish an instance stays off; Nova's own trait is a wish too."""
    policy = Policy(default_policy=copied('forbidden'))
    assert open_to(asking(), policy) == {'plain'}
    assert open_to(asking(required={TRAIT_OF_NOVA}), policy) == {'tmpfs', 'disk'}


# Refusals.


WANTS = 'trait:CUSTOM_FILE_BACKED_MEMORY=required'
WANTS_NONE = 'trait:COMPUTE_MEM_BACKING_FILE=forbidden'
WANTS_DISK = 'trait:CUSTOM_FILE_BACKED_MEMORY_DISK=required'


@pytest.mark.parametrize(
    ('facts', 'sides'),
    [
        (asking('page_size', required={TRAIT_ENABLED}), [WANTS, 'hw:mem_page_size']),
        (asking(required={TRAIT_ENABLED}, forbidden={TRAIT_ENABLED}), [WANTS, '=forbidden']),
        (asking('realtime', required={TRAIT_DISK}), [WANTS_DISK, 'hw:cpu_realtime']),
        (asking('page_size', required={TRAIT_DISK}), [WANTS_DISK, 'hw:mem_page_size']),
        (
            asking('page_size', source=on(TMPFS)),
            ['the guest on its present host', 'hw:mem_page_size'],
        ),
        (
            asking(required={TRAIT_ENABLED}, source=on(PLAIN)),
            [WANTS, 'the guest on its present host'],
        ),
        (
            asking(required={TRAIT_ENABLED}, source=on(PLAIN), destination=on(DISK)),
            [WANTS, 'the guest on its present host'],
        ),
        (
            asking('page_size', required={TRAIT_OF_NOVA}),
            ['trait:COMPUTE_MEM_BACKING_FILE=required', 'hw:mem_page_size'],
        ),
        (asking(required={TRAIT_ENABLED}, forbidden={TRAIT_OF_NOVA}), [WANTS, WANTS_NONE]),
        (asking(required={TRAIT_UNHEALTHY}), ['an unhealthy host', 'a healthy host']),
        (
            asking(required={copied(TRAIT_DISK)}, forbidden={copied(TRAIT_DISK)}),
            ['a host whose store is a disk', 'a host whose store is no disk'],
        ),
    ],
)
def test_a_contradiction_names_both_sides(facts: RequestFacts, sides: list[str]) -> None:
    refusal = decide(facts, Policy()).refusal
    assert refusal is not None
    assert refusal.startswith('File-backed memory: ')
    assert 'change one' in refusal
    for side in sides:
        assert side in refusal


@pytest.mark.parametrize(
    ('source', 'destination', 'reported'),
    [
        (DISK, PLAIN, 'the host that was named is a host without file-backed memory'),
        (PLAIN, DISK, 'the host that was named is a host with file-backed memory'),
        (DISK, TMPFS | {TRAIT_UNHEALTHY}, 'the host that was named is an unhealthy host'),
    ],
)
def test_a_named_host_that_does_not_fit_is_named(
    source: frozenset[str], destination: frozenset[str], reported: str
) -> None:
    facts = asking(source=on(source), destination=on(destination, 'compute-2'))
    refusal = decide(facts, Policy()).refusal
    assert refusal is not None
    assert reported in refusal
    assert 'name another host, or none' in refusal


@pytest.mark.parametrize(
    ('facts', 'concerns'),
    [
        (asking(), False),
        (asking(forbidden={copied(TRAIT_UNHEALTHY)}), False),
        (asking('page_size'), True),
        (asking('sriov'), True),
        (asking(forbidden={TRAIT_OF_NOVA}), True),
        (asking(source=on(PLAIN)), True),
    ],
)
def test_it_concerns_file_backed_memory(facts: RequestFacts, concerns: bool) -> None:
    """Only such a request is refused where the hosts that fit are not known."""
    assert decide(facts, Policy()).concerns_file_backed_memory is concerns


def test_an_answer_without_rules() -> None:
    answer = rules.Answer(())
    assert (answer.concerns_file_backed_memory, answer.is_live_migration) == (False, False)


def test_a_rule_with_its_reason() -> None:
    """For the log; the rule that every instance has needs none."""
    realtime, healthy = decide(asking('realtime'), Policy()).restrictions
    assert realtime.explained == (
        'realtime (hw:cpu_realtime) needs a host whose store is no disk (it locks the memory into '
        'DRAM that Placement has not counted)'
    )
    assert healthy.explained == 'every instance needs a healthy host'


def test_the_host_that_was_named_has_no_agent_yet() -> None:
    facts = asking(source=on(PLAIN), destination=on(frozenset({TRAIT_OF_NOVA})))
    assert decide(facts, Policy()).refusal == (
        'File-backed memory: name another host, or none: the host that was named is a host with '
        'file-backed memory, but the guest on its present host needs a host without file-backed '
        'memory'
    )


@pytest.mark.parametrize(
    ('source', 'destination', 'is_one', 'hosts'),
    [
        (None, None, False, ''),
        ('compute-1', None, True, 'compute-1'),
        ('compute-1', 'compute-2', True, 'compute-1 to compute-2'),
    ],
)
def test_live_migration(
    source: str | None, destination: str | None, is_one: bool, hosts: str
) -> None:
    """The names are for the log."""
    facts = asking(
        source=on(PLAIN, source) if source else None,
        destination=on(PLAIN, destination) if destination else None,
    )
    answer = decide(facts, Policy())
    assert answer.is_live_migration is is_one
    assert answer.hosts == hosts
    assert answer.refusal is None


# Every combination.

WISHES = [frozenset(), frozenset({TRAIT_ENABLED}), frozenset({TRAIT_DISK})]
MOVES = [
    (None, None),
    *itertools.product([on(PLAIN), on(TMPFS), on(DISK | {TRAIT_UNHEALTHY})], [None]),
    *(
        (on(source), on(destination, 'compute-2'))
        for source, destination in itertools.product([PLAIN, DISK], HOSTS.values())
    ),
]
POLICIES = [
    Policy(default_policy, incompatible)
    for default_policy in (rules.ANY, FORBIDDEN)
    for incompatible in (frozenset(NEEDS), frozenset(), frozenset({'page_size', 'vdpa'}))
]


@pytest.mark.parametrize(
    ('facts', 'policy', 'concerns'),
    [
        # What every arrival needs, a healthy host, is no rule of its own.
        (asking(), Policy(), False),
        (asking(forbidden={'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'}), Policy(), False),
        (asking(required={'CUSTOM_OTHER'}), Policy(), False),
        (asking(), Policy(default_policy='forbidden'), True),
        (asking(required={'CUSTOM_FILE_BACKED_MEMORY'}), Policy(), True),
        (asking(forbidden={'CUSTOM_FILE_BACKED_MEMORY_DISK'}), Policy(), True),
        (asking('page_size'), Policy(), True),
        (asking('realtime'), Policy(), True),
        (asking(source=on(PLAIN)), Policy(), True),
    ],
)
def test_which_requests_concern_file_backed_memory(
    facts: RequestFacts, policy: Policy, *, concerns: bool
) -> None:
    """Only these are logged, and stopped where the traits of the hosts could not be read."""
    assert decide(facts, policy).concerns_file_backed_memory is concerns


def subsets(names: list[str]) -> list[frozenset[str]]:
    return [
        frozenset(some)
        for size in range(len(names) + 1)
        for some in itertools.combinations(names, size)
    ]


def may_arrive(traits: frozenset[str], facts: RequestFacts, policy: Policy) -> bool:
    """Decide by the sentences of doc/source/admin/scheduler.rst, not by the code under test."""
    enabled, disk, unhealthy = (
        trait in traits for trait in (TRAIT_ENABLED, TRAIT_DISK, TRAIT_UNHEALTHY)
    )
    enabled_or_early = enabled or TRAIT_OF_NOVA in traits
    if unhealthy:
        return False
    if facts.required & OWN_TRAITS - traits or facts.forbidden & traits:
        return False
    needs = facts.needs & policy.incompatible
    if ('page_size' in needs or TRAIT_ENABLED in facts.forbidden) and enabled_or_early:
        return False
    if needs - {'page_size'} and disk:
        return False
    if facts.source is not None:
        return enabled if TRAIT_ENABLED in facts.source.own_traits else not enabled_or_early
    asks = facts.required & {TRAIT_ENABLED, TRAIT_DISK}
    return bool(asks) or not (policy.default_policy == FORBIDDEN and enabled_or_early)


def named(policy: Policy) -> str:
    """Return the same name in each process."""
    return ' '.join([policy.default_policy, *sorted(policy.incompatible)])


@pytest.mark.parametrize('policy', POLICIES, ids=named)
def test_every_combination_against_the_sentences(policy: Policy) -> None:
    """The hosts that fit are those of the sentences, and a refusal means that there are none."""
    longest = ''
    for needs, required, forbidden, (source, destination) in itertools.product(
        subsets(sorted(NEEDS)), WISHES, WISHES, MOVES
    ):
        facts = RequestFacts(needs, required, forbidden, source, destination)
        answer = decide(facts, policy)
        wanted = {name for name, traits in HOSTS.items() if may_arrive(traits, facts, policy)}
        misfit = destination is not None and not may_arrive(destination.own_traits, facts, policy)
        assert (answer.refusal is not None) == (not wanted or misfit), facts
        if answer.refusal is None:
            assert fitting(answer) == wanted, facts
            assert answer.concerns_file_backed_memory or wanted == {*KINDS, 'early'}, facts
        elif len(answer.refusal) > len(longest):
            longest = answer.refusal
    # Nova puts 44 characters before it and cuts the fault after 255.
    assert len(longest) <= 211, longest

# SPDX-License-Identifier: Apache-2.0
"""The messages about a pass."""

import dataclasses
from typing import Any

import pytest

from fbm_placement.agent import messages
from fbm_placement.agent.reconcile import PassResult
from fbm_placement.host import numa
from fbm_placement.model import DISABLED, HostFacts, Inventory, Provider, Settings
from fbm_placement.rules import publish
from fbm_placement.rules.publish import Observation

PROVIDER = Provider('26a0f7a1-0000-4000-8000-000000000000', 'compute-7', is_root=True)
ON = publish.target(Settings(1000, 0, 'kvm', 1.0), HostFacts())
OFF = publish.target(DISABLED, HostFacts())
DRAM = Inventory(
    total=500, reserved=0, min_unit=1, max_unit=500, step_size=1, allocation_ratio=1.0
)
WANTED = Inventory(
    total=1048576, reserved=256, min_unit=1, max_unit=1048576, step_size=1, allocation_ratio=1.0
)
ON_HOST = ON.own_traits


def result(
    goal: publish.Target,
    inventory: Inventory | None,
    traits: frozenset[str] = ON_HOST,
    mib: int = 0,
) -> PassResult:
    seen = Observation(1, inventory, traits, mib, consumers=2 if mib else 0)
    return PassResult(PROVIDER, goal, seen, publish.make_plan(goal, seen))


def reported(**changes: Any) -> Inventory:
    seen = dataclasses.replace(WANTED, **changes)
    return dataclasses.replace(seen, max_unit=seen.total)


def test_the_dry_run_is_a_small_table_of_what_differs() -> None:
    text = messages.format_dry_run(result(ON, DRAM, frozenset()), HostFacts())
    assert text.splitlines() == [
        'Resource provider compute-7 (26a0f7a1-0000-4000-8000-000000000000)',
        '  field                           is       should be',
        '  total                           500      1000',
        '  max_unit                        500      1000',
        '  CUSTOM_FILE_BACKED_MEMORY       not set  set',
        '  CUSTOM_FILE_BACKED_MEMORY_DISK  not set  set',
    ]


@pytest.mark.parametrize(
    ('seen', 'texts'),
    [
        (
            result(ON, ON.inventory, mib=300),
            ['As it should be: enabled: compute-7 offers 1000 MiB, 300 MiB allocated'],
        ),
        (result(ON, None, frozenset()), ['no inventory', 'nova-compute has not created']),
        (result(ON, ON.inventory, mib=1500), ['(TOO MUCH)', '500 MiB more than the 1000 MiB']),
    ],
)
def test_the_dry_run_shows_what_is_missing_or_too_much(seen: PassResult, texts: list[str]) -> None:
    text = messages.format_dry_run(seen, HostFacts())
    assert [part for part in texts if part not in text] == []


def test_a_disabled_host_leaves_the_inventory_to_nova_compute() -> None:
    status = messages.format_status(result(OFF, DRAM), HostFacts())
    assert status == 'disabled: the inventory of compute-7 is left to nova-compute'


def test_a_single_pass_reports_what_it_changed() -> None:
    assert '(total 500 -> 1000, ' in messages.format_once(result(ON, DRAM), HostFacts())
    assert '(nothing to change)' in messages.format_once(result(ON, ON.inventory), HostFacts())


def test_an_overwrite_is_reported_with_its_author_and_how_to_end_it() -> None:
    mib = numa.dram_mib()
    assert mib is not None
    goal = dataclasses.replace(ON, inventory=WANTED)
    seen = result(goal, reported(total=mib, reserved=0))

    first, eighth = (messages.format_overwrite(seen, times, ()) for times in (1, 8))

    assert first.startswith(f'MEMORY_MB was overwritten: found total={mib} reserved=0')
    assert 'restored total=1048576 reserved=256' in first
    assert "Likely by nova-compute: this is the host's DRAM" in first
    assert '[libvirt]file_backed_memory = 1048576' in first
    assert '[DEFAULT]ram_allocation_ratio = 1.0' in first
    assert '[DEFAULT]reserved_host_memory_mb = 256; then restart nova-compute' in first
    assert eighth.startswith('MEMORY_MB was overwritten (overwrite 8 in this loop): found')


def test_another_size_is_not_blamed_on_either_nova_conf() -> None:
    """The edit may be the operator's, in the file that nova-compute reads."""
    goal = dataclasses.replace(ON, inventory=WANTED)
    text = messages.format_overwrite(result(goal, reported(total=4096)), 1, ())
    assert 'Likely by nova-compute: it has the form of its report, with another' in text
    assert text.endswith(
        'To end it, restart nova-compute; if it reports 4096 MiB again, it reads other files than '
        'the agent, whose [libvirt]file_backed_memory = 1048576: set the right value in both, and '
        'restart both'
    )


def test_an_inventory_written_by_hand_is_reported_as_such() -> None:
    goal = dataclasses.replace(ON, inventory=WANTED)
    by_hand = dataclasses.replace(WANTED, step_size=4)
    text = messages.format_overwrite(result(goal, by_hand), 1, ())
    assert 'Likely by an operator or a tool (nova-compute never reports these units)' in text
    assert text.endswith("To end it, find the client that writes this host's inventory")


def test_changed_traits_are_not_blamed_on_nova_conf() -> None:
    text = messages.format_overwrite(result(ON, ON.inventory, frozenset()), 1, ())
    assert text.startswith('another client changed the traits; they were restored: ')
    assert 'CUSTOM_FILE_BACKED_MEMORY not set -> set' in text
    assert 'nova.conf' not in text
    assert "nova-compute's provider.yaml ([compute]provider_config_location)" in text


def test_traits_that_nova_compute_owns_are_reported_with_the_file_that_names_them() -> None:
    """Once a file was found, there is no other cause to look for."""
    text = messages.format_overwrite(result(ON, ON.inventory, frozenset()), 2, ['/etc/a.yaml'])
    assert text == (
        'another client changed the traits (overwrite 2 in this loop); they were restored: '
        'CUSTOM_FILE_BACKED_MEMORY not set -> set, CUSTOM_FILE_BACKED_MEMORY_DISK not set -> set; '
        '/etc/a.yaml, which nova-compute reads ([compute]provider_config_location), names a trait '
        'that begins with CUSTOM_FILE_BACKED_MEMORY: nova-compute sets it again and again; '
        'remove it there, then restart nova-compute'
    )

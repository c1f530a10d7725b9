# SPDX-License-Identifier: Apache-2.0
"""The words for what a pass found."""

import dataclasses

from fbm_placement import names, plan, report
from fbm_placement.placement import Provider
from fbm_placement.plan import HostFacts, Inventory, Observation
from fbm_placement.reconcile import Outcome
from fbm_placement.settings import DISABLED, Settings

PROVIDER = Provider('26a0f7a1-0000-4000-8000-000000000000', 'compute-7', is_root=True)
ON = plan.target(Settings(1000, 0, 'kvm', 1.0), HostFacts())
OFF = plan.target(DISABLED, HostFacts())
DRAM = Inventory(
    total=500, reserved=0, min_unit=1, max_unit=500, step_size=1, allocation_ratio=1.0
)


def outcome(goal: plan.Target, seen: Observation) -> Outcome:
    """Return what a pass with this goal would have found."""
    return Outcome(goal, seen, plan.make_plan(goal, seen))


def test_the_dry_run_is_a_small_table() -> None:
    """Only what differs is in it."""
    told = report.dry_run(outcome(ON, Observation(1, DRAM, frozenset())), PROVIDER, HostFacts())
    lines = [line.split() for line in told.splitlines()]
    assert lines[0] == ['Resource', 'provider', 'compute-7', f'({PROVIDER.uuid})']
    assert lines[1] == ['field', 'is', 'should', 'be']
    assert ['total', '500', '1000'] in lines
    assert ['max_unit', '500', '1000'] in lines
    assert [names.TRAIT_ENABLED, 'not', 'set', 'set'] in lines
    assert not [line for line in lines if line[0] == 'step_size']


def test_the_dry_run_aligns_its_columns() -> None:
    """People read it."""
    told = report.dry_run(outcome(ON, Observation(1, DRAM, frozenset())), PROVIDER, HostFacts())
    header, *rows = told.splitlines()[1:]
    column = header.index('should be')
    assert all(row[column - 1] == ' ' and row[column] != ' ' for row in rows)


def test_the_dry_run_tells_that_all_is_well() -> None:
    """An empty table would leave a doubt."""
    seen = Observation(1, ON.inventory, ON.own_traits, 300, 2)
    told = report.dry_run(outcome(ON, seen), PROVIDER, HostFacts())
    assert 'As it should be' in told
    assert '1000 MiB' in told
    assert '300 MiB allocated' in told


def test_the_dry_run_tells_what_is_waited_for() -> None:
    """And what would be there."""
    told = report.dry_run(outcome(ON, Observation(1, None, frozenset())), PROVIDER, HostFacts())
    assert 'no inventory' in told
    assert 'nova-compute has not created' in told


def test_the_dry_run_tells_of_too_much_allocated() -> None:
    """It is what an operator runs before turning it on."""
    seen = Observation(1, ON.inventory, ON.own_traits, 1500, 2)
    told = report.dry_run(outcome(ON, seen), PROVIDER, HostFacts())
    assert '500 MiB more than the 1000 MiB' in told


def test_a_disabled_host_leaves_the_inventory_to_nova_compute() -> None:
    """Its status says so."""
    told = report.status(outcome(OFF, Observation(1, DRAM, frozenset())), PROVIDER, HostFacts())
    assert told == 'disabled: the inventory of compute-7 is left to nova-compute'


def test_one_pass_tells_what_it_changed() -> None:
    """Whoever ran it by hand wants to know."""
    assert 'total 500 -> 1000' in report.once(
        outcome(ON, Observation(1, DRAM, frozenset())), PROVIDER, HostFacts()
    )
    seen = Observation(1, ON.inventory, ON.own_traits)
    assert 'nothing to change' in report.once(outcome(ON, seen), PROVIDER, HostFacts())


def test_an_overwrite_of_the_inventory_names_the_likely_author() -> None:
    """With this host's DRAM it is a nova-compute that doesn't know the option."""
    mib = report.dram_mib()
    assert mib is not None
    dram = dataclasses.replace(DRAM, total=mib, max_unit=mib)
    told = report.overwrite(outcome(ON, Observation(9, dram, ON.own_traits)), times=2)
    assert "the host's DRAM" in told
    assert 'overwrite 2 of this quarrel' in told


def test_an_overwrite_of_the_traits_is_told_as_that() -> None:
    """The inventory was not touched, so nova-compute's configuration is not blamed."""
    told = report.overwrite(outcome(ON, Observation(9, ON.inventory, frozenset())), times=1)
    assert 'traits were changed by someone else' in told
    assert f'{names.TRAIT_ENABLED} not set -> set' in told
    assert 'nova.conf' not in told


def test_dram_is_what_the_kernel_tells() -> None:
    """Within what firmware and kernel keep for themselves."""
    with open('/proc/meminfo', encoding='ascii') as file:
        kib = int(file.readline().split()[1])
    mib = report.dram_mib()
    assert mib is not None
    assert abs(mib - kib // 1024) <= 1

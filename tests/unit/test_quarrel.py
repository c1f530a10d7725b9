# SPDX-License-Identifier: Apache-2.0
"""Who overwrote the inventory, and how often that is told."""

import dataclasses

import pytest

from fbm_placement import quarrel
from fbm_placement.plan import Inventory

WANTED = Inventory(
    total=1048576, reserved=0, min_unit=1, max_unit=1048576, step_size=1, allocation_ratio=1.0
)
DRAM_MIB = 65536


def report_of_nova_compute(**changes: float) -> Inventory:
    """Return an inventory of the form that nova-compute reports."""
    seen = dataclasses.replace(WANTED, **changes)
    return dataclasses.replace(seen, max_unit=seen.total)


@pytest.mark.parametrize(
    ('seen', 'likely'),
    [
        (report_of_nova_compute(total=DRAM_MIB, allocation_ratio=1.5), "the host's DRAM"),
        (report_of_nova_compute(allocation_ratio=1.5), 'another ram_allocation_ratio'),
        (report_of_nova_compute(reserved=512), 'reserved_host_memory_mb'),
        (report_of_nova_compute(total=500000), 'another [libvirt]file_backed_memory'),
        (dataclasses.replace(WANTED, max_unit=2147483647), 'by hand'),
        (dataclasses.replace(WANTED, step_size=4), 'by hand'),
        (dataclasses.replace(WANTED, min_unit=4), 'by hand'),
    ],
)
def test_the_author_is_guessed_from_the_values(seen: Inventory, likely: str) -> None:
    """nova-compute's report has a form of its own, and the total tells which nova-compute."""
    author = quarrel.likely_author(seen, WANTED, DRAM_MIB)
    assert likely in author
    assert author.startswith('nova-compute') == (likely != 'by hand')


def test_the_author_is_guessed_without_knowing_the_dram() -> None:
    """No number is taken for DRAM when the host doesn't tell it."""
    assert 'DRAM' not in quarrel.likely_author(report_of_nova_compute(total=1), WANTED, None)


def test_an_overwrite_is_told_with_what_ends_it() -> None:
    """What it was, what it is now, who, and the lines of nova.conf."""
    wanted = dataclasses.replace(WANTED, reserved=256)
    told = quarrel.describe(report_of_nova_compute(total=DRAM_MIB), wanted, 'X', times=1)
    assert 'total=65536' in told
    assert 'total=1048576' in told
    assert 'Likely by X' in told
    assert '[libvirt]file_backed_memory = 1048576' in told
    assert '[DEFAULT]ram_allocation_ratio = 1.0' in told
    assert '[DEFAULT]reserved_host_memory_mb = 256' in told
    assert 'restart nova-compute' in told
    assert 'of this quarrel' not in told
    assert 'overwrite 8 of this quarrel' in quarrel.describe(WANTED, WANTED, 'X', times=8)


def test_a_quarrel_is_told_ever_more_rarely() -> None:
    """The 1st, 2nd, 4th, 8th, ... overwrite is told; the others are only counted."""
    now = 0.0
    counted = quarrel.Quarrel(lambda: now)
    told = []
    for _ in range(20):
        times, tell = counted.count()
        if tell:
            told.append(times)
        now += 330
    assert told == [1, 2, 4, 8, 16]


def test_a_quarrel_that_was_over_begins_anew() -> None:
    """After an hour without an overwrite the next one is news again."""
    now = 0.0
    counted = quarrel.Quarrel(lambda: now)
    assert [counted.count() for _ in range(3)][-1] == (3, False)
    now = quarrel.FORGOTTEN_AFTER_SECONDS
    assert counted.count() == (4, True)
    now += quarrel.FORGOTTEN_AFTER_SECONDS + 1
    assert counted.count() == (1, True)

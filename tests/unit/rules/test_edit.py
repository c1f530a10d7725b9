# SPDX-License-Identifier: Apache-2.0
"""Which settings count after an edit of nova.conf: those that nova-compute reports."""

import dataclasses

import pytest

from fbm_placement.model import Inventory, Settings
from fbm_placement.rules.edit import goes_by_edit, reports

DRAM_MIB = 65536


def settings(capacity: int, reserved: int = 0, ratio: float | None = 1.0) -> Settings:
    return Settings(capacity, reserved, virt_type='kvm', ram_allocation_ratio=ratio)


def report(total: int, reserved: int = 0, ratio: float = 1.0) -> Inventory:
    return Inventory(total, reserved, 1, total, 1, ratio)


SMALL, LARGE, OFF, OFF_ANY = settings(512), settings(1024), settings(0), settings(0, 512, None)
AS_DRAM = settings(65536)


@pytest.mark.parametrize(
    ('going_by', 'seen', 'expected'),
    [
        (SMALL, report(512), True),
        (SMALL, report(1024), False),
        (SMALL, report(512, ratio=1.5), False),
        (SMALL, report(512, reserved=1), False),
        (settings(512, reserved=8), report(512, reserved=8), True),
        # An enabled host has the ratio 1.0, whatever the option is.
        (settings(512, ratio=None), report(512), True),
        (OFF, report(65536), True),
        (OFF, report(65536, reserved=512), False),
        (OFF, report(65536, ratio=1.5), False),
        # The DRAM has changed since.
        (OFF, report(65535), True),
        (OFF, report(32768), True),
        (OFF, report(32767), False),
        (OFF, report(131072), True),
        (OFF, report(131073), False),
        # The other settings' capacity.
        (OFF, report(60000), False),
        (settings(0, ratio=1.5), report(65536, ratio=1.5), True),
        (OFF_ANY, report(65536, reserved=512, ratio=1.5), True),
        (OFF_ANY, report(65536, reserved=512, ratio=4.0), True),
        (OFF_ANY, report(65536), False),
    ],
)
def test_what_nova_compute_reports(going_by: Settings, seen: Inventory, *, expected: bool) -> None:
    assert reports(going_by, settings(60000), seen, DRAM_MIB) is expected


@pytest.mark.parametrize('field', ['min_unit', 'max_unit', 'step_size'])
def test_an_inventory_that_nova_compute_never_reports(field: str) -> None:
    """It was written by hand."""
    for going_by, seen in ((SMALL, report(512)), (OFF, report(65536))):
        assert not reports(going_by, OFF, dataclasses.replace(seen, **{field: 2}), DRAM_MIB)


def test_without_a_known_dram_no_report_shows_a_disabled_host() -> None:
    assert not reports(OFF, LARGE, report(65536), None)
    assert reports(SMALL, OFF, report(512), None)


@pytest.mark.parametrize(
    ('edited', 'before', 'seen', 'running', 'started'),
    [
        # Another size: not before nova-compute reports it.
        (SMALL, LARGE, report(1024), False, False),
        (SMALL, LARGE, report(512), True, True),
        # Turned off, turned on.
        (OFF, LARGE, report(1024), False, False),
        (OFF, LARGE, report(65536), True, True),
        (LARGE, OFF, report(65536), False, False),
        (LARGE, OFF, report(1024), True, True),
        # The reserve alone.
        (LARGE, settings(1024, 512), report(1024, 512), False, False),
        (LARGE, settings(1024, 512), report(1024), True, True),
        # Neither: written by hand, by nova-compute between two edits, or not there yet.
        (SMALL, LARGE, report(700), False, True),
        (SMALL, LARGE, None, False, True),
        # The capacity is near the DRAM.
        (OFF, settings(60000), report(60000), False, False),
        (OFF, settings(60000), report(65000), True, True),
        (settings(60000), OFF, report(65000), False, False),
        (settings(60000), OFF, report(60000), True, True),
        # The DRAM is as large as the capacity, so turning it off changes nothing in Placement.
        (OFF, AS_DRAM, report(65536), False, True),
        (AS_DRAM, OFF, report(65536), False, True),
        # With the reserve of a disabled host it does.
        (OFF_ANY, AS_DRAM, report(65536), False, False),
        (AS_DRAM, OFF_ANY, report(65536), True, True),
    ],
)
def test_which_settings_count(
    edited: Settings, before: Settings, seen: Inventory | None, *, running: bool, started: bool
) -> None:
    """For an agent that runs, and for one that has just started."""
    assert goes_by_edit(edited, before, seen, DRAM_MIB, started=False) is running
    assert goes_by_edit(edited, before, seen, DRAM_MIB, started=True) is started

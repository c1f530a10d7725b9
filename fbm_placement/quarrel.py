# SPDX-License-Identifier: Apache-2.0
"""Somebody else overwrites the inventory: who it likely is, and what ends the quarrel."""

from collections.abc import Callable

from fbm_placement import names
from fbm_placement.plan import Inventory

BY_HAND = 'someone by hand or with a tool (nova-compute never reports these units)'

FORGOTTEN_AFTER_SECONDS = 3600.0
"""So long without an overwrite ends a quarrel; nova-compute puts its value back every 300 s."""


def likely_author(seen: Inventory, wanted: Inventory, dram_mib: int | None) -> str:
    """Guess who wrote what was seen, from the values.

    nova-compute always reports min_unit = step_size = 1 and max_unit = total
    (``LibvirtDriver.update_provider_tree`` in nova/virt/libvirt/driver.py).

    :param dram_mib: this host's DRAM, MiB, as the kernel tells it; None: unknown
    """
    if (seen.min_unit, seen.step_size, seen.max_unit) != (1, 1, seen.total):
        return BY_HAND
    if seen.total == dram_mib:
        return (
            "nova-compute: this is the host's DRAM, so it runs without "
            '[libvirt]file_backed_memory, was not restarted since, or its driver ignores it'
        )
    if seen.total == wanted.total:
        return (
            'nova-compute: it knows the total but runs with another ram_allocation_ratio or '
            'reserved_host_memory_mb; or by hand (openstack resource provider inventory set)'
        )
    return (
        'nova-compute: it has the form of its report, with another [libvirt]file_backed_memory '
        'than the agent read, so one of the two was not restarted after an edit; or it was '
        'another fbm-agent (a second one, or --once after an edit)'
    )


def describe(seen: Inventory, wanted: Inventory, author: str, times: int) -> str:
    """Tell one overwrite: what it was, what it is now, who is likely, what ends it."""
    again = how_often(times)
    return (
        f'{names.MEMORY_MB} was overwritten{again}: found {_values(seen)}, '
        f'put back {_values(wanted)}. Likely by {author}. {_end(wanted, author)}'
    )


def _end(wanted: Inventory, author: str) -> str:
    if author == BY_HAND:
        return "To end it, find who writes this host's inventory with Placement's rights"
    return (
        "To end it, nova.conf of this host's nova-compute needs [libvirt]file_backed_memory = "
        f'{wanted.total}, [DEFAULT]ram_allocation_ratio = 1.0, '
        f'[DEFAULT]reserved_host_memory_mb = {wanted.reserved}; then restart nova-compute'
    )


def how_often(times: int) -> str:
    """Return words for the times so far, none for the first."""
    return '' if times == 1 else f' (overwrite {times} of this quarrel)'


class Quarrel:
    """Counts overwrites and decides which of them are told: the 1st, 2nd, 4th, 8th, ..."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Count from zero, with the time (seconds) from ``clock``."""
        self._clock = clock
        self._times = 0
        self._last = 0.0

    def count(self) -> tuple[int, bool]:
        """Count one more overwrite; return how many there were, and whether to tell this one."""
        now = self._clock()
        if self._times and now - self._last > FORGOTTEN_AFTER_SECONDS:
            self._times = 0
        self._times += 1
        self._last = now
        return self._times, self._times.bit_count() == 1


def _values(inventory: Inventory) -> str:
    return (
        f'total={inventory.total} reserved={inventory.reserved} '
        f'max_unit={inventory.max_unit} allocation_ratio={inventory.allocation_ratio}'
    )

# SPDX-License-Identifier: Apache-2.0
"""Whether the agent goes by an edited nova.conf, which nova-compute reads only when it starts.

An agent that is ahead of nova-compute, or behind it, undoes what nova-compute reports.
"""

from fbm_placement.model import Inventory, Settings


def reports(settings: Settings, other: Settings, seen: Inventory, dram_mib: int | None) -> bool:
    """Whether nova-compute reports this inventory if it runs with these settings, not ``other``.

    While disabled it reports the host's DRAM. That of a virtual machine may have changed since, so
    half to twice as much counts too, unless it is the capacity of ``other``.

    :param dram_mib: this host's DRAM now; None: unknown
    """
    if settings.enabled:
        return seen == Inventory.reported(settings.capacity_mib, settings.reserved_mib)
    ratio = settings.ram_allocation_ratio
    if ratio is None:
        # Then nova-compute keeps the ratio that the inventory has.
        ratio = seen.allocation_ratio
    if dram_mib is None or seen != Inventory.reported(seen.total, settings.reserved_mib, ratio):
        return False
    is_near = dram_mib <= 2 * seen.total and seen.total <= 2 * dram_mib
    return seen.total == dram_mib or (is_near and seen.total != other.capacity_mib)


def goes_by_edit(
    edited: Settings,
    before: Settings,
    seen: Inventory | None,
    dram_mib: int | None,
    started: bool,
) -> bool:
    """Whether the agent goes by the edited settings, else by those from before.

    The one of them counts that nova-compute reports; if it reports neither, or the two are alike,
    an agent that has just started goes by nova.conf, and one that runs stays as it is.

    :param seen: what Placement has; None: nothing yet
    """
    new = seen is not None and reports(edited, before, seen, dram_mib)
    old = seen is not None and reports(before, edited, seen, dram_mib)
    return started if new is old else new

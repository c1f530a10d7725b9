# SPDX-License-Identifier: Apache-2.0
"""Whether the agent goes by an edited nova.conf, which nova-compute reads only when it starts.

An agent that is ahead of nova-compute, or behind it, undoes what nova-compute reports.
"""

from fbm_placement.model import Inventory, Settings


def reports(settings: Settings, seen: Inventory, dram_mib: int | None) -> bool:
    """Whether nova-compute reports this inventory if it runs with these settings.

    :param dram_mib: this host's DRAM, which it reports while disabled; None: unknown
    """
    total, ratio = dram_mib, settings.ram_allocation_ratio
    if settings.enabled:
        total, ratio = settings.capacity_mib, 1.0
    elif ratio is None:
        # Then nova-compute keeps the ratio that the inventory has.
        ratio = seen.allocation_ratio
    return total is not None and seen == Inventory.reported(total, settings.reserved_mib, ratio)


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
    new = seen is not None and reports(edited, seen, dram_mib)
    old = seen is not None and reports(before, seen, dram_mib)
    return started if new is old else new

# SPDX-License-Identifier: Apache-2.0
"""The doctor's checks of the guests, running or stopped."""

from oslo_upgradecheck.upgradecheck import Result

from fbm_placement.doctor.facts import Facts
from fbm_placement.doctor.results import failure, success, warning
from fbm_placement.host import definitions
from fbm_placement.rules import draining, restarts
from fbm_placement.text import count


def guests(facts: Facts) -> Result:
    problem = draining.problem(facts.settings.enabled, facts.guests)
    if problem is not None:
        return warning(problem.text)
    running = sum(guest.is_nova for guest in facts.guests)
    if running and not facts.settings.enabled:
        return success(
            f'{count(running, "guest", "guests")} in DRAM: after file-backed memory is turned on, '
            'this host takes nothing new until they have moved away or, where "Guest restarts" '
            'does not name them, were stopped and started'
        )
    return success(f'{count(running, "Nova guest runs", "Nova guests run")} as configured')


def guest_restarts(facts: Facts) -> Result:
    """Check whether each guest, running or stopped, starts here again, in either state."""
    enabled, defined = facts.settings.enabled, facts.definitions
    store, _ = facts.store
    on_disk = store is None or store.is_disk
    if now := restarts.obstacles(defined, enabled, on_disk):
        return failure(
            f'these guests cannot be started here again, so neither stop nor start them: {now}'
        )
    known = {definition.uuid for definition in defined}
    unknown = [str(guest) for guest in facts.guests if guest.is_nova and guest.uuid not in known]
    if unknown:
        return warning(
            f'no definition in {definitions.DIRECTORY} of these running guests: '
            f"{', '.join(unknown)}; run fbm-status where libvirtd's files are"
        )
    if then := restarts.obstacles(defined, not enabled, on_disk):
        if enabled:
            return success(f'before it is turned off: {then}')
        return warning(f'before it is turned on: {then}')
    return success(f'{count(len(defined), "guest", "guests")}, running or stopped, can restart')


def numa_cells(facts: Facts) -> Result:
    """Show what a guest with a NUMA topology or pinned CPUs has to fit into."""
    cells = ', '.join(f'cell {cell} has {mib} MiB' for cell, mib in facts.cells_mib.items())
    settings = facts.settings
    capacity = f'the capacity of {settings.capacity_mib} MiB' if settings.enabled else 'a capacity'
    named = restarts.having(restarts.Need.TOPOLOGY, facts.definitions)
    return success(
        f'{cells or "unknown"} of DRAM: this, not {capacity}, limits a guest with a NUMA topology '
        f'or pinned CPUs{f"; here {named}" if named else ""}'
    )

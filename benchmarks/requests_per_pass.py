# SPDX-License-Identifier: Apache-2.0
"""How many requests a pass costs Placement, compared with nova-compute's refresh."""

from benchmarks.hosts import placement, requests_of, settled_host
from benchmarks.measurement import Measurement
from tests.services.store import CAPACITY_MIB

NOVA = "nova-compute's refresh"


def run() -> list[Measurement]:
    """Count, by Placement's own log."""
    with placement() as server:
        compute, one_pass = settled_host(server)
        # As Nova 18 and later does, so the two agree and neither has anything to write.
        compute.knows_file_backed_memory(CAPACITY_MIB)
        compute.report(refresh=True)
        refresh = requests_of(server, lambda: compute.report(refresh=True))
        quiet = requests_of(server, one_pass)
        compute.allocate(memory_mib=8)
        busy = requests_of(server, one_pass)
    return [
        Measurement(
            'requests, quiet pass', quiet, refresh, NOVA, budget=1, budget_is_for='measured'
        ),
        # Another generation, nothing to write: the inventory, the traits, the allocations.
        Measurement(
            "requests, busy host's pass",
            busy,
            refresh,
            NOVA,
            budget=3,
            budget_is_for='measured',
        ),
    ]

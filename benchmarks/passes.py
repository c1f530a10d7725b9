# SPDX-License-Identifier: Apache-2.0
"""How long a quiet pass takes, compared with a plain GET of the URL that it asks."""

import statistics
import time
from collections.abc import Callable

import requests

from benchmarks.hosts import placement, settled_host
from benchmarks.measurement import Measurement
from fbm_placement import constants

ROUNDS = 9
IN_A_ROUND = 40
WARM_UP = 20


def run() -> list[Measurement]:
    """Take turns, so that a busy machine slows both, and compare the medians."""
    with placement() as server, requests.Session() as session:
        compute, one_pass = settled_host(server)
        url = f'{server.url}/resource_providers/{compute.uuid}/inventories'
        headers = {
            'Accept': 'application/json',
            'OpenStack-API-Version': f'placement {constants.MICROVERSION}',
            'X-Auth-Token': 'admin',
        }

        def plain_get() -> None:
            session.get(url, headers=headers, timeout=30).raise_for_status()

        for work in (one_pass, plain_get):
            _seconds(work, WARM_UP)
        passes, gets = [], []
        for _ in range(ROUNDS):
            passes.append(_seconds(one_pass, IN_A_ROUND) / IN_A_ROUND)
            gets.append(_seconds(plain_get, IN_A_ROUND) / IN_A_ROUND)
    per_pass, per_get = statistics.median(passes), statistics.median(gets)
    return [
        Measurement(
            f'time, quiet pass ({1 / per_pass:.0f}/s)',
            per_pass * 1000,
            per_get * 1000,
            f'requests.get ({1 / per_get:.0f}/s)',
            # Not in the design: what keystoneauth adds to a request, and room for noise.
            budget=1.5,
            unit='ms',
        )
    ]


def _seconds(work: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - start

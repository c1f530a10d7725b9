# SPDX-License-Identifier: Apache-2.0
"""How long a quiet pass takes, compared with a plain GET of the URL that it asks."""

import requests

from benchmarks.hosts import placement, settled_host
from benchmarks.measurement import Measurement, least_ms
from fbm_placement import constants

ROUNDS = 40


def run() -> list[Measurement]:
    """Compare the least of each."""
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

        least = least_ms({'pass': one_pass, 'get': plain_get}, ROUNDS, server.child.pid)
    return [
        Measurement(
            'time, quiet pass',
            least['pass'],
            least['get'],
            'requests.get',
            # Not in the design: what keystoneauth adds to a request.
            budget=1.75,
            unit='ms',
        )
    ]

# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Neutron: a cloud without networks, which nova-api asks about all the same.

Real would be an agent, bridges and a privileged namespace on each host, for servers that have
`networks: none`. Every collection is empty here.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer that there is nothing: {"ports": []} for /v2.0/ports."""
    collection = environ['PATH_INFO'].rstrip('/').rpartition('/')[2] or 'versions'
    body = json.dumps({collection.removesuffix('.json'): []}).encode()
    found = environ['REQUEST_METHOD'] == 'GET'
    start_response(
        '200 OK' if found else '404 Not Found',
        [('Content-Type', 'application/json'), ('Content-Length', str(len(body)))],
    )
    return [body]

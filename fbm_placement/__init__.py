# SPDX-License-Identifier: Apache-2.0
"""Reports to Placement what compute hosts with file-backed memory can hold.

``cmd/agent.py`` is where ``fbm-agent`` starts, ``agent/loop.py`` is its loop, ``rules/`` holds
every decision, and ``placement/client.py`` is how Placement is spoken to.
"""

import importlib.metadata

DISTRIBUTION = 'fbm-placement'


def version() -> str:
    """Return the version of the installed distribution."""
    return importlib.metadata.version(DISTRIBUTION)

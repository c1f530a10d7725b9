# SPDX-License-Identifier: Apache-2.0
"""Reports to Placement what compute hosts with file-backed memory can hold.

``cmd/agent.py`` is where ``fbm-agent`` starts, ``loop.py`` is its loop, ``plan.py`` holds the
rules, ``placement.py`` knows what Placement is asked, ``http.py`` sends it.
"""

import importlib.metadata

DISTRIBUTION = 'fbm-placement'


def version() -> str:
    """Return the version of the installed distribution."""
    return importlib.metadata.version(DISTRIBUTION)

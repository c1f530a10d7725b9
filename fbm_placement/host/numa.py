# SPDX-License-Identifier: Apache-2.0
"""The host's DRAM as libvirt and so Nova count it: by NUMA cell (virHostMemGetInfo)."""

import glob
import os
import re

NODES = '/sys/devices/system/node'

_TOTAL = re.compile(r'^Node (\d+) MemTotal: +(\d+) kB$', re.MULTILINE)


def cells_kib(nodes: str = NODES) -> dict[int, int]:
    """Return the DRAM of each cell in KiB; none: not known."""
    text = ''
    for path in glob.glob(os.path.join(nodes, 'node[0-9]*', 'meminfo')):
        with open(path, encoding='ascii', errors='replace') as file:
            text += file.read()
    return {int(cell): int(kib) for cell, kib in sorted(_TOTAL.findall(text))}


def dram_mib(nodes: str = NODES) -> int | None:
    """Return the host's DRAM in MiB; None: unknown."""
    try:
        if cells := cells_kib(nodes):
            return sum(cells.values()) // 1024
        # A kernel without cells.
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2**20
    except (ValueError, OSError):
        return None

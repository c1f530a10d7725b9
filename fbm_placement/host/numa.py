# SPDX-License-Identifier: Apache-2.0
"""The host's NUMA cells."""

import glob
import os
import re

NODES = '/sys/devices/system/node'

_TOTAL = re.compile(r'^Node (\d+) MemTotal: +(\d+) kB$', re.MULTILINE)


def cells_mib(nodes: str = NODES) -> dict[int, int]:
    """Return the DRAM of each cell in MiB, as libvirt and so Nova count it; none: not known."""
    text = ''
    for path in glob.glob(os.path.join(nodes, 'node[0-9]*', 'meminfo')):
        with open(path, encoding='ascii', errors='replace') as file:
            text += file.read()
    return {int(cell): int(kib) // 1024 for cell, kib in sorted(_TOTAL.findall(text))}

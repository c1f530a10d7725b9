# SPDX-License-Identifier: Apache-2.0
"""The DRAM of the host's NUMA cells."""

from fbm_placement.host.numa import cells_mib

MEMINFO = """\
Node {0} MemTotal:       {1} kB
Node {0} MemFree:         4957244 kB
Node {0} HugePages_Total:     0
"""


def test_the_memory_of_each_cell(tmp_path):
    for cell, kib in ((0, 13199564), (1, 2048), (10, 1023)):
        (tmp_path / f'node{cell}').mkdir()
        (tmp_path / f'node{cell}' / 'meminfo').write_text(MEMINFO.format(cell, kib))
    (tmp_path / 'power').mkdir()
    assert list(cells_mib(str(tmp_path)).items()) == [(0, 12890), (1, 2), (10, 0)]


def test_a_kernel_without_cells(tmp_path):
    assert cells_mib(str(tmp_path / 'node')) == {}

# SPDX-License-Identifier: Apache-2.0
"""The DRAM of the host's NUMA cells."""

from fbm_placement.host.numa import cells_kib, dram_mib

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
    assert list(cells_kib(str(tmp_path)).items()) == [(0, 13199564), (1, 2048), (10, 1023)]
    # Not the sum of whole MiB: 12890 + 2 + 0.
    assert dram_mib(str(tmp_path)) == 12893


def test_a_kernel_without_cells(tmp_path):
    assert cells_kib(str(tmp_path / 'node')) == {}
    with open('/proc/meminfo', encoding='ascii') as file:
        kib = int(file.readline().split()[1])
    assert abs((dram_mib(str(tmp_path / 'node')) or 0) - kib // 1024) <= 1

# SPDX-License-Identifier: Apache-2.0
"""How long fbm-status guests scans a host full of guests, relative to reading their mappings."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measurement import Measurement, least_ms
from fbm_placement.guests import report
from fbm_placement.host import processes

GUESTS = 200
LIBRARIES = 250
"""Lines of maps that a QEMU of a distribution has in addition to its memory."""
ROUNDS = 8
BUDGET = 10
"""Times the reading. Not in the design: a fifth of a second, which is no hang to an operator."""


def run() -> list[Measurement]:
    """Compare the least of each."""
    with tempfile.TemporaryDirectory() as directory:
        proc = Path(directory)
        for pid in range(1, GUESTS + 1):
            _guest(proc, pid)
        maps = [proc / str(pid) / 'maps' for pid in range(1, GUESTS + 1)]

        def scan() -> None:
            guests = processes.running_guests('instance-%08x', str(proc))
            seen = report.scan_guests(guests, str(proc))
            if len(seen) != GUESTS or not all(one.files for one in seen):
                raise RuntimeError(f'not all of the {GUESTS} guests were seen')

        least = least_ms({'scan': scan, 'read': lambda: _split(maps)}, ROUNDS)
    return [
        Measurement(
            f'time, fbm-status guests with {GUESTS} guests',
            least['scan'],
            least['read'],
            'splitting each line of maps',
            budget=BUDGET,
            unit='ms',
        )
    ]


def _guest(proc: Path, pid: int) -> None:
    """Write what the kernel shows of a QEMU."""
    directory = proc / str(pid)
    directory.mkdir()
    ram_file = f'/var/lib/libvirt/qemu/ram/libvirt/qemu/{pid}-instance-{pid:08x}/pc.ram'
    arguments = (
        'qemu-system-x86_64',
        *('-name', f'guest=instance-{pid:08x},debug-threads=on'),
        *('-uuid', f'00000000-0000-4000-8000-{pid:012x}'),
        *('-machine', 'pc,memory-backend=pc.ram', '-m', 'size=1048576k'),
        *('-object', f'memory-backend-file,id=pc.ram,mem-path={ram_file},share=on'),
        *('-smbios', 'type=1,family=Virtual Machine'),
    )
    (directory / 'cmdline').write_text('\0'.join(arguments) + '\0', encoding='utf-8')
    (directory / 'mountinfo').write_text('', encoding='utf-8')
    lines = [_line(number, f'/usr/lib/lib{number}.so', 0x1000) for number in range(LIBRARIES)]
    lines.append(_line(LIBRARIES, ram_file, 2**30))
    (directory / 'maps').write_text(''.join(lines), encoding='utf-8')


def _line(number: int, path: str, size: int) -> str:
    start = 0x7F0000000000 + number * 0x1000
    mapping = f'{start:x}-{start + size:x} rw-s 00000000 08:01 {number + 100}'
    return f'{mapping:<73}{path}\n'


def _split(maps: Iterable[Path]) -> None:
    for path in maps:
        with path.open(encoding='utf-8') as file:
            for line in file:
                line.split(maxsplit=5)

# SPDX-License-Identifier: Apache-2.0
"""What is measured: how long things take, and a line of the table."""

import gc
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

PRECISION = 0.01
"""A change of less is none."""
TURN = 0.02
"""Seconds of the processor, at least: at first a work finds the caches full of another's data."""
MOST_SECONDS = 60


def least_ms(
    works: Mapping[str, Callable[[], object]], rounds: int, server: int | None = None
) -> dict[str, float]:
    """Return the least time of the processor that each took, in milliseconds.

    None of the works waits for anything else, so this is how long they take on an idle machine,
    measured on a busy one too. They take turns until that many rounds have changed nothing. The
    garbage collector waits, as in :mod:`timeit`.

    :param server: the pid of what works for this process
    """
    least = dict.fromkeys(works, float('inf'))
    unchanged = 0
    deadline = time.monotonic() + MOST_SECONDS
    gc.collect()
    gc.disable()
    try:
        while unchanged < rounds and time.monotonic() < deadline:
            unchanged += 1
            for name, work in works.items():
                took = _turn(work, server)
                if took < least[name] * (1 - PRECISION):
                    unchanged = 0
                least[name] = min(least[name], took)
    finally:
        gc.enable()
    return least


def _turn(work: Callable[[], object], server: int | None) -> float:
    least, left = float('inf'), TURN
    while left > 0:
        begun = _processor_seconds(server)
        work()
        took = _processor_seconds(server) - begun
        least, left = min(least, took * 1000), left - took
    return least


def _processor_seconds(server: int | None) -> float:
    """Return what was used by this process, by its children that have ended, and by the server."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    # clock_getcpuclockid(3), which Python does not have.
    of_server = time.clock_gettime(~server << 3 | 2) if server else 0.0
    return time.process_time() + children.ru_utime + children.ru_stime + of_server


@dataclass(frozen=True)
class Measurement:
    """What something costs, beside something else that was measured in the same run.

    Costs are said so that less is better.
    """

    what: str
    measured: float
    beside: float
    beside_what: str
    budget: float
    unit: str = ''
    budget_is_for: Literal['measured', 'ratio'] = 'ratio'

    @property
    def ratio(self) -> float:
        """How many times the other it is."""
        return self.measured / self.beside

    @property
    def kept(self) -> bool:
        """Whether it stays within its budget."""
        return (self.ratio if self.budget_is_for == 'ratio' else self.measured) <= self.budget

    def cells(self) -> tuple[str, ...]:
        """Return its texts, one for each of COLUMNS."""
        return (
            self.what,
            f'<= {self.budget:g}' + (' x' if self.budget_is_for == 'ratio' else ''),
            _number(self.measured, self.unit),
            f'{_number(self.beside, self.unit)} {self.beside_what}',
            f'{self.ratio:.2f} x',
            'pass' if self.kept else 'FAIL',
        )


COLUMNS = ('what', 'budget', 'measured', 'beside', 'ratio', 'result')


def table(measurements: Sequence[Measurement]) -> str:
    """Lay the measurements out."""
    rows = [COLUMNS, *(measurement.cells() for measurement in measurements)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    rows.insert(1, tuple('-' * width for width in widths))
    return '\n'.join(
        '  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _number(value: float, unit: str) -> str:
    return f'{value:g}' if not unit else f'{value:.1f} {unit}'

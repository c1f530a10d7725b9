# SPDX-License-Identifier: Apache-2.0
"""One line of the table, and how it is printed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


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

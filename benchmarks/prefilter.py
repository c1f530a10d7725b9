# SPDX-License-Identifier: Apache-2.0
"""What the pre-filter asks of database and Placement, against Nova's whole scheduling."""

import logging
import unittest

from benchmarks.measurement import Measurement
from tests.functional.nova import costs

_measured: dict[str, tuple[costs.Cost, costs.Cost]] = {}
# Not in the test case: Nova empties it when it is over.


class _Case(costs.CostsTestCase):
    def runTest(self) -> None:  # noqa: N802
        _measured.update(self.measured())


def run() -> list[Measurement]:
    """Count on a cloud of two hosts, the whole of Nova in this process."""
    result = unittest.TestResult()
    logging.disable(logging.INFO)
    try:
        _Case('runTest').run(result)
    finally:
        logging.disable(logging.NOTSET)
    for _, failure in result.errors + result.failures:
        raise RuntimeError(failure)
    measurements = []
    for name, budgets in costs.BUDGETS.items():
        ours, whole = _measured[name]
        counts = zip(('queries', 'requests'), ours.counts, whole.counts, budgets, strict=True)
        measurements += [
            Measurement(
                f'pre-filter, {what}, {name}',
                measured,
                other,
                "Nova's scheduling",
                budget=budget,
                budget_is_for='measured',
            )
            for what, measured, other, budget in counts
        ]
    return measurements

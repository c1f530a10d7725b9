# SPDX-License-Identifier: Apache-2.0
"""What the pre-filter costs: a boot nothing, once the traits are known to exist."""

from tests.functional.nova import costs


class PreFilterCostsTest(costs.CostsTestCase):
    """The budgets of the design, counted."""

    def test_costs(self):
        """Queries and requests, by what was asked for."""
        found = {name: ours.counts for name, (ours, _) in self.measured().items()}
        self.assertEqual({'first boot': (0, 0), **costs.BUDGETS}, found)

# SPDX-License-Identifier: Apache-2.0
"""What this project costs, beside the budgets of its design: ``python -m benchmarks``.

One module per benchmark. It has ``run()``, which measures and returns Measurements, and a line in
``BENCHMARKS`` of ``__main__.py``.
"""

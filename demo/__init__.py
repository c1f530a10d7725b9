# SPDX-License-Identifier: Apache-2.0
"""A guided tour: ``make demo``, or ``python -m demo`` where everything is installed."""

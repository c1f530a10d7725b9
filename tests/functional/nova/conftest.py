# SPDX-License-Identifier: Apache-2.0
"""Must be the first thing that imports anything of Nova."""

from tests.functional.nova import harness  # noqa: F401

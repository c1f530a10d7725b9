# SPDX-License-Identifier: Apache-2.0
"""The hook's program."""

import pytest

from tests import hook_lab


@pytest.fixture(scope='session')
def program():
    """The .py as a module."""
    return hook_lab.load()

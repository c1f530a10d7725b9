# SPDX-License-Identifier: Apache-2.0
"""Lets Nova's own functional test classes run under pytest from the wheel.

A pytest plugin (``-p nova_harness``) or the import of a conftest: it must be the first thing
that imports anything of Nova. Nothing here changes Nova's behaviour, only that of its fixtures.
"""

import os
import pathlib
import sys
import warnings

# 34 decides at import time whether eventlet patches the world; threads are what 34's scheduler runs.
# 29 to 31 know this name too, but only work patched, so there the caller unsets it.
os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', '1')
if os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING'] == '0':
    del os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING']

import nova.tests.functional  # noqa: F401  (this import patches, or forbids to)
from nova import test
from nova.conf import paths
from nova.tests import fixtures as nova_fixtures

_ETC = pathlib.Path(sys.prefix, 'etc', 'nova')


def _packaged_files():
    """Point the fixtures at the wheel's etc/nova; options were registered before and stay."""
    original = paths.state_path_def

    def state_path_def(*args):
        name = pathlib.PurePosixPath(*args)
        if name.parts[:2] == ('etc', 'nova'):
            return str(_ETC.joinpath(*name.parts[2:]))
        return original(*args)

    paths.state_path_def = state_path_def


def _tolerate_new_sqlalchemy():
    """WarningsFixture makes every SADeprecationWarning an error; 2.1 has one that Nova causes."""
    from sqlalchemy import exc

    original = nova_fixtures.WarningsFixture.setUp

    def setUp(self):
        original(self)
        warnings.filterwarnings('ignore', message='.*noload.*', category=exc.SADeprecationWarning)

    nova_fixtures.WarningsFixture.setUp = setUp


def _keep_what_pytest_needs():
    """Nova clears the instance's attributes at the end; pytest deletes the one it had set after that."""
    original = test.TestCase._clear_attrs

    def _clear_attrs(self):
        kept = {name: value for name, value in vars(self).items() if name == self._testMethodName}
        original(self)
        vars(self).update(kept)

    test.TestCase._clear_attrs = _clear_attrs


_packaged_files()
_tolerate_new_sqlalchemy()
_keep_what_pytest_needs()

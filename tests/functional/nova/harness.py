# SPDX-License-Identifier: Apache-2.0
"""Lets Nova's own functional test classes run under pytest from the wheel.

It must be the first thing that imports anything of Nova: from a conftest, or as a pytest plugin
(``-p tests.functional.nova.harness``). Nova itself behaves as ever; only its fixtures change.
"""

import importlib.metadata
import os
import pathlib
import sys
import warnings

NOVA_RELEASE = tuple(int(part) for part in importlib.metadata.version('nova').split('.')[:2])

# The import below decides whether eventlet patches the world. 34's services run on threads; the
# releases before it know the switch, but hang or fail unpatched.
if NOVA_RELEASE >= (34,):
    os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', '1')

import nova.tests.functional  # noqa: E402, F401  (this import patches, or forbids to)
from nova import test  # noqa: E402
from nova.conf import paths  # noqa: E402
from nova.tests import fixtures as nova_fixtures  # noqa: E402

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
    """Nova clears a test's attributes at its end; pytest then deletes one that it had set."""
    original = test.TestCase._clear_attrs

    def _clear_attrs(self):
        kept = {name: value for name, value in vars(self).items() if name == self._testMethodName}
        original(self)
        vars(self).update(kept)

    test.TestCase._clear_attrs = _clear_attrs


_packaged_files()
_tolerate_new_sqlalchemy()
_keep_what_pytest_needs()

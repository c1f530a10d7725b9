# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: whatever of Nova's own functional tests run, our filter is enabled in them.

``python -m pytest -p tests.nova_own.plugin --pyargs nova.tests.functional.MODULE``

The run fails if the pre-filter never restricted a request: a plugin that did nothing would show
nothing. The counts are this process's own, so without pytest-xdist.
"""

import collections

from tests.functional.nova import harness  # noqa: F401  (the first that imports Nova)

# isort: split
import pytest
from nova import exception
from nova.scheduler import host_manager
from nova.tests import fixtures as nova_fixtures

from fbm_filters import host_filter, prefilter

CLASS = 'fbm_filters.FileBackedMemoryFilter'
NAME = CLASS.rpartition('.')[2]

counts: collections.Counter[str] = collections.Counter()


def _make_available():
    """As an operator does, but by the default: a test may still set its own value."""
    original = nova_fixtures.ConfFixture.setUp

    def setUp(self):
        original(self)
        available = ['nova.scheduler.filters.all_filters', CLASS]
        self.conf.set_default('available_filters', available, group='filter_scheduler')

    nova_fixtures.ConfFixture.setUp = setUp


def _enable():
    """Many tests list the enabled filters themselves, so no default would do here."""
    original = host_manager.HostManager._load_filters

    def _load_filters(self):
        enabled = list(original(self))
        counts['schedulers'] += 1
        return enabled if NAME in enabled else [*enabled, NAME]

    host_manager.HostManager._load_filters = _load_filters


def _count_filter():
    original = host_filter.FileBackedMemoryFilter.filter_all

    def filter_all(self, hosts, spec):
        counts['filtered'] += 1
        return original(self, hosts, spec)

    host_filter.FileBackedMemoryFilter.filter_all = filter_all


def _count_prefilter():
    original = prefilter.PreFilter.__call__

    def counted(self, context, spec):
        try:
            restricted = original(self, context, spec)
        except exception.RequestFilterFailed:
            counts['refused'] += 1
            raise
        counts['restricted' if restricted else 'left alone'] += 1
        return restricted

    prefilter.PreFilter.__call__ = counted


def _end_threads():
    """A filter's thread reads from Placement as long as its process lives: here, a test."""
    original = host_filter.FileBackedMemoryFilter.__init__
    earlier = []

    def started(self, *args):
        original(self, *args)
        while earlier:
            earlier.pop().cache.close()
        earlier.append(self)

    host_filter.FileBackedMemoryFilter.__init__ = started


_make_available()
_enable()
_end_threads()
_count_filter()
_count_prefilter()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Tests that passed without the pre-filter prove nothing about it."""
    if exitstatus == pytest.ExitCode.OK and not counts['restricted']:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(
        f'{NAME}: loaded by {counts["schedulers"]} schedulers, filtered {counts["filtered"]} '
        f'lists of hosts; the pre-filter restricted {counts["restricted"]} requests, '
        f'refused {counts["refused"]}, left {counts["left alone"]} alone'
    )
    if not counts['restricted']:
        terminalreporter.write_line(f'FAILED: the pre-filter of {NAME} was never in use', red=True)

# SPDX-License-Identifier: Apache-2.0
"""Counts what the pre-filter costs database and Placement, against Nova's whole scheduling."""

import contextlib
import dataclasses
import functools
import threading
import time

import fixtures
from nova.scheduler import manager
from nova.scheduler.client import report
from sqlalchemy import event
from sqlalchemy.engine import Engine

from fbm_filters.cache import Cache
from fbm_filters.host_filter import FileBackedMemoryFilter
from fbm_filters.prefilter import PreFilter
from tests.functional.nova import cloud

BUDGETS = {
    'boot': (0, 0),
    'boot to a named host': (0, 0),
    'live migration': (2, 1),
    'live migration to a named host': (3, 2),
    'cold migration': (1, 0),
}
"""Queries and requests of the pre-filter, by what is asked for."""


@dataclasses.dataclass
class Cost:
    queries: list[str] = dataclasses.field(default_factory=list)
    requests: list[str] = dataclasses.field(default_factory=list)

    @property
    def counts(self):
        return len(self.queries), len(self.requests)


class Counter(fixtures.Fixture):
    """Notes queries and requests of each call of the functions that it wraps."""

    def _setUp(self):
        self.sent = []
        """Every request that Nova sends, in whatever thread: a method and a path."""
        self._here = threading.local()
        for method in ('get', 'put', 'post', 'delete'):
            self._wrap(report.SchedulerReportClient, method, self._noting_request)
        event.listen(Engine, 'before_cursor_execute', self._note_query)
        self.addCleanup(event.remove, Engine, 'before_cursor_execute', self._note_query)

    def costs_of(self, owner, method):
        costs = []

        def counting(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                cost = Cost()
                costs.append(cost)
                with self._noting(self._open() | {id(cost): cost}):
                    return function(*args, **kwargs)

            return wrapper

        self._wrap(owner, method, counting)
        return costs

    def _wrap(self, owner, method, wrapping):
        wrapped = wrapping(getattr(owner, method))
        self.useFixture(fixtures.MockPatchObject(owner, method, wrapped))

    def _open(self):
        return getattr(self._here, 'open', {})

    @contextlib.contextmanager
    def _noting(self, costs):
        before, self._here.open = self._open(), costs
        try:
            yield
        finally:
            self._here.open = before

    def _noting_request(self, function):
        @functools.wraps(function)
        def wrapper(client, url, *args, **kwargs):
            request = f'{function.__name__} {url}'
            self.sent.append(request)
            for cost in self._open().values():
                cost.requests.append(request)
            with self._noting({}):  # Placement is in this thread too, with queries of its own
                return function(client, url, *args, **kwargs)

        return wrapper

    def _note_query(self, _connection, _cursor, statement, *_):
        if statement.split()[0] != 'BEGIN':
            for cost in self._open().values():
                cost.queries.append(' '.join(statement.split()))


class Spent(fixtures.Fixture):
    """Measures the seconds in this project's code, and in Nova's whole scheduling around it.

    Those of the processor, so that other threads do not count, and in addition those for which a
    request waits until something is known of Placement.
    """

    def _setUp(self):
        self.ours = self.whole = 0.0
        self.calls = 0
        self._lock = threading.Lock()
        for owner, method, clock, note in (
            (PreFilter, '__call__', time.thread_time, self._note_ours),
            (FileBackedMemoryFilter, 'filter_all', time.thread_time, self._note_ours),
            (Cache, 'get', time.monotonic, self._note_ours),
            (manager.SchedulerManager, 'select_destinations', time.thread_time, self._note_whole),
        ):
            timed = self._timed(getattr(owner, method), clock, note)
            self.useFixture(fixtures.MockPatchObject(owner, method, timed))

    def _timed(self, function, clock, note):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            begun = clock()
            try:
                return function(*args, **kwargs)
            finally:
                spent = clock() - begun
                with self._lock:
                    note(spent)

        return wrapper

    def _note_ours(self, seconds):
        self.ours += seconds

    def _note_whole(self, seconds):
        self.whole += seconds
        self.calls += 1


class CostsTestCase(cloud.CloudTestCase):
    def measured(self):
        """Return (the pre-filter's Cost, that of the whole scheduling) by what was asked for."""
        self.start('disk', 'tmpfs')
        counter = self.useFixture(Counter())
        ours = counter.costs_of(PreFilter, '__call__')
        whole = counter.costs_of(manager.SchedulerManager, 'select_destinations')
        found = {}

        def note(name):
            [mine], [all_of_it] = ours, whole
            found[name] = mine, all_of_it
            ours.clear()
            whole.clear()

        self._delete_server(self.guest('plain'))
        note('first boot')
        self._delete_server(self.guest('plain'))
        note('boot')
        server = self.guest('plain', host='disk')
        note('boot to a named host')
        self.live_migrate(server)
        note('live migration')
        self.live_migrate(server, 'disk')
        note('live migration to a named host')
        self._migrate_server(server)
        note('cold migration')
        return found

# SPDX-License-Identifier: Apache-2.0
"""The rules and the options are tested everywhere, the rest where Nova is (tox -e nova34)."""

import importlib.util
import types
from pathlib import Path

import pytest

from tests.unit.filters.fake_client import FakeClient

WITHOUT_NOVA = {'test_policy.py', 'test_rules.py'}

collect_ignore = (
    []
    if importlib.util.find_spec('nova')
    else sorted({path.name for path in Path(__file__).parent.glob('test_*.py')} - WITHOUT_NOVA)
)


@pytest.fixture
def client(monkeypatch):
    """Return a stand-in for Nova's client, with one provider of each kind."""
    fake = FakeClient()
    fake.providers = {
        'plain': {'COMPUTE_NODE'},
        'tmpfs': {'CUSTOM_FILE_BACKED_MEMORY'},
        'disk': {'CUSTOM_FILE_BACKED_MEMORY', 'CUSTOM_FILE_BACKED_MEMORY_DISK'},
        'sick': {
            'CUSTOM_FILE_BACKED_MEMORY',
            'CUSTOM_FILE_BACKED_MEMORY_DISK',
            'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY',
        },
    }
    monkeypatch.setattr('nova.scheduler.client.report.report_client_singleton', lambda: fake)
    return fake


@pytest.fixture
def clock():
    """Return a clock that a test sets: ``clock.now``."""

    class Clock(types.SimpleNamespace):
        def __call__(self):
            return self.now

    return Clock(now=0.0)


@pytest.fixture
def nova_list():
    """Return Nova's list of pre-filters, and restore it."""
    found = importlib.import_module('nova.scheduler.request_filter').ALL_REQUEST_FILTERS
    before = list(found)
    yield found
    found[:] = before

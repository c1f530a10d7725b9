# SPDX-License-Identifier: Apache-2.0
"""The rules and the options are tested everywhere, the rest where Nova is (tox -e nova34)."""

import importlib.util
import types
from pathlib import Path

import pytest
from keystoneauth1 import adapter, token_endpoint
from keystoneauth1 import session as ksa_session

from tests.unit import fake_placement

WITHOUT_NOVA = {'test_policy.py', 'test_rules.py'}

collect_ignore = (
    []
    if importlib.util.find_spec('nova')
    else sorted({path.name for path in Path(__file__).parent.glob('test_*.py')} - WITHOUT_NOVA)
)


@pytest.fixture
def placement(placement, monkeypatch):
    """Return a Placement in memory behind Nova's own client, with a provider of each kind.

    Their UUIDs are their names.
    """
    report = importlib.import_module('nova.scheduler.client.report')
    session = ksa_session.Session(auth=token_endpoint.Token(fake_placement.URL, 'token'))
    client = report.SchedulerReportClient(adapter.Adapter(session, 'placement', raise_exc=False))
    ours = importlib.import_module('fbm_filters.placement')
    monkeypatch.setattr(ours, 'connection', lambda _process: client)
    enabled, disk, unhealthy = traits = (
        'CUSTOM_FILE_BACKED_MEMORY',
        'CUSTOM_FILE_BACKED_MEMORY_DISK',
        'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY',
    )
    placement.traits.update(traits)
    placement.providers = {
        name: fake_placement.Provider(name, name, traits=own)
        for name, own in {
            'plain': ['COMPUTE_NODE'],
            'tmpfs': [enabled],
            'disk': [enabled, disk],
            'sick': [enabled, disk, unhealthy],
        }.items()
    }
    return placement


@pytest.fixture
def clock():
    class Clock(types.SimpleNamespace):
        def __call__(self):
            return self.now

    return Clock(now=0.0)


@pytest.fixture
def nova_list():
    found = importlib.import_module('nova.scheduler.request_filter').ALL_REQUEST_FILTERS
    before = list(found)
    yield found
    found[:] = before

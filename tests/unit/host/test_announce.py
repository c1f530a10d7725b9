# SPDX-License-Identifier: Apache-2.0
"""What of a look is told, and how often."""

import logging
import os

import pytest

from fbm_placement.host import state_file
from fbm_placement.host.announce import StatePublisher
from fbm_placement.host.look import HostView
from fbm_placement.host.mounts import Mount
from fbm_placement.host.store import Store
from fbm_placement.model import Problem
from fbm_placement.plan import HostFacts
from fbm_placement.settings import AgentOptions, Settings

ON = Settings(capacity_mib=1000, reserved_mib=0, virt_type='kvm', ram_allocation_ratio=1.0)
OPTIONS = AgentOptions(resource_provider=None, interval=60, hook_mode='warn')


def view(*unhealthy, store=None, draining_uuids=()):
    problems = tuple(Problem(text, text) for text in unhealthy)
    return HostView(HostFacts(unhealthy=problems), store, draining_uuids)


@pytest.fixture
def tell(caplog):
    """Announce a look; return what it made the agent log."""
    caplog.set_level(logging.INFO, logger='fbm_placement')
    publisher = StatePublisher()

    def tell(one):
        caplog.clear()
        publisher.publish(one, ON, OPTIONS)
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return tell


def test_a_reason_is_told_when_it_is_new_and_its_end_once(tell):
    """Its numbers change at each look; that is no news."""
    assert tell(view()) == []
    told = tell(view('12 MiB are free'))
    assert told == [('ERROR', 'This host takes no new instance: 12 MiB are free')]
    assert tell(view('11 MiB are free')) == []
    told = tell(view('10 MiB are free', 'not mounted'))
    assert told == [('ERROR', 'This host takes no new instance: not mounted')]
    assert tell(view()) == [('INFO', 'This host takes new instances again')]
    assert tell(view()) == []


def test_the_state_file_is_written_at_each_look(tell):
    store = Store('/srv/fbm', mount=Mount('/srv/fbm', 'xfs', 'dev'))
    tell(view('full', store=store, draining_uuids=('b1',)))
    state = state_file.read(state_file.path(), state_file.uptime())
    assert (state.configured, state.hook_mode) == ('enabled', 'warn')
    assert (state.may_restart, state.unhealthy) == (('b1',), ('full',))
    assert state.store == state_file.StoreState('/srv/fbm', '/srv/fbm', 'xfs')
    left = state.valid_until_uptime - state_file.uptime()
    assert 3 * 60 < left < 10 * 60


def test_where_the_store_should_be_is_told_also_where_it_is_not(tell):
    store = Store('/srv/fbm', mount=Mount('/', 'ext4', 'dev'), expected_mount='/srv/fbm')
    tell(view(store=store))
    state = state_file.read(state_file.path(), 0)
    assert state.store.mount_point == '/srv/fbm'
    tell(view(store=Store('/srv/fbm', mount=Mount('/', 'ext4', 'dev'))))
    assert state_file.read(state_file.path(), 0).store.mount_point is None


def test_a_state_file_that_cannot_be_written_is_told_once(tell, monkeypatch, tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('')
    monkeypatch.setenv('RUNTIME_DIRECTORY', str(blocked))
    ((level, message),) = tell(view())
    assert level == 'WARNING'
    assert "without it libvirt's hook has no opinion" in message
    assert tell(view()) == []


def test_uninstalling_takes_it_away(tell):
    tell(view())
    StatePublisher().clear()
    assert not os.path.exists(state_file.path())

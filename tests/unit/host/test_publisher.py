# SPDX-License-Identifier: Apache-2.0
"""What of a check is logged, how often, and what is written."""

import logging
import os
import time

import pytest

from fbm_placement.host import state_file
from fbm_placement.host.observer import HostView
from fbm_placement.host.publisher import StatePublisher
from fbm_placement.model import AgentOptions, HostFacts, Mount, Problem, Settings, Store
from fbm_placement.notices import Notices

ON = Settings(capacity_mib=1000, reserved_mib=0, virt_type='kvm', ram_allocation_ratio=1.0)
OPTIONS = AgentOptions(resource_provider=None, interval=60, hook_mode='warn')


def view(*problems, **fields):
    return HostView(HostFacts(unhealthy=problems), **fields)


@pytest.fixture
def publisher():
    return StatePublisher(Notices(time.monotonic))


@pytest.fixture
def logged(caplog, publisher):
    caplog.set_level(logging.INFO, logger='fbm_placement')

    def publish(one):
        caplog.clear()
        publisher.publish(one, ON, OPTIONS)
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return publish


def test_a_problem_is_logged_when_it_is_new_and_its_end_once(logged):
    """Its numbers change at each check, and its text as guests leave."""
    assert logged(view()) == []
    assert logged(view(Problem('too-small', '12 MiB are free'))) == [
        ('ERROR', 'This host takes no new instance: 12 MiB are free')
    ]
    assert logged(view(Problem('too-small', '11 MiB are free'))) == []
    both = (Problem('too-small', '10 MiB are free'), Problem('not-mounted', 'not mounted'))
    assert logged(view(*both)) == [('ERROR', 'This host takes no new instance: not mounted')]
    assert logged(view(Problem('store', 'recovering: 1 of 3', recovering=True))) == [
        ('INFO', 'This host takes no new instance: recovering: 1 of 3')
    ]
    assert logged(view(Problem('store', 'recovering: 2 of 3', recovering=True))) == []
    assert logged(view()) == [('INFO', 'This host takes new instances again')]
    assert logged(view()) == []


def test_a_planned_drain_is_a_warning_once(logged):
    """Not again for each guest that leaves."""
    draining = [view(Problem('draining', f'draining: {left} guests')) for left in (3, 2, 1)]
    recovering = view(Problem('draining', 'recovering: 1 of 2', recovering=True))
    assert [logged(one) for one in (*draining, recovering, view())] == [
        [('WARNING', 'This host takes no new instance: draining: 3 guests')],
        [],
        [],
        [('INFO', 'This host takes no new instance: recovering: 1 of 2')],
        [('INFO', 'This host takes new instances again')],
    ]


def test_a_warning_is_logged_when_it_is_new(logged):
    warnings = ('hidden', 'hidden', None, 'hidden')
    assert [len(logged(view(warning=text))) for text in warnings] == [1, 0, 0, 1]
    assert logged(view(warning='other')) == [('WARNING', 'other')]


def test_the_state_file_is_written_at_each_check(logged):
    store = Store('/srv/fbm', mount=Mount('/', 'ext4', 'dev'), expected_mount='/srv/fbm')
    logged(view(Problem('too-small', 'full'), store=store, draining_uuids=('b1',)))
    state = state_file.read(state_file.path(), state_file.uptime())
    assert (state.configured, state.hook_mode) == ('enabled', 'warn')
    assert (state.capacity_mib, state.reserved_mib) == (1000, 0)
    assert (state.may_restart, state.unhealthy) == (('b1',), ('full',))
    assert state.store == state_file.StoreState('/srv/fbm', '/srv/fbm', 'ext4')
    left = state.valid_until_uptime - state_file.uptime()
    assert 3 * 60 < left < 10 * 60
    logged(view())
    assert state_file.read(state_file.path(), 0).unhealthy == ()


def test_a_state_file_that_cannot_be_written_is_logged_once(
    logged, publisher, monkeypatch, tmp_path
):
    blocked = tmp_path / 'file'
    blocked.write_text('')
    monkeypatch.setenv('RUNTIME_DIRECTORY', str(blocked))
    message = (
        f"{blocked}/host.json is not written: File exists; libvirt's hook will soon not enforce: "
        'run the agent as its unit does or as root, and check the filesystem '
        f'(findmnt -T {blocked}, df)'
    )
    assert logged(view()) == [('WARNING', message)]
    assert logged(view()) == []
    assert publisher.error == message
    blocked.unlink()
    assert logged(view()) == [('INFO', f'{blocked}/host.json is written again')]
    assert publisher.error is None


def test_clear_removes_the_state_file(logged, publisher):
    logged(view())
    publisher.clear()
    assert not os.path.exists(state_file.path())
    publisher.clear()

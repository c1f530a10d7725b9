# SPDX-License-Identifier: Apache-2.0
"""The state file: what is in it, and when nobody should believe it."""

import json
import os
import stat
from dataclasses import replace

import pytest

from fbm_placement import errors
from fbm_placement.host import state_file
from fbm_placement.host.state_file import HostState, Recovery, StoreState

STATE = HostState(
    written_by='fbm-agent 1.0',
    host='cmp1',
    looked_at='2026-11-22T20:44:00+00:00',
    valid_until_uptime=1000,
    hook_mode='enforce',
    configured='enabled',
    may_restart=('b1',),
    unhealthy=('a "reason"',),
    store=StoreState('/srv/fbm', '/srv/fbm', 'xfs'),
    pid=7,
    store_recovery=Recovery('full', 2),
)


WRITTEN = json.loads(state_file.render(STATE))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'run' / 'host.json')


@pytest.mark.parametrize('state', [STATE, replace(STATE, store=None, may_restart=())])
def test_what_is_written_can_be_read(path, state):
    state_file.write(state, path)
    assert state_file.read(path, now_uptime=1000) == state


def test_each_key_begins_a_line(path):
    """The hook's shell part reads line by line."""
    state_file.write(STATE, path)
    with open(path, encoding='utf-8') as file:
        lines = file.read().splitlines()
    keys = ['version', *(field for field in STATE.__dataclass_fields__)]
    begins = [line for line in lines if line.startswith(' "')]
    assert [line.split('"')[1] for line in begins] == keys
    assert lines[1] == ' "version": 1,'
    assert ' "configured": "enabled",' in lines


def test_it_can_be_read_by_all_and_replaces_the_old_one_at_once(path, monkeypatch):
    state_file.write(STATE, path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644

    def broken(source, target):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(state_file.os, 'replace', broken)
    with pytest.raises(OSError, match='No space'):
        state_file.write(replace(STATE, configured='disabled'), path)
    assert state_file.read(path, 0) == STATE
    assert os.listdir(os.path.dirname(path)) == ['host.json']


def test_a_stale_one_is_not_believed(path):
    state_file.write(STATE, path)
    with pytest.raises(errors.HostError, match='stale, the last look was at 2026-11-22T20:44'):
        state_file.read(path, now_uptime=1000.5)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({'version': 2}, 'is of version 2, this is for 1'),
        ([], 'is of version None'),
        ({'version': 1}, 'not what fbm-agent writes: restart fbm-agent'),
        ({**WRITTEN, 'valid_until_uptime': 'x'}, 'not what fbm-agent writes'),
        ({**WRITTEN, 'unhealthy': [1]}, 'not what fbm-agent writes'),
        ({**WRITTEN, 'store': {'path': '/s'}}, 'not what fbm-agent writes'),
        ({'version': 1, 'store': None, 'may_restart': [], 'unhealthy': [], 'x': 1}, 'restart'),
        ('{"version": 1', 'restart fbm-agent'),
    ],
)
def test_one_that_is_not_ours_is_not_believed(path, content, words):
    os.makedirs(os.path.dirname(path))
    with open(path, 'w', encoding='utf-8') as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(errors.HostError, match=words):
        state_file.read(path, 0)


def test_none_is_told(path):
    with pytest.raises(errors.HostError, match='is fbm-agent running on this host'):
        state_file.read(path, 0)


def test_it_can_be_taken_away_twice(path):
    state_file.write(STATE, path)
    state_file.remove(path)
    state_file.remove(path)
    assert not os.path.exists(path)


def test_uptime_is_what_the_kernel_tells_everybody():
    with open('/proc/uptime', encoding='ascii') as file:
        told = float(file.read().split()[0])
    assert abs(state_file.uptime() - told) < 1


def test_systemd_says_where_it_is(monkeypatch):
    monkeypatch.setenv('RUNTIME_DIRECTORY', '/run/elsewhere')
    assert state_file.path() == '/run/elsewhere/host.json'
    monkeypatch.delenv('RUNTIME_DIRECTORY')
    assert state_file.path() == '/run/fbm-agent/host.json'

# SPDX-License-Identifier: Apache-2.0
"""The state file: what is in it, and when neither the hook nor the agent believes it."""

import json
import os
import stat
from dataclasses import replace

import pytest

from fbm_placement import errors
from fbm_placement.hook import program
from fbm_placement.host import state_file
from fbm_placement.host.state_file import HostState, StoreState
from fbm_placement.model import Recovery, Settings

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

ON = Settings(1024, 0, 'kvm', 1.0)
WRITTEN = json.loads(state_file.render(STATE))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'run' / 'host.json')


MANY = tuple(f'b2c3d4e5-0000-4000-8000-{number:012}' for number in range(20_000))


@pytest.mark.parametrize(
    'state',
    [STATE, replace(STATE, store=None, may_restart=()), replace(STATE, may_restart=MANY)],
    ids=['one guest', 'no store', 'many guests'],
)
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

    monkeypatch.setattr(os, 'rename', broken)
    with pytest.raises(OSError, match='No space'):
        state_file.write(replace(STATE, configured='disabled'), path)
    assert state_file.read(path, 0) == STATE
    assert os.listdir(os.path.dirname(path)) == ['host.json']


def test_a_stale_one_is_not_believed(path):
    state_file.write(STATE, path)
    with pytest.raises(errors.HostError, match='is stale; check the fbm-agent service'):
        state_file.read(path, now_uptime=1000.5)
    assert state_file.read(path, now_uptime=None) == STATE


def test_keys_that_are_missing_or_unknown(tmp_path):
    """An older agent wrote no capacity; a newer one may write more."""
    path = tmp_path / 'host.json'
    written = {key: WRITTEN[key] for key in WRITTEN.keys() - {'capacity_mib', 'reserved_mib'}}
    path.write_text(json.dumps(written | {'unknown': 1}))
    assert state_file.read(str(path), None) == STATE
    assert STATE.settings(ON) == ON


@pytest.mark.parametrize(
    ('capacity_mib', 'expected'),
    [(512, Settings(512, 8, 'kvm', 1.0)), (0, Settings(0, 8, 'kvm', None))],
)
def test_what_the_agent_went_by(capacity_mib, expected):
    """The ratio of a disabled host is not known."""
    assert replace(STATE, capacity_mib=capacity_mib, reserved_mib=8).settings(ON) == expected


VERSION = 'has version {}, expected 1; restart fbm-agent, then run "fbm-status hook install"'
NOT_OURS = 'is not what fbm-agent writes; restart fbm-agent'
USELESS = {
    '{"version": 2}': VERSION.format(2),
    '{"version": "1"}': VERSION.format(1),
    '{"version": true}': VERSION.format(True),
    **dict.fromkeys(('', '{', '[]', '{}', '7', 'null', '\xff', '[' * 100_000), NOT_OURS),
    '{"version": 1}': NOT_OURS,
    json.dumps(WRITTEN)[:-20]: NOT_OURS,
}
CHANGES = {
    'valid_until_uptime': ('1', float('nan'), True, None),
    'hook_mode': ('force', ['enforce'], None),
    'configured': (None, 'yes'),
    'may_restart': (7, [7], 'b1', None),
    'host': (None, 7),
    'store': ('here', {}, 0, {'path': 7, 'mount_point': None}, {'path': '/s', 'mount_point': 7}),
}
USELESS |= {
    json.dumps(WRITTEN | {key: value}): NOT_OURS
    for key, values in CHANGES.items()
    for value in values
}


@pytest.mark.parametrize(('text', 'reason'), USELESS.items(), ids=range(len(USELESS)))
def test_one_that_is_not_ours_is_not_believed(tmp_path, text, reason):
    """Neither by the hook nor by the agent."""
    path = tmp_path / 'host.json'
    path.write_text(text, encoding='latin-1')
    for error, read in READERS:
        with pytest.raises(error) as raised:
            read(str(path))
        assert str(raised.value) == f'{path} {reason}'


READERS = [
    (program.StateError, program.read_state),
    (errors.HostError, lambda path: state_file.read(path, None)),
]


@pytest.mark.parametrize(
    'changes',
    [
        {'unhealthy': [1]},
        {'pid': '7'},
        {'looked_at': None},
        {'store': {'path': '/s', 'mount_point': None}},
        {'store_recovery': {'reason': 'full'}},
        {'store_recovery': {'reason': 'full', 'good_looks': '1'}},
        {'capacity_mib': '1'},
        {'capacity_mib': ''},
        {'capacity_mib': True},
        {'reserved_mib': 1.5},
    ],
)
def test_what_the_hook_does_not_need_is_for_the_agent_to_check(tmp_path, changes):
    path = tmp_path / 'host.json'
    path.write_text(json.dumps(WRITTEN | changes))
    assert program.read_state(str(path))['host'] == 'cmp1'
    with pytest.raises(errors.HostError, match=NOT_OURS):
        state_file.read(str(path), None)


def test_one_that_cannot_be_opened_is_reported(tmp_path):
    for error, read in READERS:
        with pytest.raises(error, match=f'{tmp_path} is not readable: Is a directory'):
            read(str(tmp_path))


def test_without_one_the_agent_may_not_run(path):
    with pytest.raises(errors.HostError, match='is fbm-agent running on this host'):
        state_file.read(path, 0)
    with pytest.raises(FileNotFoundError):
        program.read_state(path)


def test_uptime_is_that_of_the_kernel():
    with open('/proc/uptime', encoding='ascii') as file:
        seconds = float(file.read().split()[0])
    assert abs(state_file.uptime() - seconds) < 1


def test_systemd_names_the_directory(monkeypatch):
    monkeypatch.setenv('RUNTIME_DIRECTORY', '/run/elsewhere')
    assert state_file.path() == '/run/elsewhere/host.json'
    monkeypatch.delenv('RUNTIME_DIRECTORY')
    assert state_file.path() == '/run/fbm-agent/host.json'

# SPDX-License-Identifier: Apache-2.0
"""``fbm-status guests`` as its users see it."""

import io
import json
import os
import pty
import sys
import time

import pytest

from fbm_placement import errors
from fbm_placement.guests import orphans, output, report
from fbm_placement.host import probe

ENABLED = '[libvirt]\nfile_backed_memory = 4096\nvirt_type = kvm\n'


@pytest.fixture
def enabled(host):
    host.configured('enabled')


@pytest.fixture
def terminal(monkeypatch):
    opened = []

    def answer(text):
        leader, follower = pty.openpty()
        os.write(leader, text.encode())
        stdin = os.fdopen(follower)
        opened.extend([leader, stdin])
        monkeypatch.setattr(sys, 'stdin', stdin)

    yield answer
    for one in opened:
        os.close(one) if isinstance(one, int) else one.close()


@pytest.fixture
def no_terminal(monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.StringIO('y\n'))


def as_json(capsys):
    return json.loads(capsys.readouterr().out)


def test_nothing_runs(command, enabled, capsys):
    assert command() == 0
    out, err = capsys.readouterr()
    assert 'No guest runs here.' in out
    assert 'There are no orphans.' in out
    assert 'enabled (fbm-agent 1, noon)' in out
    assert err == ''


def test_a_container_without_the_processes_of_the_host(command, host, enabled, capsys):
    """Guests may run that have no process in it, unless libvirt's daemon runs in it, too."""
    host.namespace.unlink()
    host.namespace.symlink_to('pid:[7]')
    assert command() == 1
    out, err = capsys.readouterr()
    assert 'There are no orphans.' in out
    assert 'guests may run that cannot be seen here: this is pid:[7], not the host' in err
    assert 'and no libvirtd or virtqemud runs in it' in err
    (host.proc / '8').mkdir()
    (host.proc / '8/cmdline').write_text('/usr/sbin/virtqemud\0')
    assert command() == 0


def test_the_table(command, host, enabled, capsys):
    host.guest(1, 'file-shared')
    host.guest(2, 'dram', nova=False, name='web')
    assert command() == 0
    lines = capsys.readouterr().out.splitlines()
    (of_nova,) = (line for line in lines if 'instance-00000001 |' in line)
    cells = [cell.strip() for cell in of_nova.strip('|').split('|')]
    assert cells[2:5] == ['nova', '64', 'file, shared']
    assert cells[5] == '/var/lib/nova/ram/libvirt/qemu/1-instance-00000001/pc.ram'
    (of_other,) = (line for line in lines if '| web' in line)
    assert [cell.strip() for cell in of_other.split('|')][3:6] == ['other', '64', 'anonymous']


def test_json(command, host, enabled, capsys):
    directory = host.guest(5, 'file-shared-and-dram', memory=128)
    (entry,) = (
        line.split()[0]
        for line in (directory / 'maps').read_text().splitlines()
        if line.endswith('ram-node0')
    )
    really = host.path / 'allocated'
    really.write_bytes(b'x' * 10_000)
    (directory / 'map_files' / entry).symlink_to(really)
    orphan = host.file(size=50_000)
    assert command('--format', 'json') == 1
    seen = as_json(capsys)
    assert seen == {
        'state': {'configured': 'enabled', 'source': 'fbm-agent 1, noon'},
        'guests': [
            {
                'name': 'instance-00000005',
                'uuid': '5d2a7a2e-0b0e-4b3e-9f52-d6a1d9d3c005',
                'pid': 5,
                'owner': 'nova',
                'memory_mib': 128,
                'backing': 'file and other',
                'composition': [
                    {'kind': 'file, shared', 'size_mib': 64},
                    {'kind': 'anonymous', 'size_mib': 64},
                ],
                'files': [
                    {
                        'path': '/var/lib/nova/ram/libvirt/qemu/5-instance-00000005/ram-node0',
                        'kind': 'file, shared',
                        'deleted': False,
                        'mapped_bytes': 64 * 2**20,
                        'allocated_bytes': really.stat().st_blocks * 512,
                    }
                ],
                'as_state_says': False,
                'trouble': None,
            }
        ],
        'orphans': [
            {
                'path': str(orphan),
                'size_bytes': 50_000,
                'allocated_bytes': orphan.stat().st_blocks * 512,
                'age_seconds': pytest.approx(3 * 3600, abs=20),
                'removed': False,
                'freed_bytes': None,
                'left_because': None,
            }
        ],
        'freed_bytes': 0,
        'trouble': [],
    }


@pytest.mark.parametrize(
    ('state', 'maps', 'backing', 'matches'),
    [
        ('enabled', 'file-shared', 'file, shared', True),
        ('enabled', 'file-private', 'file, private', False),
        ('enabled', 'dram', 'DRAM', False),
        ('enabled', 'memfd-shared', 'DRAM', False),
        ('disabled', 'dram', 'DRAM', True),
        ('disabled', 'memfd-private', 'DRAM', True),
        ('disabled', 'file-shared', 'file, shared', False),
        ('disabled', 'file-private', 'file, private', False),
    ],
)
def test_guests_that_do_not_match_the_state(command, host, capsys, state, maps, backing, matches):
    """By their mappings: their command lines have no memory backend. Other guests may differ."""
    host.configured(state)
    host.guest(1, maps)
    host.guest(2, maps, nova=False)
    assert command() == (0 if matches else 1)
    out = capsys.readouterr().out
    assert out.count(f'not as on a host that is {state}') == (0 if matches else 1)
    assert ('draining: ' in out) is not matches
    command('-f', 'json')
    nova, other = as_json(capsys)['guests']
    assert (nova['backing'], nova['as_state_says']) == (backing, matches)
    assert (other['backing'], other['as_state_says']) == (backing, None)


@pytest.mark.parametrize(
    ('valid', 'nova_conf', 'configured', 'source', 'matches'),
    [
        (None, ENABLED, 'enabled', 'nova.conf, because no ', False),
        (-1, '', 'disabled', ' is stale', True),
        (None, '[libvirt]\nfile_backed_memory = much\n', None, 'is not known: no ', None),
    ],
)
def test_the_state_without_the_agent(
    command, host, capsys, valid, nova_conf, configured, source, matches
):
    host.guest(1, 'dram')
    if valid:
        host.configured('enabled', valid=valid)
    assert command('-f', 'json', nova_conf=nova_conf) == (0 if matches else 1)
    seen = as_json(capsys)
    assert seen['state']['configured'] == configured
    assert source in seen['state']['source']
    assert seen['guests'][0]['as_state_says'] is matches
    assert len(seen['trouble']) == (0 if configured else 1)
    assert all('file_backed_memory' in error for error in seen['trouble'])


def test_a_deleted_file_is_noted(command, host, enabled, capsys):
    maps = (
        '7f0000000000-7f0004000000 rw-s 00000000 08:01 9 /ram/libvirt/qemu/1-a/pc.ram (deleted)\n'
    )
    host.guest(1, maps)
    assert command() == 0
    out = capsys.readouterr().out
    assert '/ram/libvirt/qemu/1-a/pc.ram (deleted)' in out
    assert 'its file is freed when it ends' in out


def test_a_guest_that_ended_meanwhile_is_left_out(command, host, enabled, capsys):
    (host.guest(1, 'dram') / 'maps').unlink()
    (host.guest(2, 'dram') / 'maps').write_text('')
    assert command() == 0
    assert 'No guest runs here.' in capsys.readouterr().out


def test_only_root_may_scan(command, monkeypatch):
    monkeypatch.setattr(os, 'geteuid', lambda: 1000)
    with pytest.raises(errors.HostError, match='this is 1000; run sudo fbm-status guests'):
        command()


def test_mappings_that_cannot_be_read_are_an_error(command, host, enabled, capsys):
    directory = host.guest(1, 'dram')
    (directory / 'maps').unlink()
    (directory / 'maps').mkdir()
    assert command('-f', 'json') == 1
    seen = as_json(capsys)
    assert seen['guests'][0]['backing'] is None
    assert seen['guests'][0]['as_state_says'] is None
    assert 'its mappings cannot be read' in seen['trouble'][0]
    assert command() == 1
    assert '| not known' in capsys.readouterr().out


def test_a_store_that_hangs_does_not_hang_the_command(command, host, enabled, capsys, monkeypatch):
    host.guest(1, 'dram', nova=False)
    monkeypatch.setattr(report, 'PROBE_SECONDS', 0.3)
    # The probe's child waits as on a disk that is gone; it is killed after that time.
    monkeypatch.setattr(orphans, 'find', lambda *args: time.sleep(60))
    start = time.monotonic()
    assert command('-f', 'json') == 1
    assert time.monotonic() - start < 5
    seen = as_json(capsys)
    assert len(seen['guests']) == 1
    assert seen['orphans'] is None
    assert 'does not answer (no answer' in seen['trouble'][0]
    with pytest.raises(errors.HostError, match='does not answer'):
        command('--remove-orphans', '--yes')


def test_a_process_that_hangs(command, host, enabled, capsys, monkeypatch):
    """The kernel reads its command line from its memory, and asks the store for its file."""
    host.guest(1, 'dram')
    answers = iter([False, True, False, False])

    def ask(self, function):
        if not next(answers):
            raise errors.NoAnswerError('no answer in 15 s')
        return function()

    monkeypatch.setattr(probe.Probe, 'ask', ask)
    with pytest.raises(errors.HostError, match='cannot be seen: reading their command lines'):
        command()
    assert command() == 1
    out, err = capsys.readouterr()
    assert 'instance-00000001' in out
    assert 'its mappings cannot be read: no answer in 15 s' in err


def test_orphans_are_unknown_where_there_are_no_leases(
    command, host, enabled, capsys, monkeypatch
):
    file = host.file()

    def find(store, used, now):
        raise PermissionError(13, 'the kernel grants no lease on it (Permission denied)', store)

    monkeypatch.setattr(orphans, 'find', find)
    assert command('-f', 'json') == 1
    seen = as_json(capsys)
    assert seen['orphans'] is None
    (error,) = seen['trouble']
    assert error.startswith(f'orphans are not known: {host.store}: the kernel grants no lease')
    with pytest.raises(errors.HostError, match=r'nothing is removed: .* grants no lease on it'):
        command('--remove-orphans', '--yes')
    assert file.exists()


def test_an_operator_who_agrees(command, host, enabled, capsys, terminal):
    file = host.file(size=3 * 2**20)
    terminal('y\n')
    assert command('--remove-orphans') == 0
    assert not file.exists()
    out, err = capsys.readouterr()
    assert f'{file} (3 MiB, 3 h old)\nRemove 1 file of no running guest, 3 MiB? [y/N]' in err
    assert '1 file removed, 3 MiB freed' in out


@pytest.mark.parametrize('answer', ['n\n', '\n', 'yesterday\n', '\x04'])
def test_an_operator_who_does_not(command, host, enabled, capsys, terminal, answer):
    file = host.file()
    terminal(answer)
    assert command('--remove-orphans') == 1
    assert file.exists()
    assert 'freed' not in capsys.readouterr().out


def test_without_a_terminal_nothing_is_removed(command, host, enabled, no_terminal, capsys):
    assert command('--remove-orphans') == 0
    file = host.file()
    with pytest.raises(errors.HostError, match='add --yes'):
        command('--remove-orphans')
    assert file.exists()
    assert str(file) in capsys.readouterr().out


def test_one_that_stays_does_not_stop_the_others(command, host, enabled, no_terminal, capsys):
    young, old = host.file('1-a/pc.ram', age=5), host.file('2-b/pc.ram')
    assert command('--remove-orphans', '--yes', '-f', 'json') == 1
    assert (young.exists(), old.exists()) == (True, False)
    seen = as_json(capsys)
    fates = {os.path.relpath(one['path'], host.ram): one for one in seen['orphans']}
    assert fates['2-b/pc.ram']['removed']
    assert fates['2-b/pc.ram']['freed_bytes'] == seen['freed_bytes'] > 0
    assert 'less than 60 s' in fates['1-a/pc.ram']['left_because']


def test_a_hostile_name_does_not_reach_the_terminal(command, host, enabled, capsys, terminal):
    host.file('1-\x1b[2Jgone/pc\n\u202e.ram')
    terminal('n\n')
    command('--remove-orphans')
    out, err = capsys.readouterr()
    assert '\x1b' not in out + err
    assert '\u202e' not in out + err
    assert r'1-\x1b[2Jgone/pc\n\u202e.ram' in out
    assert r'1-\x1b[2Jgone/pc\n\u202e.ram' in err


def test_a_file_whose_name_is_no_utf8_can_be_removed(command, host, enabled, capsys):
    file = os.fsencode(host.file('1-a/x'))
    os.rename(file, file[:-1] + b'\xff')
    assert command('-f', 'json', '--remove-orphans', '--yes') == 0
    assert as_json(capsys)['orphans'][0]['removed']
    assert not os.path.exists(file[:-1] + b'\xff')


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0, '0 s'), (119, '119 s'), (120, '2 min'), (7200, '2 h'), (200_000, '2 d')],
)
def test_ages(seconds, text):
    assert output.format_age(seconds) == text

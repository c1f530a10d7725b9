# SPDX-License-Identifier: Apache-2.0
"""The real files, run as libvirt runs them, by the shells that are there."""

import ast
import json
import os
import random
import subprocess
import sys
import time
import types

import pytest

from fbm_placement.host import mounts
from tests import hook_lab as labs
from tests.hook_lab import NAME, UUID, WHO, domain, store_state

DRAM = domain('')
SPOKEN = '; run "fbm-status hook check"\n'


def silent_pass(done):
    """Whether the guest passes without a word."""
    return (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.mark.parametrize('operation', ['prepare', 'migrate'])
def test_what_fits_passes_in_silence(lab, operation, store):
    lab.write_state(store=store_state(store))
    assert silent_pass(lab.run(operation))
    lab.write_state(configured='disabled')
    assert silent_pass(lab.run(operation, DRAM))


@pytest.mark.parametrize(('operation', 'may_not'), [('prepare', 'start'), ('migrate', 'migrate')])
def test_what_does_not_fit_is_refused_in_one_line(lab, operation, may_not):
    done = lab.run(operation, DRAM)
    assert done.returncode == 1
    assert done.stdout == ''
    assert done.stderr == (
        f'fbm hook on cmp1: {WHO} may not {may_not} here: its memory is not file-backed, and '
        'file-backed memory is enabled on this host; choose a host where it is disabled, or hard '
        'reboot the instance, which redefines it; if nova.conf says otherwise by now, restart '
        'fbm-agent first\n'
    )


def test_where_it_only_warns_it_says_the_same_and_passes(lab):
    lab.write_state(configured='disabled', hook_mode='warn')
    done = lab.run()
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr == (
        f'warning: fbm hook on cmp1: {WHO} starts here all the same: its memory is file-backed, '
        'and file-backed memory is disabled on this host; choose a host where it is enabled, or '
        'hard reboot the instance, which redefines it; if nova.conf says otherwise by now, '
        'restart fbm-agent first\n'
    )


def test_a_warning_is_in_the_systems_log_too(monkeypatch, capfd):
    """Libvirt drops the words of a hook that lets the guest through. Played: syslog."""
    logged = []
    fake = types.SimpleNamespace(
        LOG_DAEMON=24,
        LOG_WARNING=4,
        openlog=lambda *arguments: None,
        syslog=lambda priority, line: logged.append((priority, line)),
    )
    monkeypatch.setitem(sys.modules, 'syslog', fake)
    hook = labs.load()
    for verdict in (hook.WARN, hook.PASS, hook.REFUSE):
        hook.say(verdict, 'prepare', 'cmp1', NAME, 'why')
    told = capfd.readouterr().err.splitlines()
    assert logged == [(4, line) for line in told]
    assert told[2] == f'fbm hook on cmp1: guest {NAME} may not start here: why'


def test_switched_off_it_reads_nothing(lab):
    lab.write_state(hook_mode='off')
    assert silent_pass(lab.run(xml='no XML at all'))


@pytest.mark.parametrize(
    'operation',
    ['start', 'started', 'stopped', 'release', 'reconnect', 'attach', 'define', '', 'PREPARE'],
)
def test_other_operations_pass_whatever_is_broken(lab, operation):
    """A ``reconnect`` that fails kills its guest."""
    lab.program.unlink()
    lab.use_python('/nonexistent/python3')
    lab.state_file.write_text('{')
    assert silent_pass(lab.run(operation, '\0<'))


def test_without_arguments_it_passes(lab):
    done = subprocess.run([*lab.shell, lab.hook], capture_output=True, text=True, check=False)
    assert silent_pass(done)


def test_without_a_state_file_it_has_no_opinion_and_says_nothing(lab):
    lab.state_file.unlink()
    assert silent_pass(lab.run(xml=DRAM))


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ({'version': 2}, 'has version 2, this hook knows 1; run "fbm-status hook install"'),
        ({'version': '1'}, 'has version 1, this hook knows 1; run "fbm-status hook install"'),
        ({'version': True}, 'has version True, this hook knows 1; run "fbm-status hook install"'),
        ({'valid_until_uptime': 1}, 'is stale; look at the fbm-agent service'),
        ({'valid_until_uptime': '1'}, None),
        ({'valid_until_uptime': float('nan')}, None),
        ({'hook_mode': 'force'}, None),
        ({'hook_mode': ['enforce']}, None),
        ({'configured': None}, None),
        ({'may_restart': 7}, None),
        ({'may_restart': [7]}, None),
        ({'host': None}, None),
        ({'store': 'here'}, None),
        ({'store': {}}, None),
        ({'store': {'path': 7, 'mount_point': None}}, None),
        ('', None),
        ('{', None),
        ('[]', None),
        ('{}', None),
        ('7', None),
        ('null', None),
        ('\xff', None),
        ('[' * 100_000, None),
    ],
)
def test_of_a_state_file_that_is_no_use_it_tells_and_passes(tmp_path, text, words):
    lab = labs.Lab(tmp_path)
    if isinstance(text, str):
        lab.state_file.write_text(text, encoding='latin-1')
    else:
        lab.write_state(**text)
    done = lab.run(xml=DRAM)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr == (
        f'warning: fbm hook on {os.uname().nodename}: guest {NAME} starts here unchecked: '
        f'{lab.state_file} {words or "is not readable: not what fbm-agent writes"}\n'
    )


def test_a_state_file_that_cannot_be_opened_is_told_of(tmp_path):
    lab = labs.Lab(tmp_path)
    lab.state_file.mkdir()
    done = lab.run(xml=DRAM)
    assert done.returncode == 0
    assert done.stderr.endswith('host.json is not readable: Is a directory\n')


def test_a_state_that_is_valid_until_now_is_valid(lab):
    lab.write_state(valid_until_uptime=labs.uptime() + 2)
    assert lab.run(xml=DRAM).returncode == 1


def test_without_a_stderr_it_judges_all_the_same(lab):
    shell = ' '.join(lab.shell)
    for xml, status in ((domain(), 0), (DRAM, 1)):
        command = f'{shell} {lab.hook} {NAME} prepare begin - 2>&-'
        done = subprocess.run(command, shell=True, input=xml, text=True, check=False)
        assert done.returncode == status


def test_guests_of_others_pass(lab):
    assert silent_pass(lab.run(xml=domain('', metadata='')))
    more = f'<x:a xmlns:x="{labs.NOVA}"/>'
    assert silent_pass(lab.run(xml=domain('', metadata='', more=more)))


def test_a_restore_and_its_prepare_pass_with_a_warning_but_no_other(lab):
    """For libvirt prepares what it restores, as it prepares every guest."""
    words = 'its memory is not file-backed'
    done = lab.run('restore', DRAM)
    assert (done.returncode, done.stdout) == (0, '')
    restored = f'warning: fbm hook on cmp1: {WHO} is restored here all the same: {words}'
    assert done.stderr.startswith(restored)
    other = domain('', uuid=UUID.replace('b', 'c'))
    assert lab.run(xml=other).returncode == 1
    done = lab.run(xml=DRAM)
    assert done.returncode == 0
    started = f'warning: fbm hook on cmp1: {WHO} starts here all the same: {words}'
    assert done.stderr.startswith(started)
    assert lab.run(xml=DRAM).returncode == 1


def test_a_restore_long_ago_counts_no_more(lab):
    lab.run('restore', DRAM)
    (note,) = lab.directory.glob(f'restoring-{UUID}')
    note.write_text(str(labs.uptime() - 61))
    assert lab.run(xml=DRAM).returncode == 1


@pytest.mark.parametrize('uuid', ['../../escape', '', 'x' * 36, '-' * 35])
def test_a_restore_leaves_its_note_nowhere_else(lab, uuid):
    before = set(lab.directory.parent.rglob('*'))
    lab.run('restore', domain('', uuid=uuid))
    assert set(lab.directory.parent.rglob('*')) == before


def test_a_restore_writes_through_no_link(lab, tmp_path):
    victim = tmp_path / 'victim'
    victim.write_text('precious')
    (lab.directory / f'restoring-{UUID}').symlink_to(victim)
    assert lab.run('restore', DRAM).returncode == 0
    assert victim.read_text() == 'precious'
    assert lab.run(xml=DRAM).returncode == 0


def test_a_restore_that_fits_leaves_no_note(lab):
    assert silent_pass(lab.run('restore'))
    assert not list(lab.directory.glob('restoring-*'))


STORE_FAULTS = {
    'gone': 'does not exist; mount it, then restart libvirtd',
    'elsewhere': 'is not mounted: it is on /dev/shm, expected on /srv/fbm; mount it, then restart '
    'libvirtd',
    'late': 'has no directory libvirt/qemu, so it was mounted after libvirtd had started; restart '
    'libvirtd',
    'no directory': 'does not answer (Not a directory); look at the disk or server below it',
}


@pytest.mark.parametrize('case', STORE_FAULTS)
def test_the_store_is_looked_at(lab, store, case):
    path = store
    if case == 'gone':
        path = store / 'gone'
    elif case == 'late':
        (store / 'libvirt' / 'qemu').rmdir()
    elif case == 'no directory':
        (store / 'file').touch()
        path = store / 'file' / 'below'
    mount_point = '/srv/fbm' if case == 'elsewhere' else '/dev/shm'
    lab.write_state(store=store_state(path, mount_point))
    done = lab.run()
    assert done.returncode == 1
    assert done.stderr == (
        f'fbm hook on cmp1: {WHO} may not start here: the store {path} {STORE_FAULTS[case]}\n'
    )


def test_a_store_on_the_root_filesystem_is_not_mounted(lab):
    lab.write_state(store=store_state('/', '/'))
    done = lab.run()
    assert done.returncode == 1
    assert 'the store / is not mounted: it is on the root filesystem' in done.stderr


def test_links_to_the_store_are_followed(lab, store, tmp_path):
    link, mount = tmp_path / 'link', tmp_path / 'mount'
    link.symlink_to(store)
    mount.symlink_to('/dev/shm')
    lab.write_state(store=store_state(link, str(mount)))
    assert silent_pass(lab.run())


def test_a_guest_needs_room(lab, store):
    room = os.statvfs(store)
    free = room.f_bavail * room.f_frsize >> 20
    lab.write_state(store=store_state(store))
    done = lab.run(xml=domain(memory='<memory unit="TiB">4096</memory>'))
    assert done.returncode == 1
    told = done.stderr.partition(f'the store {store} has ')[2]
    # Others use /dev/shm, too.
    assert abs(int(told.split()[0]) - free) < 1024
    assert told.partition(' MiB free, ')[2] == (
        f'the guest needs {4096 << 20} MiB; move guests away, or delete files there that belong '
        'to no running guest\n'
    )


def test_of_an_unknown_store_it_has_no_opinion(lab):
    lab.write_state(store=None)
    assert silent_pass(lab.run())


def test_a_dead_store_is_waited_for_no_longer_than_said(lab, store):
    """The sleep stands for a dead disk, which needs a kernel of its own; and nothing ends it."""
    lab.edit(lab.program, 'STORE_SECONDS = 3', 'STORE_SECONDS = 0.5')
    lab.edit(lab.program, 'os.kill(child, signal.SIGKILL)', 'child')
    lab.edit(
        lab.program,
        '    room = os.statvfs(path)\n',
        '    time.sleep(4)\n    room = os.statvfs(path)\n',
    )
    lab.write_state(store=store_state(store))
    begun = time.monotonic()
    done = lab.run()
    # run() waits until the last has closed stdout and stderr, as libvirt does.
    assert time.monotonic() - begun < 3
    assert done.returncode == 1
    assert done.stderr.endswith(
        f'the store {store} does not answer (looked for 0.5 s); look at the disk or server below '
        'it\n'
    )


UNREADABLE = {
    'truncated': (DRAM[:-20], 'its XML is not readable: unclosed token: line 14, column 2'),
    'a DOCTYPE': (
        f'<!DOCTYPE domain>{DRAM}',
        'its XML is not readable: it has a DOCTYPE, which libvirt never writes',
    ),
    'empty': ('', 'its XML is not readable: no element found: line 1, column 0'),
    'too long': (
        f'<!--{"x" * (8 << 20)}-->{DRAM}',
        'its XML is not readable: it is longer than 8 MiB',
    ),
}


@pytest.mark.parametrize('case', UNREADABLE)
def test_unreadable_xml_is_refused_where_guests_must_fit(lab, case):
    xml, words = UNREADABLE[case]
    words += SPOKEN
    done = lab.run(xml=xml)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == f'fbm hook on cmp1: guest {NAME} may not start here: {words}'
    for changes in ({'configured': 'disabled'}, {'hook_mode': 'warn'}):
        lab.write_state(**changes)
        done = lab.run(xml=xml)
        assert (done.returncode, done.stdout) == (0, '')
        assert done.stderr == (
            f'warning: fbm hook on cmp1: guest {NAME} starts here all the same: {words}'
        )


def test_a_guest_without_a_uuid_has_its_name(lab):
    done = lab.run(xml=domain('', uuid=''))
    assert done.stderr.startswith(f'fbm hook on cmp1: guest {NAME} may not start here: its memory')


def test_unreadable_xml_of_others_passes(lab):
    done = lab.run(xml=domain('', metadata='&unknown;'))
    assert done.returncode == 0
    assert done.stderr.startswith('warning: ')


def test_names_from_outside_are_made_harmless(lab):
    name = 'a\x1b[2J\nfbm hook on cmp1: all is well' + 'x' * 1000
    done = lab.run(xml=DRAM, name=name)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert done.stderr.rstrip('\n').isprintable()
    assert len(done.stderr) < 600


def test_damaged_xml_ends_in_one_line_whatever_it_is(tmp_path):
    """A few dozen as processes; test_guest_xml.py tries more of them."""
    lab = labs.Lab(tmp_path)
    lab.write_state()
    dice = random.Random(20261122)
    refused = 0
    for _ in range(36):
        xml = bytearray(DRAM.encode())
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(len(xml))
            xml[at : at + dice.randint(0, 9)] = dice.choice(
                [b'<', b'>', b'&', b'"', b'\0', b'\xff', b'</domain>', b'<!DOCTYPE a [', b'<a>']
            )
        done = lab.run(xml=bytes(xml))
        told = done.stderr.decode('ascii')
        assert done.stdout == b''
        assert done.returncode == (1 if told.startswith('fbm hook on cmp1: guest ') else 0)
        assert told.count('\n') == (1 if told else 0)
        assert 'Traceback' not in told
        refused += done.returncode
    assert refused > 18


def test_the_program_is_python_3_6():
    ast.parse(labs.SOURCES[labs.PROGRAM].read_text(), feature_version=(3, 6))


def test_the_program_imports_only_what_is_cheap():
    """And nothing of this package: it must work when that is gone. syslog is for warnings only."""
    tree = ast.parse(labs.SOURCES[labs.PROGRAM].read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    cheap = {'json', 'os', 'pyexpat', 'select', 'signal', 'sys', 'time'}
    assert imported <= cheap | {'syslog'}
    at_once = [node for node in tree.body if isinstance(node, ast.Import)]
    assert {alias.name for node in at_once for alias in node.names} <= cheap
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_the_state_is_written_as_both_files_read_it():
    """The shell reads lines: one key on each, behind one space."""
    lines = json.dumps(labs.state(), indent=1).splitlines()
    assert ' "version": 1,' in lines
    assert ' "hook_mode": "enforce",' in lines


MOUNTS = """\
27 1 254:0 / / rw - ext4 /dev/vda rw
28 27 254:0 /home /home ro - ext4 /dev/vda rw
29 27 254:0 /data/fbm /srv/fbm rw - ext4 /dev/vda rw
30 27 0:30 / /srv/with\\040space rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    'path', ['/srv/fbm', '/srv/fbm/x', '/srv/fbm2', '/home/x', '/srv/with space/x', '/']
)
def test_the_hook_and_the_agent_find_the_same_mount(program, tmp_path, monkeypatch, path):
    """A bind mount of a directory of the root disk is one; what is bound onto itself is none."""
    mountinfo = tmp_path / 'mountinfo'
    mountinfo.write_text(MOUNTS)
    monkeypatch.setattr(program, 'MOUNTINFO', str(mountinfo))
    seen = mounts.mount_of(path, mounts.read_mounts(str(mountinfo)))
    assert program.mount_point_of(path) == seen.mount_point
    expected = {'/srv/fbm': '/srv/fbm', '/srv/fbm/x': '/srv/fbm', '/srv/with space/x': None}
    assert seen.mount_point == (expected.get(path, '/') or '/srv/with space')


def test_room_that_comes_in_a_moment_is_waited_for(program, monkeypatch):
    """A guest that restarts frees its own room first; XFS takes a moment for that."""
    looks = [program.Store('/s', prepared=True, free=free) for free in (0, 0, 1 << 40)]
    monkeypatch.setattr(program, 'look_at_store', lambda path, expected: looks.pop(0))
    monkeypatch.setattr(program, 'ROOM_SECONDS', 0)
    host = program.Host('cmp1', 'enforce', 'enabled', [], store_state('/s', '/s'))
    _, verdict, words = program.judge('prepare', host, domain().encode(), '/nowhere/host.json')
    assert (verdict, words, looks) == (program.PASS, '', [])

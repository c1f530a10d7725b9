# SPDX-License-Identifier: Apache-2.0
"""The real files, run as libvirt runs them; by each shell where the shell has a part in it."""

import ast
import os
import random
import subprocess
import sys
import time
import types

import pytest

from fbm_placement.hook import program
from tests import hook_lab
from tests.hook_lab import NAME, UUID, domain, store_state

DRAM = domain('')
WHO = f'guest {NAME} ({UUID})'


def silent_pass(done):
    return (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.mark.parametrize('operation', ['prepare', 'migrate', 'restore'])
def test_what_fits_passes_in_silence(lab, operation, store):
    lab.write_state(store=store_state(store))
    assert silent_pass(lab.run(operation))
    lab.write_state(configured='disabled')
    assert silent_pass(lab.run(operation, DRAM))
    assert not list(lab.directory.glob('restoring-*'))


@pytest.mark.parametrize(
    ('operation', 'may_not', 'where'),
    [('prepare', 'start', ''), ('migrate', 'migrate', ' on cmp1')],
)
def test_what_does_not_fit_is_refused_in_one_line(lab, operation, may_not, where):
    """Nova shows a tenant why a boot failed, so that line names no host."""
    done = lab.run(operation, DRAM)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == (
        f'fbm hook{where}: {WHO} may not {may_not} here: its memory is not file-backed, and '
        'file-backed memory is enabled on this host; choose a host where it is disabled, or hard '
        'reboot the instance, which redefines it; if nova.conf has changed, restart fbm-agent '
        'first\n'
    )


def test_where_it_only_warns_it_reports_the_same_and_passes(lab):
    lab.write_state(configured='disabled', hook_mode='warn')
    done = lab.run()
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr.startswith(
        f'warning: fbm hook on cmp1: {WHO} starts here anyway: its memory is file-backed, and '
    )


def test_a_restore_and_its_prepare_pass_with_a_warning(lab):
    done = lab.run('restore', DRAM)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr.startswith(
        f'warning: fbm hook on cmp1: {WHO} is restored here anyway: its memory is not file-backed'
    )
    done = lab.run(xml=DRAM)
    assert done.returncode == 0
    assert done.stderr.startswith(f'warning: fbm hook on cmp1: {WHO} starts here anyway: ')
    assert lab.run(xml=DRAM).returncode == 1


def test_each_line_is_in_the_system_log_too(monkeypatch, capfd):
    """Libvirt drops the stderr of a hook that lets the guest pass. Faked: syslog."""
    logged = []
    fake = types.SimpleNamespace(
        LOG_DAEMON=24,
        LOG_WARNING=4,
        openlog=lambda *arguments: None,
        syslog=lambda priority, line: logged.append((priority, line)),
    )
    monkeypatch.setitem(sys.modules, 'syslog', fake)
    for decision in ('warn', 'pass', 'refuse'):
        program.report(decision, 'prepare', 'cmp1', NAME, 'why')
    lines = capfd.readouterr().err.splitlines()
    # The guest of "fbm-status hook check", which reads stderr: it was refused to nobody.
    program.report('refuse', 'prepare', 'cmp1', 'fbm-hook-check (no guest)', 'why')
    assert capfd.readouterr().err == (
        'fbm hook: guest fbm-hook-check (no guest) may not start here: why\n'
    )
    assert lines == [
        f'warning: fbm hook on cmp1: guest {NAME} starts here anyway: why',
        f'warning: fbm hook on cmp1: guest {NAME} starts here unchecked: why',
        f'fbm hook: guest {NAME} may not start here: why',
    ]
    lines[2] = lines[2].replace('hook', 'hook on cmp1')
    assert logged == [(4, line) for line in lines]


def test_switched_off_it_reads_no_xml(lab):
    lab.write_state(hook_mode='off', valid_until_uptime=1)
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


def test_without_a_state_file_it_does_not_enforce_and_is_silent(lab):
    lab.state_file.unlink()
    assert silent_pass(lab.run(xml=DRAM))


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        (
            {'version': 2},
            'has version 2, expected 1; restart fbm-agent, then run "fbm-status hook install"',
        ),
        ({'valid_until_uptime': 1}, 'is stale; check the fbm-agent service'),
        ({'hook_mode': 'force'}, 'is not what fbm-agent writes; restart fbm-agent'),
    ],
)
def test_an_unusable_state_file_is_reported_and_the_guest_passes(sh, changes, reason):
    """More of them: tests/unit/host/test_state_file.py."""
    sh.write_state(**changes)
    done = sh.run(xml=DRAM)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr == (
        f'warning: fbm hook on {os.uname().nodename}: guest {NAME} starts here unchecked: '
        f'{sh.state_file} {reason}\n'
    )


def test_without_a_stderr_it_decides_all_the_same(lab):
    shell = ' '.join(lab.shell)
    for xml, status in ((domain(), 0), (DRAM, 1)):
        command = f'{shell} {lab.hook} {NAME} prepare begin - 2>&-'
        done = subprocess.run(command, shell=True, input=xml, text=True, check=False)
        assert done.returncode == status


def test_guests_that_nova_did_not_make_pass(sh):
    assert silent_pass(sh.run(xml=domain('', metadata='')))


STORE_FAULTS = {
    'gone': 'does not exist; ',
    'elsewhere': 'is not mounted: it is on /dev/shm, expected on /dev/shm/fbm; ',
    'late': 'has no directory libvirt/qemu, ',
    'no directory': 'does not respond (Not a directory); ',
}


@pytest.mark.parametrize('case', STORE_FAULTS)
def test_the_store_is_observed(sh, store, case):
    path = store
    if case == 'gone':
        path = store / 'gone'
    elif case == 'late':
        (store / 'libvirt' / 'qemu').rmdir()
    elif case == 'no directory':
        (store / 'file').touch()
        path = store / 'file' / 'below'
    mount_point = '/dev/shm/fbm' if case == 'elsewhere' else '/dev/shm'
    sh.write_state(store=store_state(path, mount_point))
    done = sh.run()
    assert done.returncode == 1
    assert f'{WHO} may not start here: the store {path} {STORE_FAULTS[case]}' in done.stderr


def test_a_store_on_the_root_filesystem_is_not_mounted(sh):
    sh.write_state(store=store_state('/', '/'))
    done = sh.run()
    assert done.returncode == 1
    assert 'the store / is not mounted: it is on the root filesystem' in done.stderr


def test_links_to_the_store_are_followed(sh, store, tmp_path):
    link = tmp_path / 'link'
    link.symlink_to(store)
    sh.write_state(store=store_state(link))
    assert silent_pass(sh.run())


def test_a_guest_needs_room(sh, store):
    room = os.statvfs(store)
    sh.write_state(store=store_state(store))
    done = sh.run(xml=domain(memory='<memory unit="TiB">4096</memory>'))
    assert done.returncode == 1
    free, _, rest = done.stderr.partition(f'the store {store} has ')[2].partition(' ')
    # Others use /dev/shm, too.
    assert abs(int(free) - (room.f_bavail * room.f_frsize >> 20)) < 1024
    assert rest.startswith(f'MiB free, the guest needs {4096 << 20} MiB; ')


def test_a_store_that_the_agent_does_not_know_is_not_observed(sh):
    sh.write_state(store=None)
    assert silent_pass(sh.run())


def test_a_dead_store_is_not_waited_for_indefinitely(sh, store):
    """The sleep stands for a dead disk, which needs a kernel of its own; and nothing ends it."""
    sh.edit(sh.program, 'STORE_SECONDS = 3', 'STORE_SECONDS = 0.5')
    sh.edit(sh.program, 'os.kill(child, signal.SIGKILL)', 'child')
    statvfs = '    room = os.statvfs(path)\n'
    sh.edit(sh.program, statvfs, f'    time.sleep(40)\n{statvfs}')
    sh.write_state(store=store_state(store))
    begun = time.monotonic()
    done = sh.run()
    # run() waits until the last has closed stdout and stderr, as libvirt does.
    assert time.monotonic() - begun < 30
    assert done.returncode == 1
    reason = f'the store {store} does not respond (no answer in 0.5 s); check its device\n'
    assert done.stderr.endswith(reason)


UNREADABLE = {
    'truncated': (DRAM[:-20], 'unclosed token: line 14, column 2'),
    'a DOCTYPE': (f'<!DOCTYPE domain>{DRAM}', 'it has a DOCTYPE, which libvirt never writes'),
    'empty': ('', 'no element found: line 1, column 0'),
    'too long': (f'<!--{"x" * (8 << 20)}-->{DRAM}', 'it is longer than 8 MiB'),
}


@pytest.mark.parametrize('case', UNREADABLE)
def test_unreadable_xml_is_refused_where_guests_must_fit(sh, case):
    xml, reason = UNREADABLE[case]
    done = sh.run(xml=xml)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == (
        f'fbm hook: guest {NAME} may not start here: its XML is not readable: {reason}; '
        'run "fbm-status hook check"\n'
    )


def test_a_guest_without_a_uuid_has_its_name(sh):
    done = sh.run(xml=domain('', uuid=''))
    assert done.stderr.startswith(f'fbm hook: guest {NAME} may not start here: its memory')


def test_names_from_outside_are_made_harmless(sh):
    name = 'a\x1b[2J\nfbm hook: all is well' + 'x' * 1000
    done = sh.run(xml=DRAM, name=name)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert done.stderr.rstrip('\n').isprintable()
    assert len(done.stderr) < 600


def test_damaged_xml_ends_in_one_line_whatever_it_is(sh):
    """A few dozen as processes; tests/unit/hook/test_guest_xml.py tries more of them."""
    dice = random.Random(20261122)
    refused = 0
    for _ in range(36):
        xml = bytearray(DRAM.encode())
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(len(xml))
            xml[at : at + dice.randint(0, 9)] = dice.choice(
                [b'<', b'>', b'&', b'"', b'\0', b'\xff', b'</domain>', b'<!DOCTYPE a [', b'<a>']
            )
        done = sh.run(xml=bytes(xml))
        line = done.stderr.decode('ascii')
        assert done.stdout == b''
        assert done.returncode == (1 if line.startswith('fbm hook: guest ') else 0)
        assert line.count('\n') == (1 if line else 0)
        assert 'Traceback' not in line
        refused += done.returncode
    assert refused > 18


def test_the_program_is_python_3_6():
    source = hook_lab.SOURCES[hook_lab.PROGRAM].read_text()
    ast.parse(source, feature_version=(3, 6))


def test_the_program_imports_only_what_is_cheap():
    """And nothing of this package, which may be gone. The others are for what is rare."""
    tree = ast.parse(hook_lab.SOURCES[hook_lab.PROGRAM].read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]

    def imported(nodes):
        imports = [node for node in nodes if isinstance(node, ast.Import)]
        return {alias.name for node in imports for alias in node.names}

    at_once = imported(tree.body)
    assert at_once <= {'marshal', 'os', 'pyexpat', 'select', 'sys', 'time'}
    rare = {'json', 'signal', 'syslog'}
    assert imported(ast.walk(tree)) == at_once | {'_json', '_signal'} | rare


def test_a_guest_that_passes_waits_for_no_dear_module(sh, store):
    sh.write_state(store=store_state(store), unhealthy=['\u00e9 "\\'], may_restart=[UUID])
    command = [
        hook_lab.PYTHON,
        '-IS',
        '-X',
        'importtime',
        sh.program,
        NAME,
        'prepare',
        'begin',
        '-',
    ]
    done = subprocess.run(command, input=domain(), capture_output=True, text=True, check=True)
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert {'_json', '_signal', 'pyexpat'} <= imported
    assert not imported & {'enum', 'json', 're', 'site', 'syslog'}

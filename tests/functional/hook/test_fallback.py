# SPDX-License-Identifier: Apache-2.0
"""What the hook does where python3, or the .py, is broken."""

import subprocess
import time

import pytest

from tests.hook_lab import NAME, domain

NOVA_GUEST = domain()
FOREIGN = domain(metadata='')


def no_interpreter(lab):
    """The package is gone."""
    lab.use_python('/nonexistent/python3')
    return 127


def not_executable(lab):
    """A file is there, but no program."""
    lab.state_file.chmod(0o644)
    lab.use_python(lab.state_file)
    return 127


def no_program(lab):
    """The .py is gone."""
    lab.program.unlink()
    return 127


def syntax_error(lab):
    """Half of the .py."""
    lab.program.write_text(lab.program.read_text()[:3000] + '\nif')
    return 1


def broken_library(lab):
    """Python is there, but not what it brings."""
    lab.edit(lab.program, 'import pyexpat\n', 'import pyexpat_is_gone\n')
    return 1


def killed(lab):
    """The kernel had no memory, for instance."""
    lab.edit(lab.program, '    # The default action ends', '    os.kill(os.getpid(), 9)\n    # ')
    return 137


def having_read(lab, code):
    """Break the .py where it has read its stdin."""
    lab.edit(lab.program, '        guest = parse_guest(xml)\n', f'        {code}\n')


def killed_having_read(lab):
    having_read(lab, 'os.kill(os.getpid(), 9)')
    return 137


def crashed_having_read(lab):
    having_read(lab, 'os._exit(70)')
    return 70


def stuck(lab):
    """The time is over."""
    lab.edit(lab.program, 'WHOLE_SECONDS = 8', 'WHOLE_SECONDS = 1')
    having_read(lab, 'select.select([], [], [])')
    return 142


NEVER_READ = [no_interpreter, not_executable, no_program, syntax_error, broken_library]
READ = [killed_having_read, crashed_having_read]
BREAKS = [*NEVER_READ, *READ, killed, stuck]


def line(lab, status, what, warning=''):
    """The fallback's line."""
    return (
        f'{warning}fbm hook on cmp1: guest {NAME} {what}: the hook itself is broken: '
        f'/usr/bin/python3 -IS {lab.program} ended with status {status}; '
        'run "fbm-status hook check"'
    )


REFUSED = 'may not run here, where file-backed memory is enabled'
PASSED = 'is let through unchecked'


def last_line(done):
    """Python may have printed its own error before."""
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize('break_it', BREAKS)
def test_an_enabled_host_takes_no_guest_of_nova_unchecked(lab, break_it):
    status = break_it(lab)
    done = lab.run('prepare', NOVA_GUEST)
    # libvirt calls both for a guest that arrives by live migration.
    if break_it is not stuck:
        assert lab.run('migrate', NOVA_GUEST).returncode == 1
    assert (done.returncode, done.stdout) == (1, '')
    expected = line(lab, status, REFUSED)
    assert last_line(done) == expected
    if break_it not in (no_program, syntax_error, broken_library):
        assert done.stderr == f'{expected}\n'


@pytest.mark.parametrize(
    'changes',
    [
        {'configured': 'disabled'},
        {'hook_mode': 'warn'},
        {'version': 2},
        {'version': 11},
        {'valid_until_uptime': 1},
        {'valid_until_uptime': -1},
        {'valid_until_uptime': 10**30},
        {'valid_until_uptime': '9999999'},
        {'valid_until_uptime': None},
    ],
)
@pytest.mark.parametrize('break_it', [no_interpreter, crashed_having_read])
def test_everywhere_else_guests_pass(lab, break_it, changes):
    break_it(lab)
    lab.write_state(**changes)
    done = lab.run(xml=NOVA_GUEST)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr.count('\n') == 1
    assert done.stderr.startswith('warning: fbm hook on ')


def test_a_restore_passes(lab):
    status = no_interpreter(lab)
    done = lab.run('restore', NOVA_GUEST)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr == line(lab, status, PASSED, 'warning: ') + '\n'


def test_switched_off_it_says_nothing(lab):
    no_interpreter(lab)
    lab.write_state(hook_mode='off')
    done = lab.run(xml=NOVA_GUEST)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.mark.parametrize('text', [None, '', '{', '\0\xff', '"version": 1,\n"hook_mode"'])
def test_without_a_usable_state_guests_pass(lab, text):
    no_interpreter(lab)
    lab.state_file.unlink()
    if text is not None:
        lab.state_file.write_text(text)
    done = lab.run(xml=NOVA_GUEST)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr.startswith(f'warning: fbm hook on ?: guest {NAME} is let through')
    assert done.stderr.count('\n') == 1


def test_a_key_below_another_is_not_the_hosts(lab):
    no_interpreter(lab)
    lab.write_state(hook_mode='warn', store={'hook_mode': 'enforce', 'configured': 'x'})
    assert lab.run(xml=NOVA_GUEST).returncode == 0


@pytest.mark.parametrize('break_it', NEVER_READ)
def test_guests_of_others_pass_where_their_xml_is_still_there(lab, break_it):
    break_it(lab)
    done = lab.run(xml=FOREIGN)
    assert (done.returncode, done.stdout) == (0, '')
    assert PASSED in last_line(done)


@pytest.mark.parametrize('break_it', READ)
def test_guests_of_others_are_taken_for_those_of_nova_where_it_is_gone(lab, break_it):
    break_it(lab)
    assert lab.run(xml=FOREIGN).returncode == 1


def test_a_rest_that_python_left_is_not_taken_for_the_whole(lab):
    lab.edit(
        lab.program, 'xml = sys.stdin.buffer', 'os.read(0, 300); os._exit(70)\n        xml = 0'
    )
    assert lab.run(xml=NOVA_GUEST).returncode == 1


@pytest.mark.parametrize(
    'xml', ['', '\n', 'no XML', NOVA_GUEST.replace('\n', ''), NOVA_GUEST.rstrip()]
)
def test_what_may_be_of_nova_is_taken_for_it(lab, xml):
    no_interpreter(lab)
    assert lab.run(xml=xml).returncode == 1


def test_an_xml_without_an_end_stops_nothing(lab):
    """The hook takes no longer than it may, also where it waits for stdin."""
    lab.edit(lab.program, 'WHOLE_SECONDS = 8', 'WHOLE_SECONDS = 1')
    begun = time.monotonic()
    with subprocess.Popen(
        [*lab.shell, lab.hook, NAME, 'prepare', 'begin', '-'],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        child.stdin.write(NOVA_GUEST[:300])
        child.stdin.flush()
        assert child.wait(timeout=5) == 1
        assert child.stderr.read() == line(lab, 142, REFUSED) + '\n'
    assert time.monotonic() - begun < 4


def test_names_from_outside_are_made_harmless(lab):
    no_interpreter(lab)
    done = lab.run(xml=NOVA_GUEST, name='a\x1b[2J\n%s\\n')
    assert done.stderr.startswith('fbm hook on cmp1: guest (no printable name) may not')
    assert done.stderr.count('\n') == 1


def test_whatever_runs_libvirt_reads_nothing_from_it(lab):
    lab.program.write_text('print("<domain/>")\n')
    done = lab.run('migrate', NOVA_GUEST)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_it_needs_no_program_but_the_shell(lab):
    no_interpreter(lab)
    done = lab.run(xml=NOVA_GUEST, env={'PATH': '/nonexistent'})
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1


def test_an_error_inside_is_reported_without_a_traceback(lab):
    """An exception costs one line, and the state decides."""
    having_read(lab, '1 / 0')
    broken = (
        f'guest {NAME} %s: the hook itself is broken: ZeroDivisionError: division by zero; run '
        '"fbm-status hook check"\n'
    )
    done = lab.run(xml=NOVA_GUEST)
    assert done.returncode == 1
    assert done.stderr == 'fbm hook on cmp1: ' + broken % 'may not start here'
    lab.write_state(configured='disabled')
    done = lab.run(xml=NOVA_GUEST)
    assert done.returncode == 0
    assert done.stderr == 'warning: fbm hook on cmp1: ' + broken % 'starts here anyway'

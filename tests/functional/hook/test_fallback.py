# SPDX-License-Identifier: Apache-2.0
"""What the hook does where python3, or the .py, is broken."""

import subprocess

import pytest

from tests.hook_lab import NAME, domain
from tests.services.process import PATIENCE

NOVA_GUEST = domain()
FOREIGN = domain(metadata='')


START = '    # The default action ends'
PARSE = '        guest = parse_guest(xml)\n'


def no_interpreter(lab):
    lab.use_python('/nonexistent/python3')


def no_program(lab):
    """A file is there, but it is not executable code."""
    lab.state_file.chmod(0o644)
    lab.use_python(lab.state_file)


def put(old, new):
    return lambda lab: lab.edit(lab.program, old, new)


# How it is broken, and the exit status that the shell sees.
UNREAD = {
    'no interpreter': (no_interpreter, 127),
    'not a program': (no_program, 127),
    'no .py': (lambda lab: lab.program.unlink(), 127),
    'half a .py': (lambda lab: lab.program.write_text('import os\nif'), 1),
    'no library': (put('import pyexpat\n', 'import pyexpat_is_gone\n'), 1),
}
"""Before stdin was read."""
READ = {
    'killed': (put(PARSE, '        os.kill(os.getpid(), 9)\n'), 137),
    'crashed': (put(PARSE, '        os._exit(70)\n'), 70),
}
BREAKS = (
    UNREAD
    | READ
    | {
        'killed at once': (put(START, f'    os.kill(os.getpid(), 9)\n{START}'), 137),
    }
)


def line(lab, status, what, warning='', where=''):
    return (
        f'{warning}fbm hook{where}: guest {NAME} {what}: the hook itself is broken: '
        f'/usr/bin/python3 -IS {lab.program} ended with status {status}; '
        'run "fbm-status hook check"'
    )


REFUSED = 'may not run here, where file-backed memory is enabled'
PASSED = 'is let through unchecked'


def last_line(done):
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(('break_it', 'status'), BREAKS.values(), ids=BREAKS)
def test_an_enabled_host_takes_no_guest_of_nova_unchecked(lab, break_it, status):
    break_it(lab)
    # libvirt calls both for a guest that arrives by live migration.
    for operation in ('prepare', 'migrate'):
        done = lab.run(operation, NOVA_GUEST)
        assert (done.returncode, done.stdout) == (1, '')
        where = ' on cmp1' if operation == 'migrate' else ''
        assert last_line(done) == line(lab, status, REFUSED, where=where)
    # Of these Python reports something itself.
    if status != 1 and lab.program.exists():
        assert done.stderr.count('\n') == 1


def test_one_that_hangs_is_ended(lab):
    lab.edit(lab.program, 'WHOLE_SECONDS = 8', 'WHOLE_SECONDS = 1')
    lab.edit(lab.program, PARSE, '        select.select([], [], [])\n')
    done = lab.run('prepare', NOVA_GUEST)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == line(lab, 142, REFUSED) + '\n'


ELSEWHERE: dict[str, list[object]] = {
    'configured': ['disabled'],
    'hook_mode': ['warn'],
    'version': [2, 11],
    'valid_until_uptime': [1, -1, 10**30, '9999999', None],
}


@pytest.mark.parametrize(
    ('key', 'value'), [(key, value) for key, values in ELSEWHERE.items() for value in values]
)
@pytest.mark.parametrize('how', ['no interpreter', 'crashed'])
def test_everywhere_else_guests_pass(lab, how, key, value):
    BREAKS[how][0](lab)
    lab.write_state(**{key: value})
    done = lab.run(xml=NOVA_GUEST)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr.count('\n') == 1
    assert done.stderr.startswith('warning: fbm hook on ')


def test_a_restore_passes(lab):
    no_interpreter(lab)
    done = lab.run('restore', NOVA_GUEST)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr == line(lab, 127, PASSED, 'warning: ', ' on cmp1') + '\n'


def test_switched_off_it_is_silent(lab):
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


@pytest.mark.parametrize('how', UNREAD)
def test_guests_of_others_pass_where_their_xml_is_still_there(lab, how):
    UNREAD[how][0](lab)
    done = lab.run(xml=FOREIGN)
    assert (done.returncode, done.stdout) == (0, '')
    assert PASSED in last_line(done)


@pytest.mark.parametrize('how', READ)
def test_guests_of_others_are_taken_for_those_of_nova_where_it_is_gone(lab, how):
    READ[how][0](lab)
    assert lab.run(xml=FOREIGN).returncode == 1


def test_a_rest_that_python_left_is_not_taken_for_the_whole(lab):
    lab.edit(lab.program, '        xml = sys.stdin', '        os.read(0, 300); os._exit(70)\n#')
    done = lab.run(xml=NOVA_GUEST)
    assert done.returncode == 1
    assert done.stderr == line(lab, 70, REFUSED) + '\n'


@pytest.mark.parametrize(
    'xml', ['', '\n', 'no XML', NOVA_GUEST.replace('\n', ''), NOVA_GUEST.rstrip()]
)
def test_what_may_be_of_nova_is_taken_for_it(lab, xml):
    no_interpreter(lab)
    assert lab.run(xml=xml).returncode == 1


def test_an_xml_without_an_end_stops_nothing(lab):
    """The hook takes no longer than it may, also where it waits for stdin."""
    lab.edit(lab.program, 'WHOLE_SECONDS = 8', 'WHOLE_SECONDS = 1')
    with subprocess.Popen(
        [*lab.shell, lab.hook, NAME, 'prepare', 'begin', '-'],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        child.stdin.write(NOVA_GUEST[:300])
        child.stdin.flush()
        # stdin stays open for longer.
        assert child.wait(timeout=PATIENCE) == 1
        assert child.stderr.read() == line(lab, 142, REFUSED) + '\n'


def test_names_from_outside_are_made_harmless(lab):
    no_interpreter(lab)
    done = lab.run(xml=NOVA_GUEST, name='a\x1b[2J\n%s\\n')
    assert done.stderr.startswith('fbm hook: guest (no printable name) may not')
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
    lab.edit(lab.program, PARSE, '        1 / 0\n')
    broken = (
        f'guest {NAME} %s: the hook itself is broken: ZeroDivisionError: division by zero; run '
        '"fbm-status hook check"\n'
    )
    done = lab.run(xml=NOVA_GUEST)
    assert done.returncode == 1
    assert done.stderr == 'fbm hook: ' + broken % 'may not start here'

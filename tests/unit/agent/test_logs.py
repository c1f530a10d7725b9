# SPDX-License-Identifier: Apache-2.0
"""nova.conf's logging is meant for Nova: it must never stop the agent."""

import contextlib
import logging
import os
import pathlib
import sys

import pytest
from oslo_log import handlers

from fbm_placement.agent import logs

CASES = pathlib.Path(__file__).parents[2] / 'cases' / 'nova-conf'
MUTED = CASES / 'logging-root-is-null.conf'

pytestmark = pytest.mark.usefixtures('kept_logging')


def logged(capfd, *, level=logging.INFO):
    """Return what stderr gets from the set-up, and then from one line of the agent's."""
    logging.getLogger('fbm_placement.agent').log(level, 'the next line')
    out, err = capfd.readouterr()
    assert out == ''
    # Old releases of oslo.log end each line with the end of a colour.
    return [line.removesuffix('\x1b[00m') for line in err.splitlines()]


NO_HANDLER = (
    '[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n'
    '[logger_root]\nlevel=INFO\nhandlers=h\n[handler_h]\nargs=()\nclass='
)


@pytest.mark.parametrize(
    ('lines', 'reason'),
    [
        (
            'use_syslog = true\nsyslog_log_facility = LOG_LOCAL9',
            '[DEFAULT]syslog_log_facility: syslog facility must be one of:',
        ),
        (
            'default_log_levels = amqp=WARN,fbm_placement=LOUD',
            "[DEFAULT]default_log_levels: Unknown level: 'LOUD'",
        ),
        (
            'default_log_levels = fbm_placement=99',
            '[DEFAULT]default_log_levels: not even errors of the logger fbm_placement',
        ),
        ('log_dir = {tmp}/a-file', "[DEFAULT]log_dir: [Errno 20] Not a directory: '{tmp}/a-file"),
        ('log_dir = {tmp}/none', '[DEFAULT]log_dir: [Errno 2] No such file or directory'),
        (
            'log_config_append = {tmp}/none.ini',
            '[DEFAULT]log_config_append: Error loading logging config {tmp}/none.ini',
        ),
        (
            'log_config_append = {tmp}/a-file',
            '[DEFAULT]log_config_append: Error loading logging config {tmp}/a-file',
        ),
        (
            'log_config_append = {tmp}/no-such-class.ini',
            "[DEFAULT]log_config_append: No module named 'no_such_module'",
        ),
        (
            f'log_config_append = {MUTED}',
            '[DEFAULT]log_config_append: not even errors of the logger fbm_placement would be',
        ),
        (
            'log_config_append = {tmp}/muted.ini',
            '[DEFAULT]log_config_append: not even errors of the logger fbm_placement would be',
        ),
        ('use_journal = true', '[DEFAULT]use_journal: Systemd bindings do not exist'),
        ('publish_errors = true', "[DEFAULT]publish_errors: No module named 'oslo_messaging'"),
        ('rate_limit_burst = many', '[DEFAULT]rate_limit_burst: invalid literal for int()'),
        (
            'rate_limit_burst = 9\nrate_limit_interval = 9\nrate_limit_except_level = LOUD',
            # An old oslo.log lacks what it reads, and finds fault with the burst.
            '[DEFAULT]rate_limit_',
        ),
        (
            'logging_default_format_string = %(no_such_field)s',
            '[DEFAULT]logging_default_format_string: not even errors of the logger',
        ),
        (
            'logging_exception_prefix = %(message',
            '[DEFAULT]logging_exception_prefix: not even errors of the logger',
        ),
        ('use_stderr = perhaps', "[DEFAULT]use_stderr: Unexpected boolean value 'perhaps'"),
        (
            'log_dir = {tmp}\nlog_rotation_type = daily',
            '[DEFAULT]log_rotation_type: ',
        ),
        (
            'use_journal = true\ndefault_log_levels = amqp=LOUD',
            (
                '[DEFAULT]use_journal: Systemd bindings do not exist; '
                "[DEFAULT]default_log_levels: Unknown level: 'LOUD'"
            ),
        ),
    ],
)
def test_a_wrong_option_is_one_warning_and_stderr_gets_the_rest(
    home, capfd, monkeypatch, lines, reason
):
    """It names the option and its group; none stops the agent, none mutes it."""
    monkeypatch.setattr('oslo_log.handlers.journal', None)
    home.write('not an ini file\n', '../a-file')
    home.write(f'{NO_HANDLER}no_such_module.Handler\n', '../no-such-class.ini')
    home.write(
        f'{NO_HANDLER}NullHandler\n'.replace('keys=root', 'keys=root,own')
        + '[logger_own]\nqualname=fbm_placement\nlevel=CRITICAL\npropagate=0\nhandlers=h\n',
        '../muted.ini',
    )
    home.write('[DEFAULT]\n' + lines.replace('{tmp}', str(home.path)) + '\n')
    logs.as_a_service(home.load(), 'fbm-agent')
    warning, line = logged(capfd)
    assert (
        f'WARNING fbm_placement.agent.logs [-] Logging: {reason}'.replace('{tmp}', str(home.path))
        in warning
    )
    assert warning.endswith('; logging to stderr instead')
    assert line.endswith('the next line')


def test_a_log_file_is_left_to_nova_compute(home, capfd, tmp_path):
    """Two writers would rotate it away from each other; with a flag it is the agent's."""
    home.write(f'[DEFAULT]\nlog_file = {tmp_path}/nova-compute.log\n')
    logs.as_a_service(home.load(), 'fbm-agent')
    logging.getLogger('fbm_placement').info('ours')
    assert not (tmp_path / 'nova-compute.log').exists()
    assert 'is left to nova-compute' in ''.join(capfd.readouterr())
    # argparse takes a flag's first letters for it.
    logs.as_a_service(home.load('--log-f', f'{tmp_path}/ours.log'), 'fbm-agent')
    logging.getLogger('fbm_placement').info('ours')
    assert 'ours' in (tmp_path / 'ours.log').read_text()


@pytest.mark.parametrize('set_up', [logs.to_stderr, logs.as_a_service])
def test_a_password_in_a_url_is_not_logged(home, capfd, set_up):
    """A URL is logged as it is by keystoneauth."""
    home.write('[DEFAULT]\ndebug = true\n')
    set_up(home.load(), 'fbm-agent')
    logging.getLogger('fbm_placement').debug('REQ: curl "%s"', 'http://bob:hunter2@host/x')
    logged = ''.join(capfd.readouterr())
    assert 'http://host/x' in logged
    assert 'hunter2' not in logged


@pytest.mark.parametrize(
    ('handler', 'reason'),
    [
        ('NullHandler', 'not even errors of the logger fbm_placement would be written'),
        ('no_such_module.Handler', "No module named 'no_such_module'"),
    ],
)
def test_what_a_reload_makes_of_logging(home, capfd, handler, reason):
    """oslo.log reads a changed file again: its handlers would show secrets, or nothing at all."""
    file = home.write(f'{NO_HANDLER}StreamHandler\n', '../logging.ini')
    home.write(f'[DEFAULT]\nlog_config_append = {file}\n')
    conf = home.load()
    logs.as_a_service(conf, 'fbm-agent')
    os.utime(file, (1, 1))
    logs.reload(conf)
    logging.getLogger('fbm_placement').info('http://bob:hunter2@host/x')
    assert capfd.readouterr().err == 'http://host/x\n'
    home.write(f'{NO_HANDLER}{handler}\n', '../logging.ini')
    logs.reload(conf)
    warning, line = logged(capfd)
    assert f'Logging: [DEFAULT]log_config_append: {reason}' in warning
    assert line.endswith('the next line')


@pytest.mark.parametrize('value', ['perhaps', '$nothing', ''])
def test_a_wrong_flag_in_a_file(home, capfd, value):
    """oslo.config checks flags while it parses, and would end the program."""
    home.write(f'[DEFAULT]\ndebug = {value}\nlog_config_append = /none\n')
    logs.as_a_service(home.load(), 'fbm-agent')
    warning, line = logged(capfd)
    assert 'Logging: [DEFAULT]log_config_append: ' in warning
    assert line.endswith('the next line')
    home.write(f'[DEFAULT]\ndebug = {value}\n')
    logs.as_a_service(home.load(), 'fbm-agent')
    warning, line = logged(capfd)
    assert 'Logging: [DEFAULT]debug: ' in warning
    assert line.endswith('the next line')
    logs.to_stderr(home.load(), 'fbm-status')
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith('fbm-status: WARNING: Logging: [DEFAULT]debug: ')


def test_the_command_line_comes_before_files(home, capfd):
    home.write('[DEFAULT]\ndebug = false\nlog_dir = /none\nlog_date_format = %Y\n')
    flags = ('--debug', f'--log-dir={home.path}', '--log-date-format', 'today')
    conf = home.load(*flags)
    assert (conf.debug, conf.log_date_format) == (True, 'today')
    logs.as_a_service(conf, 'fbm-agent')
    logging.getLogger('fbm_placement').debug('one')
    (file,) = home.path.glob('*.log')
    assert file.read_text().startswith('today')
    assert capfd.readouterr() == ('', '')
    assert home.load('--nodebug').debug is False


@contextlib.contextmanager
def journal_in(path, monkeypatch):
    """A file in place of the journal's socket, known by its device and inode as that is."""
    with path.open('w') as stream, monkeypatch.context() as patch:
        status = os.fstat(stream.fileno())
        patch.setenv('JOURNAL_STREAM', f'{status.st_dev}:{status.st_ino}')
        patch.setattr(sys, 'stderr', stream)
        patch.setattr(sys, 'stdout', stream)
        yield


@pytest.mark.parametrize(
    ('set_up', 'priorities'),
    [(logs.to_stderr, '34'), (logs.as_a_service, '346')],
)
def test_lines_in_the_journal_have_their_level(home, tmp_path, monkeypatch, set_up, priorities):
    """Each line, those of a traceback too."""
    home.write('[DEFAULT]\n')
    with journal_in(tmp_path / 'journal', monkeypatch):
        set_up(home.load(), 'fbm-agent')
        for level in (logging.ERROR, logging.WARNING, logging.INFO):
            logging.getLogger('fbm_placement').log(level, 'one\nand two')
    lines = (tmp_path / 'journal').read_text().splitlines()
    assert [line[:3] for line in lines] == [f'<{one}>' for one in priorities for _ in range(2)]


def test_other_streams_have_no_priority(home, capfd, monkeypatch):
    monkeypatch.setenv('JOURNAL_STREAM', '1:2')
    home.write('[DEFAULT]\n')
    logs.to_stderr(home.load(), 'fbm-status')
    logging.getLogger('fbm_placement').error('one')
    assert capfd.readouterr().err == 'fbm-status: ERROR: one\n'


class Journal:
    def __init__(self):
        self.sent = []

    def send(self, message, **_fields):
        self.sent.append(message)


@pytest.mark.parametrize(
    ('options', 'places'),
    [
        ('use_syslog', ['syslog']),
        ('use_syslog use_stderr', ['syslog']),
        ('use_journal', ['journal']),
        ('use_journal use_stderr', ['journal']),
        ('use_journal use_syslog', ['journal']),
        ('use_stderr', ['stderr']),
        ('', ['stderr']),
    ],
)
def test_a_line_reaches_the_journal_once(home, tmp_path, monkeypatch, options, places):
    """It reads stderr, and what goes to syslog, too."""
    native, lines = Journal(), []
    monkeypatch.setattr(handlers, 'journal', native)
    monkeypatch.setattr(handlers.syslog, 'syslog', lambda _priority, text: lines.append(text))
    home.write('[DEFAULT]\n' + ''.join(f'{option} = true\n' for option in options.split()))
    with journal_in(tmp_path / 'journal', monkeypatch):
        logs.as_a_service(home.load(), 'fbm-agent')
        logging.getLogger('fbm_placement').error('one')
    streamed = (tmp_path / 'journal').read_text().splitlines()
    seen = {'syslog': lines, 'journal': native.sent, 'stderr': streamed}
    assert {place: len(found) for place, found in seen.items() if found} == dict.fromkeys(
        places, 1
    )

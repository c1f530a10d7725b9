# SPDX-License-Identifier: Apache-2.0
"""``fbm-agent`` from its command line to its exit code, over a Placement in memory."""

import functools
import os
import signal
import socket
import threading
import time

import pytest

from fbm_placement.agent import reconcile
from fbm_placement.cmd import agent as command
from tests.unit import fake_placement
from tests.unit.fake_placement import NAME, TOKEN, TRAITS, UUID
from tests.unit.nova_conf_text import ENABLED

pytestmark = pytest.mark.usefixtures('kept_logging')

WANTED = fake_placement.inventory(total=1048576, reserved=0, ratio=1.0)


@pytest.fixture
def host(nova_conf, compute_id):
    compute_id()
    nova_conf(ENABLED)
    return nova_conf


def test_once(host, placement, capsys):
    assert command.main(['--once']) == 0
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    out, err = capsys.readouterr()
    assert out.startswith(f'enabled: {NAME} offers 1048576 MiB, 0 MiB allocated (total 65536 -> ')
    assert len(out.splitlines()) == 1
    assert err == ''
    assert command.main(['--once']) == 0
    assert capsys.readouterr().out.endswith('(nothing to change)\n')


def test_once_on_a_disabled_host(host, placement, capsys):
    host('')
    assert command.main(['--once']) == 0
    assert capsys.readouterr().out.startswith('disabled: ')
    assert placement.node.traits == TRAITS


@pytest.mark.parametrize(
    ('failure', 'text'),
    [
        ({'status_code': 503, 'text': 'away'}, '503'),
        ({'text': '<html>'}, 'not a JSON object'),
        ({'status_code': 401, 'text': ''}, 'the token was refused'),
    ],
)
@pytest.mark.parametrize('flag', ['--once', '--dry-run', '--withdraw'])
def test_a_failure_exits_1(host, placement, capsys, flag, failure, text):
    placement.failure = failure
    assert command.main([flag]) == 1
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('fbm-agent: GET /')
    assert text in err
    assert len(err.splitlines()) == 1


def test_what_is_not_ready_exits_1(host, placement, capsys):
    placement.node.inventories.clear()
    assert command.main(['--once']) == 1
    assert 'nova-compute has not created the MEMORY_MB inventory' in capsys.readouterr().err
    placement.providers.clear()
    assert command.main(['--once']) == 1
    assert 'fbm-agent: Placement has no resource provider with UUID' in capsys.readouterr().err


@pytest.mark.parametrize('args', [['--once'], ['--dry-run'], []])
def test_a_forbidden_configuration_exits_2(host, placement, capsys, args):
    """Every reason has its line on stderr, and no request is sent."""
    host(
        '[libvirt]\nfile_backed_memory = 100\nvirt_type = lxc\n[file_backed_memory]\ninterval = 1'
    )
    assert command.main(args) == 2
    out, err = capsys.readouterr()
    assert out == ''
    reasons = err.splitlines()
    assert len(reasons) == 4
    assert all(reason.startswith('fbm-agent: [') for reason in reasons)
    assert '[file_backed_memory]interval' in err
    assert placement.requests == []


def test_no_configuration_exits_2(home, capsys):
    assert command.main(['--once']) == 2
    assert capsys.readouterr().err.startswith('fbm-agent: no configuration: expected nova.conf')


@pytest.mark.parametrize('args', [['--once'], []])
def test_a_wrong_placement_section_exits_2(home, compute_id, capsys, args):
    """What no waiting fixes ends the daemon too, with 2, so that systemd doesn't try again."""
    compute_id()
    home.write('[placement]\nauth_type = nonsense\n')
    assert command.main(args) == 2
    assert 'fbm-agent: [placement]auth_type: The plugin nonsense' in capsys.readouterr().err


def test_interrupted_exits_130(host, monkeypatch, capsys):
    """Ctrl-C during a pass is no traceback."""

    def interrupt(self, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.Agent, 'observe', interrupt)
    assert command.main(['--once']) == 130
    assert capsys.readouterr().err == ''


def test_dry_run(host, placement, capsys, monkeypatch):
    """A small table; 1, as Placement is not as it should be."""
    monkeypatch.setattr('sys.argv', ['fbm-agent', '--dry-run'])
    assert command.main() == 1
    out, err = capsys.readouterr()
    assert [line.rstrip() for line in out.splitlines()] == [
        f'Resource provider {NAME} ({UUID})',
        '  field                           is       should be',
        '  total                           65536    1048576',
        '  reserved                        512      0',
        '  max_unit                        65536    1048576',
        '  allocation_ratio                1.5      1.0',
        '  CUSTOM_FILE_BACKED_MEMORY       not set  set',
        '  CUSTOM_FILE_BACKED_MEMORY_DISK  not set  set',
    ]
    assert err.startswith('fbm-agent: dry run, nothing was written')
    assert len(err.splitlines()) == 1
    assert placement.writes == []
    assert command.main(['--once']) == 0
    capsys.readouterr()
    assert command.main(['--dry-run']) == 0
    out, err = capsys.readouterr()
    assert 'As it should be: enabled' in out
    assert err == ''
    placement.node.inventories.clear()
    assert command.main(['--dry-run']) == 1
    assert 'is nova-compute running on this host?' in capsys.readouterr().out


def test_withdraw(host, placement, capsys):
    """Also with a configuration that forbids to run."""
    assert command.main(['--once']) == 0
    host('[libvirt]\nfile_backed_memory = 100\nvirt_type = lxc\n')
    assert command.main(['--withdraw']) == 0
    assert placement.node.traits == TRAITS
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert 'CUSTOM_FILE_BACKED_MEMORY set -> not set' in capsys.readouterr().out


def test_a_dry_run_is_one_pass(host, placement, capsys):
    host(ENABLED)
    together = (['--dry-run'], ['--once', '--dry-run'], ['--dry-run', '--once'])
    results = [(command.main(flags), *capsys.readouterr()) for flags in together]
    assert results == [results[0]] * 3
    assert results[0][0] == 1
    assert placement.writes == []


@pytest.mark.parametrize('flags', [('--once', '--withdraw'), ('--dry-run', '--withdraw')])
@pytest.mark.parametrize('order', [1, -1])
def test_switches_that_exclude_each_other(host, placement, capsys, flags, order):
    assert command.main(flags[::order]) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert (
        err == f'fbm-agent: {flags[0]} and {flags[1]} exclude each other; see fbm-agent --help\n'
    )
    assert placement.requests == []


@pytest.mark.parametrize('value', ['true', 'perhaps'])
@pytest.mark.parametrize('prefix', ['', '--', '#', '#--'])
def test_no_file_sets_a_switch(host, placement, capsys, monkeypatch, value, prefix):
    """``withdraw = true`` in nova.conf would uninstall the host with each start of the agent."""
    for name in ('once', 'dry-run', 'dry_run', 'withdraw'):
        monkeypatch.setenv(f'OS_DEFAULT__{name.upper()}', value)
    lines = [f'{prefix}{name} = {value}\n' for name in ('once', 'dry_run', 'dry-run', 'withdraw')]
    host(f'[DEFAULT]\n{"".join(lines)}{ENABLED}')
    assert command.main(['--once']) == 0
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    assert capsys.readouterr().err == ''


def test_warnings_and_errors_are_on_stderr(host, placement, capsys):
    """A reserve, with which nova-compute 34 does not start, and too much allocated."""
    host(ENABLED.replace('reserved_host_memory_mb = 0', 'reserved_host_memory_mb = 512'))
    placement.allocate(2000000)
    assert command.main(['--once']) == 0
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith('fbm-agent: WARNING: [DEFAULT]reserved_host_memory_mb is 512')
    assert error.startswith(f'fbm-agent: ERROR: {NAME}: 1 instance holds 2000000 MiB')
    assert placement.node.inventories['MEMORY_MB']['reserved'] == 512


def test_debug_shows_no_secret(host, placement, capsys):
    assert command.main(['--once', '--debug']) == 0
    out, err = capsys.readouterr()
    assert '/resource_providers/' in err
    assert TOKEN not in out + err


def test_help(capsys):
    assert command.main(['--help']) == 0
    text = ' '.join(capsys.readouterr().out.split())
    parts = (
        '--once',
        '--dry-run',
        '--withdraw',
        '--config-file',
        'allocation_ratio 1.0',
        '[libvirt]file_backed_memory',
        '0 Placement is as it should be',
        '2 the configuration forbids to run',
        'SIGHUP',
    )
    assert [part for part in parts if part not in text] == []


def test_an_unknown_flag_exits_2(host, capsys):
    assert command.main(['--nonsense']) == 2
    assert '--nonsense' in capsys.readouterr().err


@pytest.mark.parametrize('flag', ['--once', '--dry-run'])
def test_once_leaves_the_log_directory_alone(host, placement, home, flag):
    """Run by root it would leave a file there that the service can't write."""
    folder = home.path / 'log'
    folder.mkdir()
    host(ENABLED + f'[DEFAULT]\nlog_dir = {folder}\n')
    command.main([flag])
    assert list(folder.iterdir()) == []


# The service, in this process: it ends by a signal.


class Service:
    """Listens as systemd does, and ends the service with a signal when it is ready."""

    def __init__(self, address):
        self.address = address
        self.messages = []
        self.thread_id = threading.get_ident()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(20)
        self.sock.bind(address)
        self.thread = threading.Thread(target=self._listen)

    def _listen(self):
        while True:
            message = self.sock.recv(4096).decode()
            self.messages.append(message)
            if message.startswith('READY=1'):
                signal.pthread_kill(self.thread_id, signal.SIGTERM)
            if message == 'STOPPING=1\nSTATUS=':
                return


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Listen as systemd does. The listener starts within the block that holds signals back."""
    service = Service(str(tmp_path / 'notify'))
    monkeypatch.setenv('NOTIFY_SOCKET', service.address)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    service.thread.start()
    yield service
    service.thread.join()
    service.sock.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_service(host, placement, service, home):
    """READY after a good pass; SIGTERM ends it with 0, and Placement stays as it is."""
    log_file = home.path / 'agent.log'
    host(ENABLED)
    assert command.main(['--log-file', str(log_file)]) == 0
    service.thread.join()
    ready, stopping = service.messages
    assert ready.startswith(f'READY=1\nSTATUS=enabled: {NAME} offers 1048576 MiB')
    assert stopping == 'STOPPING=1\nSTATUS='
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    text = log_file.read_text()
    assert 'file-backed memory enabled, 1048576 MiB; a pass every 60 s' in text
    assert str(home.folder / 'nova.conf') in text
    assert TOKEN not in text


@pytest.mark.parametrize(
    'line', ['log_config_append = /none.ini', 'default_log_levels = a=LOUD', 'debug = perhaps']
)
def test_a_wrong_logging_option_stops_no_service(host, placement, service, line, capfd):
    host(f'{ENABLED}[DEFAULT]\n{line}\n')
    assert command.main([]) == 0
    service.thread.join()
    assert placement.node.inventories['MEMORY_MB'] == WANTED
    logged = ''.join(capfd.readouterr())
    assert f'Logging: [DEFAULT]{line.split()[0]}: ' in logged
    assert 'Ready: enabled' in logged


def test_a_reason_in_the_journal_has_its_level(host, home, placement, tmp_path, monkeypatch):
    """An error ends the service; oslo.config warns, once in a process, before there is a log."""
    host('')
    home.write('[libvirt]\nvirt_type = lxc\nfile_backed_memory = 7\n[DEFAULT]\nlogdir = /none\n')
    with (tmp_path / 'journal').open('w') as stream, monkeypatch.context() as patch:
        status = os.fstat(stream.fileno())
        patch.setenv('JOURNAL_STREAM', f'{status.st_dev}:{status.st_ino}')
        patch.setattr('sys.stderr', stream)
        assert command.main(['--once']) == 2
    lines = (tmp_path / 'journal').read_text().splitlines()
    assert lines[0].startswith('<4>fbm-agent: WARNING: Deprecated: Option "logdir"')
    assert len(lines) == 4
    assert all(line.startswith('<3>fbm-agent: [') for line in lines[1:])


@pytest.fixture
def terminate(host, monkeypatch, tmp_path):
    """Return a function that sends SIGTERM to a service without systemd."""
    monkeypatch.delenv('NOTIFY_SOCKET', raising=False)
    host(ENABLED + f'[DEFAULT]\nlog_file = {tmp_path}/agent.log\n')
    return functools.partial(signal.pthread_kill, threading.get_ident(), signal.SIGTERM)


def test_service_sends_no_request_once_asked_to_end(placement, terminate):
    """SIGTERM during a request: that one is finished, the next one isn't sent."""

    def before(method, path):
        if len(placement.requests) == 3:
            terminate()

    placement.before = before
    assert command.main([]) == 0
    assert len(placement.requests) == 3


def test_a_wait_within_a_pass_ends_at_once(placement, monkeypatch, terminate):
    """SIGTERM while the agent waits after a conflict ends the wait, and no try follows."""
    monkeypatch.setattr(reconcile, 'FIRST_CONFLICT_WAIT_SECONDS', 40.0)

    def before(method, path):
        if path.endswith('/inventories/MEMORY_MB'):
            placement.node.generation += 1
            terminate()

    placement.before = before
    begin = time.monotonic()
    assert command.main([]) == 0
    assert time.monotonic() - begin < 15
    assert placement.requests[-1][0] == 'PUT'


def test_service_gives_signs_of_life_before_each_request(host, placement, service, monkeypatch):
    """A slow Placement is no reason for the watchdog to bite."""
    monkeypatch.setenv('WATCHDOG_USEC', '60000000')
    monkeypatch.delenv('WATCHDOG_PID', raising=False)
    assert command.main([]) == 0
    service.thread.join()
    before_ready = service.messages[: [m[:5] for m in service.messages].index('READY')]
    assert before_ready == ['WATCHDOG=1'] * len(placement.requests)
    assert len(before_ready) > 5

# SPDX-License-Identifier: Apache-2.0
"""Input that is never meant: each ends in one clear line, never in a traceback."""

import socket

import pytest

from fbm_placement import errors
from fbm_placement.agent import provider
from fbm_placement.agent.systemd import Notifier
from fbm_placement.cmd import agent as command
from fbm_placement.placement import session
from fbm_placement.text import one_line
from tests.unit.nova_conf_text import ENABLED

KEYSTONE = 'http://keystone.test/v3'
PASSWORD_AUTH = f"""
[placement]
auth_type = v3password
auth_url = {KEYSTONE}
username = nova
user_domain_id = default
project_name = service
project_domain_id = default
endpoint_override = http://placement.test
"""


def test_a_file_that_is_not_utf8(home):
    """Latin-1 in a comment is enough."""
    (home.folder / 'nova.conf').write_bytes(b'# M\xfcller\n')
    with pytest.raises(errors.ConfigurationError) as caught:
        home.load()
    assert 'not UTF-8' in str(caught.value)


def test_a_directory_for_a_file(home, tmp_path):
    """--config-file where --config-dir was meant."""
    with pytest.raises(errors.ConfigurationError) as caught:
        home.load('--config-file', str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_dollar_in_a_password_is_not_repeated(home):
    """What follows the $ is a part of the password."""
    home.write(PASSWORD_AUTH + 'password = open$esame99\n')
    with pytest.raises(errors.ConfigurationError) as caught:
        session.connect(home.load())
    assert 'esame99' not in str(caught.value)
    assert 'write $$' in str(caught.value)


@pytest.mark.parametrize('timeout', ['0', '-1'])
def test_a_timeout_of_no_time(home, timeout):
    """Refused before urllib3 trips over it."""
    home.write(f'[placement]\nauth_type = none\nendpoint = http://x\ntimeout = {timeout}\n')
    with pytest.raises(errors.ConfigurationError) as caught:
        session.connect(home.load())
    assert '[placement]timeout is' in str(caught.value)


def test_a_status_line_that_is_no_unicode(tmp_path):
    """A lone surrogate comes from JSON and can't be encoded."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = str(tmp_path / 'notify')
        listener.bind(address)
        Notifier({'NOTIFY_SOCKET': address}).send(STATUS='a \ud800 b')
        assert listener.recv(100).startswith(b'STATUS=a')


def test_a_host_name_that_is_too_long(monkeypatch):
    """The resolver's IDNA codec refuses it."""
    monkeypatch.setattr(socket, 'gethostname', lambda: 'a' * 64)
    assert provider.hypervisor_hostnames() == ('a' * 64,)


def test_an_option_saves_from_a_compute_id_that_is_unreadable(home, nova_conf):
    """Nothing of the host is read where an option names the provider."""
    (home.path / 'state' / 'compute_id').mkdir()
    conf = nova_conf('')
    uuid = '26a0f7a1-0000-4000-8000-000000000000'
    assert provider.lookup_for(uuid, conf).uuid == uuid
    with pytest.raises(errors.NotReadyError):
        provider.lookup_for(None, conf)


@pytest.mark.usefixtures('kept_logging')
def test_a_wrong_interval_does_not_forbid_to_uninstall(nova_conf, compute_id, placement):
    """Withdrawing needs the provider and nothing else."""
    compute_id()
    nova_conf(f'{ENABLED}[file_backed_memory]\ninterval = 1\n')
    assert command.main(['--withdraw']) == 0
    assert command.main(['--once']) == 2


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('a\nb\x1b[31mc\x00d', 'a b [31mc d'),
        ('see http://nova:s3cret@host/x', 'see http://host/x'),
        ('no (HTTP 401) (Request-ID: req-0a1b2c3d-0000-4000-8000-000000000000)', 'no (HTTP 401)'),
        ('tab\tand \u2028 line', 'tab and line'),
    ],
)
def test_others_words_fit_into_a_line(text, line):
    """No control characters, no user names in URLs, no request ids, which differ each time."""
    assert one_line(text) == line

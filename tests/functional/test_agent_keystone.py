# SPDX-License-Identifier: Apache-2.0
"""The agent as a service user in a real Keystone: login, roles, tokens, catalogue, secrets.

The least role that Placement's own policy asks for is ``service``, in whatever project;
``reader``, ``member`` and ``manager`` may not even read.
"""

import datetime
import json
import re
import uuid
from dataclasses import replace

import pytest

from tests.services.agent import AgentHost
from tests.services.expected import add_foreign_data, foreign, is_enabled, own_traits
from tests.services.placement import PlacementServer
from tests.services.process import free_port
from tests.services.proxy import Proxy

TOKENS = '/v3/auth/tokens'


@pytest.fixture(scope='module')
def account(keystone):
    return keystone.create_user('nova', roles=['service'])


@pytest.fixture
def host(secured_compute, account, tmp_path):
    return AgentHost(tmp_path, secured_compute, account.options())


@pytest.fixture
def logins(keystone, host):
    """A proxy before Keystone, which sees each login of the agents on `host`."""
    with Proxy(keystone.url) as proxy:
        host.configure('placement', auth_url=f'{proxy.url}/v3')
        yield proxy


def tokens(logins):
    found = []
    for answer in logins.answers:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        if 'x-subject-token' in headers:
            found.append(headers['x-subject-token'])
    return found


def check_secrets(text, account, logins):
    handed_out = tokens(logins)
    assert handed_out
    for secret in (account.password, *handed_out):
        assert secret not in text
        # Nor a good part of one.
        assert secret[:20] not in text


# Login and roles


def test_the_endpoint_comes_from_the_catalogue(host, secured_compute):
    """Nothing but a user is in [placement]: neither an endpoint nor a service type."""
    add_foreign_data(secured_compute)
    before = foreign(secured_compute)
    assert 'endpoint' not in host.path.read_text().partition('[placement]')[2]
    assert host.once().is_clean
    assert is_enabled(secured_compute)
    assert foreign(secured_compute) == before
    assert host.run('--withdraw').status == 0
    assert own_traits(secured_compute) == set()


def test_a_lesser_role_is_an_error_that_names_the_role_to_give(keystone, host, secured_compute):
    account = keystone.create_user(f'member-{uuid.uuid4()}', roles=['member'])
    host.configure('placement', **account.options())
    before = secured_compute.everything()
    ended = host.once()
    assert ended.status == 1
    assert '403' in ended.line
    assert 'role "service"' in ended.line
    assert account.password not in ended.line
    assert secured_compute.everything() == before


@pytest.mark.parametrize('flags', [(), ('--debug',)])
def test_a_wrong_password_is_an_error_that_does_not_show_it(host, secured_compute, flags):
    host.configure('placement', password='open-sesame-1234567')
    ended = host.once(*flags)
    assert ended.status == 1
    (line,) = [line for line in ended.stderr.splitlines() if 'DEBUG' not in line]
    assert 'Keystone answered 401' in line
    assert '[placement]username, password' in line
    assert 'open-sesame' not in ended.stderr + ended.stdout
    assert own_traits(secured_compute) == set()


# Tokens


def test_tokens_are_renewed_while_it_runs(keystone, host, secured_compute, account, logins):
    """One that grows old, before its end; one that Keystone disowns, at the next request."""

    def shorten(request, answer):
        # keystoneauth asks for a new token as soon as one has less than 120 s left.
        if request.path == TOKENS and request.method == 'POST':
            body = json.loads(answer.body)
            now = datetime.datetime.now(datetime.UTC)
            ends = now + datetime.timedelta(seconds=lifetime)
            body['token']['expires_at'] = f'{ends:%Y-%m-%dT%H:%M:%S.%fZ}'
            return replace(answer, body=json.dumps(body).encode())
        return None

    logins.after = shorten
    lifetime = 100
    with host.ready_daemon('--debug') as agent:
        # Good for no more than the request that it was fetched for.
        assert len(tokens(logins)) > 3
        lifetime = 1000
        agent.pass_now()
        count = len(tokens(logins))
        # Kept as long as it is good.
        agent.pass_now()
        assert len(tokens(logins)) == count

        keystone.forget_tokens()
        secured_compute.overwrite_inventory(total=4096)
        assert 'enabled' in agent.pass_now()
        assert is_enabled(secured_compute)
        assert len(tokens(logins)) == count + 1
        assert agent.log_lines(' ERROR ') == []
        assert agent.terminate()[0] == 0
    check_secrets(agent.log, account, logins)


def test_a_password_changed_in_keystone_is_logged_and_nothing_is_lost(
    keystone, host, secured_compute
):
    """Until it is corrected, Placement stays as it was; a daemon does not end."""
    user = keystone.create_user(f'changing-{uuid.uuid4()}')
    host.configure('placement', **user.options())
    with host.ready_daemon() as agent:
        keystone.set_password(user, 'another-password')
        keystone.forget_tokens()
        reloaded = agent.wait_for('READY', after=agent.reload())
        failed = agent.wait_for('STATUS', 'failed', after=reloaded)
        assert 'Keystone answered 401' in agent.notify.messages[failed - 1]['STATUS']
        assert is_enabled(secured_compute)
        # And back: the daemon finds its way without a restart.
        keystone.set_password(user, user.password)
        agent.wait_for('STATUS', 'enabled', after=agent.reload())
    assert user.password not in agent.log


# The catalogue


def test_a_moved_endpoint_is_followed(keystone, secured_placement, host, secured_compute):
    """Placement comes back on another port, as the catalogue says: no restart is needed."""
    # Its configuration and its database are there.
    moved = PlacementServer(
        secured_placement.directory, free_port(), auth='keystone', keystone=keystone
    )
    before = foreign(secured_compute)
    with host.ready_daemon() as agent:
        secured_placement.stop()
        try:
            with moved:
                secured_compute.url = moved.url
                secured_compute.overwrite_inventory(total=4096)
                agent.reload()
                # A pass meets the old port, the next asks the catalogue again.
                agent.wait_until(lambda: is_enabled(secured_compute), 'repaired')
                assert foreign(secured_compute) == before
        finally:
            secured_placement.start()
        assert agent.terminate()[0] == 0


# Secrets


@pytest.mark.parametrize('flag', ['--once', '--dry-run'])
def test_no_secret_is_shown_by_a_run_for_debugging(host, account, logins, flag):
    ended = host.run(flag, '--debug')
    assert ended.status in (0, 1)
    # It does show the requests.
    assert TOKENS in ended.stderr
    assert '/resource_providers/' in ended.stderr
    check_secrets(ended.stdout + ended.stderr, account, logins)


def test_no_secret_is_logged_by_a_daemon(host, account, logins):
    """Not even with every logger at DEBUG, after an edit of [placement], and in a file."""
    file = host.directory / 'logs' / 'fbm-agent.log'
    file.parent.mkdir()
    levels = 'keystoneauth=DEBUG,keystoneauth1=DEBUG,urllib3=DEBUG,requests=DEBUG'
    host.configure(log_dir=file.parent, debug=True, default_log_levels=levels)
    with host.ready_daemon() as agent:
        host.configure('placement', password='open-sesame-1234567')
        agent.pass_now()
        agent.terminate()
        log = file.read_text() + agent.log + json.dumps(agent.notified())
    assert re.search(r'REQ: curl .*X-Auth-Token: \{SHA256\}', log)
    assert TOKENS in log
    check_secrets(log, account, logins)
    assert 'open-sesame' not in log

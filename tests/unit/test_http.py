# SPDX-License-Identifier: Apache-2.0
"""Every trouble that a request can have becomes one clear line, of the right class."""

import copy
import datetime
import email.utils
import logging
import socket
import ssl

import pytest
import requests
import urllib3.util.connection

import fbm_placement
from fbm_placement import errors
from fbm_placement.connection import connect
from tests.unit import fake_placement
from tests.unit.fake_placement import TOKEN, URL

PATH = '/resource_providers'
PASSWORD = 'password-that-stays-secret'
KEYSTONE_TOKEN = 'keystone-token-that-stays-secret'
SECRETS = (PASSWORD, KEYSTONE_TOKEN, TOKEN)
TOKENS_URL = 'http://keystone.test/v3/auth/tokens'

HTML = {'Content-Type': 'text/html'}
JSON = {'Content-Type': 'application/json'}

V3PASSWORD = f"""
[placement]
auth_type = v3password
auth_url = http://keystone.test/v3
username = nova
password = {PASSWORD}
user_domain_name = Default
project_name = service
project_domain_name = Default
region_name = One
"""


@pytest.fixture
def debug_log(caplog):
    """Log all that anybody has to say, as ``--debug`` does at most, and look for secrets in it."""
    caplog.set_level(logging.DEBUG)
    for name in ('keystoneauth', 'keystoneauth.session', 'keystoneauth.identity', 'urllib3'):
        caplog.set_level(logging.DEBUG, logger=name)
    yield caplog
    for secret in SECRETS:
        assert secret not in caplog.text


@pytest.fixture
def requester(nova_conf, debug_log):
    """Return a requester with a token that needs no Keystone."""
    return connect(nova_conf()).transport


@pytest.fixture
def password_requester(home, debug_log):
    """Return a requester that asks Keystone for a token first."""
    home.write(V3PASSWORD)
    return connect(home.load()).transport


def trouble(work, kind=errors.PlacementError):
    """Return the error that ``work`` ends in: exactly of this class, in one line, no secrets."""
    with pytest.raises(errors.FileBackedMemoryError) as caught:
        work()
    assert type(caught.value) is kind
    line = str(caught.value)
    assert line.splitlines() == [line]
    assert not [secret for secret in SECRETS if secret in line]
    return caught.value


def in_seconds(seconds):
    """Return a point in time as Retry-After has it."""
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(then, usegmt=True)


# What goes out.


def test_headers(requester, http):
    """Each request names the microversion and the agent, and asks for JSON."""
    http.get(URL + PATH, json={})
    requester.get(PATH, name='a b')
    (sent,) = http.request_history
    assert sent.headers['OpenStack-API-Version'] == 'placement 1.26'
    assert sent.headers['User-Agent'].startswith(f'fbm-agent/{fbm_placement.version()} ')
    assert sent.headers['Accept'] == 'application/json'
    assert sent.headers['X-Auth-Token'] == TOKEN
    assert sent.url == f'{URL}{PATH}?name=a+b'


def test_every_request_has_a_timeout(password_requester, http):
    """Neither Keystone nor Placement can keep the agent for ever."""
    keystone(http)
    http.get(URL + PATH, json={})
    http.put(URL + PATH, json={})
    password_requester.get(PATH)
    password_requester.put(PATH, {'a': 1})
    assert [sent.timeout for sent in http.request_history] == [30.0, 30.0, 30.0]


def test_put_sends_json(requester, http):
    """A body goes out as JSON, with all headers."""
    http.put(URL + PATH, json={'b': 2})
    assert requester.put(PATH, {'a': 1}) == {'b': 2}
    (sent,) = http.request_history
    assert sent.json() == {'a': 1}
    assert sent.headers['Content-Type'] == 'application/json'
    assert sent.headers['OpenStack-API-Version'] == 'placement 1.26'


@pytest.mark.parametrize('status', [201, 204])
def test_put_without_body_and_answer(requester, http, status):
    """A trait is created without a body, and the answer is empty."""
    http.put(URL + '/traits/CUSTOM_A', status_code=status)
    assert requester.put('/traits/CUSTOM_A') == {}
    assert http.last_request.body is None


def test_asked_before_each_request(nova_conf, http):
    """The agent may be told to end between two requests; then the next one isn't sent."""
    http.get(URL + PATH, json={})
    asked = []

    def before_request():
        asked.append(len(http.request_history))
        if len(asked) == 3:
            raise errors.StopRequested

    requester = connect(nova_conf(), before_request).transport
    requester.get(PATH)
    requester.get(PATH)
    with pytest.raises(errors.StopRequested):
        requester.get(PATH)
    assert asked == [0, 1, 2]
    assert len(http.request_history) == 2


# What Placement, or something in its place, answers.


def placement_says(status, detail, code='placement.undefined_code', **headers):
    """Return an answer as Placement gives it."""
    return {
        'status_code': status,
        'json': fake_placement.error(detail, code),
        'headers': JSON | headers,
        'reason': 'Reason',
    }


def other_says(status, text, **headers):
    """Return an answer that Placement never gives."""
    return {
        'status_code': status,
        'text': text,
        'headers': HTML | headers,
        'reason': 'Reason',
    }


ANSWERS = {
    '400': (
        placement_says(400, 'No such trait(s): CUSTOM_A'),
        errors.BadRequestError,
        '400 Reason: No such trait(s): CUSTOM_A',
    ),
    '400 by another': (
        other_says(400, '<h1>Bad</h1>'),
        errors.PlacementError,
        "not Placement's own answer",
    ),
    '401': (
        other_says(401, 'Authentication required'),
        errors.PlacementError,
        'the token was refused: check [placement] against the service user in Keystone',
    ),
    '403': (
        placement_says(403, 'Policy does not allow placement:x to be performed.'),
        errors.ForbiddenError,
        'the user in [placement] needs the role "service" (or "admin") in its project',
    ),
    '404 of Placement': (
        placement_says(404, 'No resource provider with uuid x found'),
        errors.NotFoundError,
        '404 Reason: No resource provider with uuid x found',
    ),
    '404 of a web server': (
        other_says(404, '<html>\n<h1>Not\nFound</h1>'),
        errors.PlacementError,
        '404 Reason: text/html, "<html> <h1>Not Found</h1>"; this is not Placement\'s own answer',
    ),
    '404 in other JSON': (
        other_says(404, '{"error": {"code": 404}}'),
        errors.PlacementError,
        'has the endpoint moved?',
    ),
    '406': (
        placement_says(406, 'Unacceptable version header: 1.26'),
        errors.PlacementError,
        'microversion 1.26 is needed (Placement of Rocky or later)',
    ),
    '409 of the generation': (
        placement_says(409, 'generation conflict', 'placement.concurrent_update'),
        errors.ConflictError,
        '409 Reason: generation conflict',
    ),
    '409 of another kind': (
        placement_says(409, 'in use', 'placement.inventory.inuse'),
        errors.PlacementError,
        '409 Reason: in use',
    ),
    '409 by another': (
        other_says(409, 'placement.concurrent_update'),
        errors.PlacementError,
        "not Placement's own answer",
    ),
    '429': (other_says(429, 'slow down'), errors.PlacementError, '429 Reason: text/html'),
    '500': (
        placement_says(500, 'The server has either erred\nor is incapable'),
        errors.PlacementError,
        '500 Reason: The server has either erred or is incapable',
    ),
    '502': (other_says(502, '<h1>Bad Gateway</h1>'), errors.PlacementError, 'is it a proxy'),
    '503': (other_says(503, ''), errors.PlacementError, '503 Reason: an empty answer'),
    'errors of another shape': (
        other_says(500, '{"errors": "all"}'),
        errors.PlacementError,
        "not Placement's own answer",
    ),
    'an empty list of errors': (
        other_says(500, '{"errors": []}'),
        errors.PlacementError,
        "not Placement's own answer",
    ),
    'errors in a list': (other_says(400, '["errors"]'), errors.PlacementError, 'text/html'),
    'an error before 1.23': (
        {'status_code': 400, 'json': {'errors': [{'detail': 'old'}]}},
        errors.BadRequestError,
        ': old',
    ),
    'HTML with 200': (
        other_says(200, '<html>Please log in'),
        errors.PlacementError,
        '200, but not a JSON object: text/html, "<html>Please log in"; is there a proxy',
    ),
    'truncated JSON': (
        {'text': '{"inventories": {"MEM', 'headers': JSON},
        errors.PlacementError,
        '200, but not a JSON object: application/json',
    ),
    'a list': ({'json': [1]}, errors.PlacementError, '200, but not a JSON object'),
    'null': ({'json': None}, errors.PlacementError, '200, but not a JSON object'),
    'nothing': ({'text': ''}, errors.PlacementError, 'an empty answer'),
    'no UTF-8': ({'content': b'\xff\xfe\x00{'}, errors.PlacementError, 'not a JSON object'),
    'a redirect to nowhere': (
        {'status_code': 302, 'text': 'elsewhere'},
        errors.PlacementError,
        '302, but not a JSON object',
    ),
}


@pytest.mark.parametrize('method', ['GET', 'PUT'])
@pytest.mark.parametrize(('answer', 'kind', 'says'), ANSWERS.values(), ids=ANSWERS)
def test_answers(requester, http, method, answer, kind, says):
    """Whatever comes instead of the answer is one line: the request, what was seen, what to do."""
    http.register_uri(method, URL + PATH, **answer)
    send = requester.get if method == 'GET' else lambda path: requester.put(path, {'a': 1})
    error = trouble(lambda: send(PATH), kind)
    assert str(error).startswith(f'{method} {PATH}: ')
    assert says in str(error)
    assert error.retry_after is None


def test_a_long_answer_is_cut(requester, http):
    """A page of HTML doesn't fill the log."""
    http.get(URL + PATH, text='<p>' + 'x' * 5000, status_code=502)
    line = str(trouble(lambda: requester.get(PATH)))
    assert len(line) < 400
    assert 'x..."' in line


@pytest.mark.parametrize('status', [200, 202])
def test_an_empty_answer_to_put_that_is_none(requester, http, status):
    """Only 201 and 204 may be empty."""
    http.put(URL + PATH, status_code=status, text='')
    trouble(lambda: requester.put(PATH, {}))


def test_a_refused_token_is_renewed_once(password_requester, http):
    """A token that has expired meanwhile is renewed before anybody hears of it."""
    keystone(http)
    http.get(URL + PATH, [{'status_code': 401}, {'json': {'a': 1}}])
    assert password_requester.get(PATH) == {'a': 1}
    assert [sent.method for sent in http.request_history] == ['POST', 'GET', 'POST', 'GET']


def test_a_refused_token_is_renewed_only_once(password_requester, http):
    """A new token that is refused too is told, without a storm of requests."""
    keystone(http)
    http.get(URL + PATH, status_code=401)
    assert 'the token was refused' in str(trouble(lambda: password_requester.get(PATH)))
    assert len(http.request_history) == 4


@pytest.mark.parametrize('status', [429, 500, 503])
@pytest.mark.parametrize(
    ('value', 'low', 'high'),
    [
        ('7', 7, 7),
        ('0', 0, 0),
        ('1.5', 1.5, 1.5),
        ('-3', 0, 0),
        ('999999', 3600, 3600),
        pytest.param(lambda: in_seconds(120), 100, 121, id='a date to come'),
        pytest.param(
            lambda: in_seconds(120).replace('GMT', '-0000'), 100, 121, id='a date without a zone'
        ),
        pytest.param(lambda: in_seconds(-120), 0, 0, id='a date gone by'),
        ('Fri, 31 Dec 9999 23:59:59 GMT', 3600, 3600),
    ],
)
def test_retry_after(requester, http, status, value, low, high):
    """The service says when to come again, as seconds or as a date; not beyond an hour."""
    value = value() if callable(value) else value
    http.get(URL + PATH, status_code=status, headers={'Retry-After': value}, text='later')
    assert low <= trouble(lambda: requester.get(PATH)).retry_after <= high


@pytest.mark.parametrize('value', ['soon', '', '1 s', 'Fri, 99 Dec 2030 00:00:00 GMT'])
def test_retry_after_that_says_nothing(requester, http, value):
    """A Retry-After that nobody understands is none."""
    http.get(URL + PATH, status_code=503, headers={'Retry-After': value}, text='later')
    assert trouble(lambda: requester.get(PATH)).retry_after is None


# No answer at all: urllib3 itself fails, so that the errors are wrapped as deep as in life.


def connection_fails(monkeypatch, exc):
    """Let each new connection fail with ``exc``."""

    def refuse(*args, **kwargs):
        raise exc

    monkeypatch.setattr(urllib3.util.connection, 'create_connection', refuse)


@pytest.fixture
def peer(monkeypatch):
    """Return the server's end of the next connection, in this process."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0.05)
    monkeypatch.setattr(urllib3.util.connection, 'create_connection', lambda *a, **k: ours)
    with ours, theirs:
        yield theirs


@pytest.mark.parametrize(
    ('exc', 'says'),
    [
        (
            ConnectionRefusedError(111, 'Connection refused'),
            f'connection refused (is the service up?); Unable to establish connection to {URL}',
        ),
        (
            socket.gaierror(-2, 'No such name'),
            f'look-up failed ([Errno -2] No such name); Unable to establish connection to {URL}',
        ),
        (TimeoutError('timed out'), 'is the service up, or [placement]timeout too short?'),
        (OSError(113, 'No route to host'), 'No route to host'),
        (ConnectionResetError(104, 'Connection reset by peer'), 'Connection reset by peer'),
    ],
)
def test_no_connection(requester, monkeypatch, exc, says):
    """The cause is told, whatever it was wrapped in, and where it was tried."""
    connection_fails(monkeypatch, exc)
    error = trouble(lambda: requester.get(PATH))
    assert str(error).startswith(f'GET {PATH}: ')
    assert says in str(error)
    assert 'placement.test' in str(error)


@pytest.mark.parametrize(
    'exc',
    [ConnectionRefusedError(111, 'Connection refused'), socket.gaierror(-2, 'Name unknown')],
)
def test_no_connection_in_few_words(requester, monkeypatch, exc):
    """What urllib3 wraps around the cause isn't told."""
    connection_fails(monkeypatch, exc)
    line = str(trouble(lambda: requester.get(PATH)))
    assert 'HTTPConnectionPool' not in line
    assert 'Max retries' not in line


def test_tls(home, monkeypatch, peer, debug_log):
    """A certificate that isn't trusted is told with the option that trusts it."""
    home.write('[placement]\nauth_type = none\nendpoint = https://placement.test\n')

    def refuse(*args, **kwargs):
        raise ssl.SSLCertVerificationError(1, 'certificate verify failed: self-signed')

    monkeypatch.setattr(ssl.SSLContext, 'wrap_socket', refuse)
    line = str(trouble(lambda: connect(home.load()).transport.get(PATH)))
    assert 'TLS failed (' in line
    assert 'certificate verify failed: self-signed' in line
    assert 'check [placement]cafile' in line
    assert 'https://placement.test' in line
    assert 'HTTPSConnectionPool' not in line


def test_a_server_without_tls(home, peer, debug_log):
    """Https where http is spoken is a TLS failure too."""
    peer.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n')
    home.write('[placement]\nauth_type = none\nendpoint = https://placement.test\n')
    assert 'TLS failed (' in str(trouble(lambda: connect(home.load()).transport.get(PATH)))


def test_a_missing_cafile(home, debug_log):
    """A ``cafile`` that isn't there is told by its path."""
    home.write(
        '[placement]\nauth_type = none\nendpoint = https://placement.test\ncafile = /none.pem\n'
    )
    assert '/none.pem' in str(trouble(lambda: connect(home.load()).transport.get(PATH)))


def test_keystone_is_away_for_placement(requester, http):
    """Its middleware answers in its place; that is no proxy, and the words say whom to look at."""
    told = 'Unavailable.<br /><br />The Keystone service is temporarily unavailable.'
    http.get(URL + PATH, status_code=503, json={'message': told, 'title': 'Service Unavailable'})
    line = str(trouble(lambda: requester.get(PATH)))
    assert 'Placement cannot check tokens: is Keystone up' in line
    assert 'proxy' not in line


def test_a_server_that_never_answers(home, peer, debug_log):
    """[placement]timeout ends the wait for an answer."""
    home.write('[placement]\nauth_type = none\nendpoint = http://placement.test\ntimeout = 1\n')
    line = str(trouble(lambda: connect(home.load()).transport.get(PATH)))
    assert 'timed out' in line
    assert '[placement]timeout too short?' in line


@pytest.mark.parametrize(
    'raw',
    [
        b'',
        b'SSH-2.0-OpenSSH_9.2\r\n',
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"inventories": {',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"invent',
        b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}',
    ],
    ids=['nothing', 'no HTTP', 'cut short', 'chunk cut short', 'no gzip'],
)
def test_a_broken_answer(requester, peer, raw):
    """An answer that breaks off, or isn't HTTP, is a PlacementError like any other."""
    peer.sendall(raw)
    peer.shutdown(socket.SHUT_WR)
    assert 'placement.test' in str(trouble(lambda: requester.get(PATH)))


@pytest.mark.parametrize('url', ['placement.test', 'http://[bad', 'ftp://placement.test'])
def test_an_endpoint_that_is_no_url(home, debug_log, url):
    """An ``endpoint_override`` that no request can be sent to is told."""
    home.write(f'[placement]\nauth_type = none\nendpoint_override = {url}\n')
    assert url in str(trouble(lambda: connect(home.load()).transport.get(PATH)))


# Keystone, before Placement is asked.

CATALOGUE = {
    'type': 'placement',
    'name': 'placement',
    'id': 'c',
    'endpoints': [
        {'id': 'e', 'interface': 'internal', 'region': 'One', 'region_id': 'One', 'url': URL}
    ],
}

TOKEN_BODY = {
    'token': {
        'methods': ['password'],
        'audit_ids': ['a'],
        'issued_at': '2020-01-01T00:00:00.000000Z',
        'expires_at': '2099-01-01T00:00:00.000000Z',
        'user': {'id': 'u', 'name': 'nova', 'domain': {'id': 'd', 'name': 'Default'}},
        'project': {'id': 'p', 'name': 'service', 'domain': {'id': 'd', 'name': 'Default'}},
        'roles': [{'id': 'r', 'name': 'service'}],
        'catalog': [CATALOGUE],
    }
}


def keystone(http, change=lambda catalogue: None):
    """Let Keystone hand out tokens, with a catalogue that a test may change."""
    body = copy.deepcopy(TOKEN_BODY)
    change(body['token']['catalog'])
    headers = {'X-Subject-Token': KEYSTONE_TOKEN}
    http.post(TOKENS_URL, status_code=201, json=body, headers=headers)


def test_the_token_and_the_endpoint_come_from_keystone(password_requester, http):
    """Password in, token and endpoint out, used, and asked for once."""
    keystone(http)
    http.get(URL + PATH, json={'a': 1})
    assert password_requester.get(PATH) == {'a': 1}
    assert password_requester.get(PATH) == {'a': 1}
    asked, *used = http.request_history
    assert PASSWORD in asked.text
    assert [sent.headers['X-Auth-Token'] for sent in used] == [KEYSTONE_TOKEN] * 2


@pytest.mark.parametrize(
    'change',
    [
        lambda catalogue: catalogue.clear(),
        lambda catalogue: catalogue[0].update(type='compute'),
        lambda catalogue: catalogue[0]['endpoints'].clear(),
        lambda catalogue: catalogue[0]['endpoints'][0].update(interface='admin'),
        lambda catalogue: catalogue[0]['endpoints'][0].update(region='Two', region_id='Two'),
    ],
    ids=['empty', 'no placement', 'no endpoint', 'admin only', 'another region'],
)
def test_no_endpoint(password_requester, http, change):
    """A catalogue without the endpoint: what was looked for, and the options that say so."""
    keystone(http, change)
    line = str(trouble(lambda: password_requester.get(PATH)))
    assert 'the service catalogue has no such endpoint' in line
    for word in ('"placement"', 'region_name', 'valid_interfaces', '[placement]endpoint_override'):
        assert word in line


def test_keystone_refuses(password_requester, http):
    """A wrong password is told as what it is."""
    body = {'error': {'code': 401, 'message': 'requires authentication', 'title': 'Unauthorized'}}
    http.post(TOKENS_URL, status_code=401, json=body)
    line = str(trouble(lambda: password_requester.get(PATH)))
    assert 'Keystone answered 401' in line
    assert 'expected [placement]username, password and project of a valid service user' in line
    assert len(http.request_history) == 1


@pytest.mark.parametrize('status', [400, 403, 404, 429, 500, 502, 503])
def test_keystone_fails(password_requester, http, status):
    """Keystone's own trouble is not taken for Placement's, nor for a wrong password."""
    http.post(TOKENS_URL, status_code=status, text='<html>')
    error = trouble(lambda: password_requester.get(PATH))
    assert f'Keystone answered {status}' in str(error)
    assert 'username' not in str(error)


def test_keystone_asks_to_wait(password_requester, http):
    """Keystone's Retry-After counts like Placement's."""
    http.post(TOKENS_URL, status_code=503, headers={'Retry-After': '11'})
    assert trouble(lambda: password_requester.get(PATH)).retry_after == 11


def test_keystone_behind_a_login_page(password_requester, http):
    """HTML with 200 in Keystone's place is no token."""
    http.post(TOKENS_URL, text='<html>Please log in')
    trouble(lambda: password_requester.get(PATH))


def test_keystone_cannot_be_reached(password_requester, monkeypatch):
    """Which of the two services is away can be seen from the address."""
    connection_fails(monkeypatch, ConnectionRefusedError(111, 'Connection refused'))
    line = str(trouble(lambda: password_requester.get(PATH)))
    assert 'connection refused (is the service up?)' in line
    assert 'http://keystone.test/v3' in line


def test_keystone_is_asked_for_its_versions_in_vain(home, http, debug_log):
    """``auth_type = password`` asks the root first; that can fail too."""
    home.write(V3PASSWORD.replace('v3password', 'password').replace('/v3', '/'))
    http.get('http://keystone.test/', status_code=503)
    line = str(trouble(lambda: connect(home.load()).transport.get(PATH)))
    assert 'auth_url' in line
    assert '503' in line


def test_secrets_are_not_logged_when_all_is_well(password_requester, http, debug_log):
    """--debug shows the requests, but neither the password nor the token."""
    keystone(http)
    http.get(URL + PATH, json={'a': 1})
    password_requester.get(PATH)
    assert 'OpenStack-API-Version' in debug_log.text  # so the requests were logged


def test_requests_own_errors_are_caught(requester, http):
    """What keystoneauth doesn't translate is a PlacementError all the same."""
    http.get(URL + PATH, exc=requests.exceptions.ContentDecodingError('no gzip'))
    assert 'no gzip' in str(trouble(lambda: requester.get(PATH)))

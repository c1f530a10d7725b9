# SPDX-License-Identifier: Apache-2.0
"""Every failure that a request can have becomes one clear line, of the right class."""

import datetime
import email.utils
import functools
import logging
import socket
import ssl
import threading
import time

import pytest
import requests
import urllib3.util.connection

import fbm_placement
from fbm_placement import errors
from fbm_placement.placement.http import deadline
from fbm_placement.placement.session import connect
from tests.unit import fake_placement
from tests.unit.fake_placement import TOKEN, URL

PATH = '/resource_providers'
PASSWORD = 'password-that-stays-secret'
KEYSTONE_TOKEN = 'keystone-token-that-stays-secret'
SECRETS = (PASSWORD, KEYSTONE_TOKEN, TOKEN)
TOKENS_URL = 'http://keystone.test/v3/auth/tokens'
NO_AUTH = '[placement]\nauth_type = none\n'

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
    """Log everything, as ``--debug`` does at most, and search it for secrets."""
    caplog.set_level(logging.DEBUG)
    for name in ('keystoneauth', 'keystoneauth.session', 'keystoneauth.identity', 'urllib3'):
        caplog.set_level(logging.DEBUG, logger=name)
    yield caplog
    for secret in SECRETS:
        assert secret not in caplog.text


@pytest.fixture
def client_for(home, debug_log):
    def make(text, **kwargs):
        home.write(text)
        return connect(home.load(), **kwargs)

    return make


@pytest.fixture
def client(nova_conf, debug_log):
    return connect(nova_conf())


@pytest.fixture
def password_client(client_for):
    return client_for(V3PASSWORD)


def failure(work, kind=errors.PlacementError):
    """Return the error that ``work`` ends in: exactly of this class, in one line, no secrets."""
    with pytest.raises(errors.FileBackedMemoryError) as caught:
        work()
    assert type(caught.value) is kind
    line = str(caught.value)
    assert line.splitlines() == [line]
    assert not [secret for secret in SECRETS if secret in line]
    return caught.value


def line_of(client):
    """Return the message of a GET that fails."""
    line = str(failure(lambda: client.get(PATH)))
    assert line.startswith(f'GET {PATH}: ')
    return line


# What is sent.


def test_get(client, http):
    http.get(URL + PATH, json={})
    client.get(PATH, name='a b')
    (sent,) = http.request_history
    assert sent.headers['OpenStack-API-Version'] == 'placement 1.26'
    assert sent.headers['User-Agent'].startswith(f'fbm-agent/{fbm_placement.version()} ')
    assert sent.headers['Accept'] == 'application/json'
    assert sent.headers['X-Auth-Token'] == TOKEN
    assert sent.url == f'{URL}{PATH}?name=a+b'


def test_put_sends_json(client, http):
    http.put(URL + PATH, json={'b': 2})
    assert client.put(PATH, {'a': 1}) == {'b': 2}
    (sent,) = http.request_history
    assert sent.json() == {'a': 1}
    assert sent.headers['Content-Type'] == 'application/json'
    assert sent.headers['OpenStack-API-Version'] == 'placement 1.26'


@pytest.mark.parametrize('status', [201, 204])
def test_put_without_body_and_answer(client, http, status):
    """A trait is created without a body, and the answer is empty."""
    http.put(URL + '/traits/CUSTOM_A', status_code=status)
    assert client.put('/traits/CUSTOM_A') == {}
    assert http.last_request.body is None


@pytest.mark.parametrize(('set_to', 'used'), [('', 30), ('timeout = 7', 7), ('timeout = 900', 60)])
def test_every_request_has_a_timeout(client_for, http, set_to, used):
    """Neither Keystone nor Placement can block the agent; no more than a minute."""
    client = client_for(V3PASSWORD + set_to)
    keystone(http)
    http.get(URL + PATH, json={})
    http.put(URL + PATH, json={})
    client.get(PATH)
    client.put(PATH, {'a': 1})
    assert [sent.timeout for sent in http.request_history] == [used] * 3


def test_no_retries_of_keystoneauth(client_for, http):
    """They sleep where no signal ends it."""
    client = client_for(
        f'{NO_AUTH}endpoint = {URL}\nstatus_code_retries = 3\nconnect_retries = 3\n'
    )
    http.get(URL + PATH, status_code=503)
    line_of(client)
    http.get(URL + PATH, exc=requests.exceptions.ConnectionError)
    line_of(client)
    assert len(http.request_history) == 2


def test_called_before_each_request(nova_conf, http):
    """The agent may be asked to end between two requests; then the next one isn't sent."""
    http.get(URL + PATH, json={})
    calls = []

    def before_request():
        calls.append(len(http.request_history))
        if len(calls) == 3:
            raise errors.StopRequested

    client = connect(nova_conf(), before_request)
    client.get(PATH)
    client.get(PATH)
    with pytest.raises(errors.StopRequested):
        client.get(PATH)
    assert calls == [0, 1, 2]
    assert len(http.request_history) == 2


# What Placement, or something in its place, answers.

FOREIGN = "this is not Placement's own answer: is it a proxy, or has the endpoint moved?"
HTML = {'headers': {'Content-Type': 'text/html'}}
JSON = {'headers': {'Content-Type': 'application/json'}}

BY_PLACEMENT = [
    (400, 'undefined_code', errors.BadRequestError, '400 Reason: the detail'),
    (403, 'undefined_code', errors.ForbiddenError, 'needs the role "service" (or "admin")'),
    (404, 'undefined_code', errors.NotFoundError, '404 Reason: the detail'),
    (406, 'undefined_code', errors.PlacementError, '1.26 is needed (Placement of Rocky or later)'),
    (409, 'concurrent_update', errors.ConflictError, '409 Reason: the detail'),
    (409, 'inventory.inuse', errors.PlacementError, '409 Reason: the detail'),
    (500, 'undefined_code', errors.PlacementError, '500 Reason: the detail'),
]
BY_ANOTHER = {
    '400': ({'status_code': 400, 'text': '<h1>Bad</h1>'} | HTML, FOREIGN),
    '401': (
        {'status_code': 401, 'text': 'Authentication required'},
        'the token was refused: check [placement] against the service user in Keystone',
    ),
    '403': ({'status_code': 403, 'text': 'no'}, 'needs the role "service" (or "admin")'),
    '404': (
        {'status_code': 404, 'text': '<html>\n<h1>Not\nFound</h1>', 'reason': 'Reason'} | HTML,
        f'404 Reason: text/html, "<html> <h1>Not Found</h1>"; {FOREIGN} (requested: http://',
    ),
    '404 in JSON': ({'status_code': 404, 'json': {'error': {'code': 404}}}, FOREIGN),
    '409': ({'status_code': 409, 'text': 'placement.concurrent_update'}, FOREIGN),
    '429': ({'status_code': 429, 'text': 'slow down'} | HTML, '429 : text/html'),
    '502': ({'status_code': 502, 'text': '<h1>Bad Gateway</h1>'}, FOREIGN),
    '503': ({'status_code': 503, 'text': ''}, '503 : an empty answer'),
    'errors of another shape': ({'status_code': 500, 'json': {'errors': 'all'}}, FOREIGN),
    'an empty list of errors': ({'status_code': 500, 'json': {'errors': []}}, FOREIGN),
    'errors in a list': ({'status_code': 400, 'json': ['errors']}, FOREIGN),
    'the middleware': (
        {
            'status_code': 503,
            'json': {'message': 'The Keystone service is temporarily unavailable'},
        },
        '503: Placement cannot check tokens: is Keystone up, and its database?',
    ),
    'HTML with 200': (
        {'text': '<html>Please log in'} | HTML,
        '200, but not a JSON object: text/html, "<html>Please log in"; is there a proxy',
    ),
    'half of the JSON': (
        {'text': '{"inventories": {"MEM'} | JSON,
        '200, but not a JSON object: application/json',
    ),
    'a list': ({'json': [1]}, '200, but not a JSON object'),
    'null': ({'json': None}, '200, but not a JSON object'),
    'nothing': ({'text': ''}, 'an empty answer'),
    'nothing with 202': ({'status_code': 202, 'text': ''}, 'an empty answer'),
    'no UTF-8': ({'content': b'\xff\xfe\x00{'}, 'not a JSON object'),
    'a redirect to nowhere': ({'status_code': 302, 'text': 'x'}, '302, but not a JSON object'),
}


@pytest.mark.parametrize('method', ['GET', 'PUT'])
@pytest.mark.parametrize(('status', 'code', 'kind', 'expected'), BY_PLACEMENT)
def test_refused_by_placement(client, http, method, status, code, kind, expected):
    """The class is by the status, and for a conflict by the code; the detail is in the line."""
    body = fake_placement.error('the\ndetail', f'placement.{code}')
    http.register_uri(method, URL + PATH, status_code=status, json=body, reason='Reason')
    error = failure(functools.partial(getattr(client, method.lower()), PATH), kind)
    assert str(error).startswith(f'{method} {PATH}: ')
    assert expected in str(error)
    assert error.retry_after is None


@pytest.mark.parametrize('method', ['GET', 'PUT'])
@pytest.mark.parametrize(('answer', 'expected'), BY_ANOTHER.values(), ids=BY_ANOTHER)
def test_answered_by_another(client, http, method, answer, expected):
    """One line: the request, what was seen, how to fix it; it never counts as Placement's own."""
    http.register_uri(method, URL + PATH, **answer)
    line = str(failure(functools.partial(getattr(client, method.lower()), PATH)))
    assert line.startswith(f'{method} {PATH}: ')
    assert expected in line


def test_an_error_before_1_23(client, http):
    """It has no code, but is Placement's."""
    http.get(URL + PATH, status_code=400, json={'errors': [{'detail': 'old'}]})
    error = failure(lambda: client.get(PATH), errors.BadRequestError)
    assert str(error).endswith(': old')


@pytest.mark.parametrize('status', [200, 502])
@pytest.mark.parametrize('text', ['<p>' + 'x' * 5000, '[' * 100_000], ids=['HTML', 'too deep'])
def test_a_long_answer_is_cut(client, http, status, text):
    """A page of HTML doesn't fill the log; JSON nested too deep is a RecursionError in between."""
    http.get(URL + PATH, text=text, status_code=status)
    line = line_of(client)
    assert len(line) < 400
    assert '..."' in line


def test_a_refused_token_is_renewed_once(password_client, http):
    """A token that has expired meanwhile is renewed without an error, but only once."""
    keystone(http)
    http.get(URL + PATH, [{'status_code': 401}, {'json': {'a': 1}}, {'status_code': 401}])
    assert password_client.get(PATH) == {'a': 1}
    assert [sent.method for sent in http.request_history] == ['POST', 'GET', 'POST', 'GET']
    assert 'the token was refused' in line_of(password_client)
    assert len(http.request_history) == 7


def in_seconds(seconds):
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(then, usegmt=True)


@pytest.mark.parametrize('status', [429, 500, 503])
@pytest.mark.parametrize(
    ('value', 'low', 'high'),
    [
        ('7', 7, 7),
        ('0', 0, 0),
        ('1.5', 1.5, 1.5),
        ('-3', 0, 0),
        ('999999', 3600, 3600),
        pytest.param(lambda: in_seconds(120), 100, 121, id='in future'),
        pytest.param(lambda: in_seconds(120).replace('GMT', '-0000'), 100, 121, id='no zone'),
        pytest.param(lambda: in_seconds(-120), 0, 0, id='in the past'),
        ('Fri, 31 Dec 9999 23:59:59 GMT', 3600, 3600),
    ],
)
def test_retry_after(client, http, status, value, low, high):
    value = value() if callable(value) else value
    http.get(URL + PATH, status_code=status, headers={'Retry-After': value}, text='later')
    assert low <= failure(lambda: client.get(PATH)).retry_after <= high


@pytest.mark.parametrize(
    'value',
    [
        'soon',
        '',
        '1 s',
        'nan',
        'inf',
        'Fri, 99 Dec 2030 00:00:00 GMT',
        'Wed, 21 Oct 99999999999999999999 07:28:00 GMT',
    ],
)
def test_retry_after_without_a_time(client, http, value):
    http.get(URL + PATH, status_code=503, headers={'Retry-After': value}, text='later')
    assert failure(lambda: client.get(PATH)).retry_after is None


# No answer at all: urllib3 itself fails, so that the errors are wrapped as deep as in production.


def connection_fails(monkeypatch, exc):
    def refuse(*args, **kwargs):
        raise exc

    monkeypatch.setattr(urllib3.util.connection, 'create_connection', refuse)


@pytest.fixture
def peer(monkeypatch):
    ours, theirs = socket.socketpair()
    ours.settimeout(0.05)
    monkeypatch.setattr(urllib3.util.connection, 'create_connection', lambda *a, **k: ours)
    with ours, theirs:
        yield theirs


@pytest.mark.parametrize(
    ('exc', 'expected'),
    [
        (
            ConnectionRefusedError(111, 'Connection refused'),
            f'connection refused (is the service up?); Unable to establish connection to {URL}',
        ),
        (
            socket.gaierror(-2, 'No such name'),
            f'lookup failed ([Errno -2] No such name); Unable to establish connection to {URL}',
        ),
        (TimeoutError('timed out'), 'is the service up, or [placement]timeout too short?'),
        (OSError(113, 'No route to host'), 'No route to host'),
        (ConnectionResetError(104, 'Connection reset by peer'), 'Connection reset by peer'),
    ],
)
def test_no_connection(client, monkeypatch, exc, expected):
    """The line has the cause, whatever it was wrapped in, and the address."""
    connection_fails(monkeypatch, exc)
    line = line_of(client)
    assert expected in line
    assert 'placement.test' in line
    if not isinstance(exc, TimeoutError):
        assert 'HTTPConnectionPool' not in line
        assert 'Max retries' not in line


def test_tls(client_for, monkeypatch, peer):
    """A certificate that isn't trusted: the line has the option that trusts it."""

    def refuse(*args, **kwargs):
        raise ssl.SSLCertVerificationError(1, 'certificate verify failed: self-signed')

    monkeypatch.setattr(ssl.SSLContext, 'wrap_socket', refuse)
    line = line_of(client_for(f'{NO_AUTH}endpoint = https://placement.test\n'))
    assert 'TLS failed (' in line
    assert 'certificate verify failed: self-signed' in line
    assert 'check [placement]cafile' in line
    assert 'https://placement.test' in line
    assert 'HTTPSConnectionPool' not in line


HTTPS, PLAIN = ('endpoint = https://placement.test\n', 'endpoint = http://placement.test\n')


@pytest.mark.parametrize(
    ('section', 'raw', 'expected'),
    [
        (HTTPS, b'HTTP/1.1 400 Bad Request\r\n\r\n', ['TLS failed (']),
        (f'{HTTPS}cafile = /none.pem\n', b'', ['/none.pem']),
        # It never answers.
        (f'{PLAIN}timeout = 1\n', None, ['timed out', '[placement]timeout too short?']),
        *(
            (PLAIN, raw, ['placement.test'])
            for raw in (
                b'',
                b'SSH-2.0-OpenSSH_9.2\r\n',
                b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"inventories": {',
                b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"invent',
                b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}',
            )
        ),
    ],
)
def test_a_broken_exchange(client_for, peer, section, raw, expected):
    """Whatever breaks off, or isn't HTTP, is a PlacementError like any other."""
    if raw is not None:
        peer.sendall(raw)
        peer.shutdown(socket.SHUT_WR)
    line = line_of(client_for(NO_AUTH + section))
    for text in expected:
        assert text in line


def test_errors_of_requests(client, http):
    """What keystoneauth doesn't translate is a PlacementError all the same."""
    http.get(URL + PATH, exc=requests.exceptions.ContentDecodingError('no gzip'))
    assert 'no gzip' in line_of(client)


# Keystone, before Placement is asked.


def keystone(http, service='placement', **endpoint):
    """Let Keystone issue tokens, with one service in the catalogue; None: with none."""
    endpoints = [{'interface': 'internal', 'region_id': 'One', 'url': URL, **endpoint}]
    catalogue = [{'type': service, 'endpoints': endpoints}] if service else []
    token = {'expires_at': '2099-01-01T00:00:00.000000Z', 'catalog': catalogue}
    headers = {'X-Subject-Token': KEYSTONE_TOKEN}
    http.post(TOKENS_URL, status_code=201, json={'token': token}, headers=headers)


def test_the_token_and_the_endpoint_come_from_keystone(password_client, http, debug_log):
    """Password in, token and endpoint out, used, and requested once; --debug shows no secret."""
    keystone(http)
    http.get(URL + PATH, json={'a': 1})
    assert password_client.get(PATH) == {'a': 1}
    assert password_client.get(PATH) == {'a': 1}
    asked, *used = http.request_history
    assert PASSWORD in asked.text
    assert [sent.headers['X-Auth-Token'] for sent in used] == [KEYSTONE_TOKEN] * 2
    assert 'OpenStack-API-Version' in debug_log.text  # so the requests were logged


@pytest.mark.parametrize(
    'catalogue',
    [{'service': None}, {'service': 'compute'}, {'interface': 'admin'}, {'region_id': 'Two'}],
)
def test_no_endpoint(password_client, http, catalogue):
    keystone(http, **catalogue)
    line = line_of(password_client)
    assert 'the service catalogue has no such endpoint' in line
    for word in ('"placement"', 'region_name', 'valid_interfaces', '[placement]endpoint_override'):
        assert word in line


def test_keystone_refuses(password_client, http):
    body = {'error': {'code': 401, 'message': 'requires authentication', 'title': 'Unauthorized'}}
    http.post(TOKENS_URL, status_code=401, json=body)
    line = line_of(password_client)
    assert 'Keystone answered 401' in line
    assert 'expected [placement]username, password and project of a valid service user' in line
    assert len(http.request_history) == 1


@pytest.mark.parametrize('status', [400, 403, 404, 429, 500, 502, 503])
def test_keystone_fails(password_client, http, status):
    """Keystone's own failure is not taken for Placement's; its Retry-After counts like that."""
    http.post(TOKENS_URL, status_code=status, text='<html>', headers={'Retry-After': '11'})
    error = failure(lambda: password_client.get(PATH))
    assert f'Keystone answered {status}' in str(error)
    assert 'username' not in str(error)
    assert error.retry_after == 11


@pytest.mark.parametrize(
    'answer',
    [
        {'text': '<html>Please log in'},
        {'status_code': 201, 'json': {'token': {'expires_at': '2100-01-01T00:00:00Z'}}},
        {'status_code': 201, 'json': [], 'headers': {'X-Subject-Token': 't'}},
    ],
)
def test_keystone_answers_no_token(password_client, http, answer):
    """Keystoneauth raises KeyError, TypeError and ValueError then."""
    http.post(TOKENS_URL, **answer)
    assert 'Keystone answered something that is no token' in line_of(password_client)


def test_keystone_cannot_be_reached(password_client, monkeypatch):
    """The address shows which of the two services is away."""
    connection_fails(monkeypatch, ConnectionRefusedError(111, 'Connection refused'))
    line = line_of(password_client)
    assert 'connection refused (is the service up?)' in line
    assert 'http://keystone.test/v3' in line


def test_keystone_fails_to_list_its_versions(client_for, http):
    """``auth_type = password`` reads the root first; that can fail too."""
    http.get('http://keystone.test/', status_code=503)
    line = line_of(client_for(V3PASSWORD.replace('v3password', 'password').replace('/v3', '/')))
    assert 'auth_url' in line
    assert '503' in line


# The deadline.


def test_the_deadline_ends_what_takes_too_long() -> None:
    """Also where each single byte comes in time."""

    def trickle() -> None:
        with deadline(0.1):
            while True:
                time.sleep(0.01)

    begun = time.monotonic()
    with pytest.raises(TimeoutError, match='no complete answer in'):
        trickle()
    assert time.monotonic() - begun < 2
    with deadline(0.05):
        pass
    time.sleep(0.1)  # a block that ends in time is never cut afterwards


def test_other_threads_have_no_deadline() -> None:
    """Only the main thread gets signals."""
    done = []

    def work() -> None:
        with deadline(0.01):
            time.sleep(0.05)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done

# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between the agent and Placement: one clear line, and no wrong write."""

import datetime
import ipaddress
import json
import re
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fbm_placement import names
from tests.functional.agent_process import (
    AgentHost,
    add_foreign_things,
    foreign,
    is_enabled,
    own_traits,
    promise_is_kept,
)
from tests.services.nova_compute import NovaCompute
from tests.services.placement import PlacementServer
from tests.services.process import free_port
from tests.services.proxy import Answer, HangUp, Proxy

LOGIN_PAGE = Answer(
    200, b'<html><title>Sign in</title>' + b'<p>' * 999, {'Content-Type': 'text/html'}
)
BUSY = Answer(503, b'<html>Busy</html>', {'Content-Type': 'text/html', 'Retry-After': '40'})


def conflict(code):
    error = {'status': 409, 'title': 'Conflict', 'detail': 'They were\n\n faster', 'code': code}
    body = json.dumps({'errors': [error]}).encode()
    return Answer(409, body, {'Content-Type': 'application/json'})


def answering(answer):
    return lambda request: answer


def hanging_up(*, reset):
    def hang_up(request):
        raise HangUp(reset=reset)

    return hang_up


def hanging(request):
    # Longer than [placement]timeout is here, and not much: the proxy's thread waits for it.
    time.sleep(1.5)
    raise HangUp


def truncating(request, answer):
    half = len(answer.body) // 2
    return Answer(answer.status, answer.body[:half], answer.headers, len(answer.body) - half)


def garbling(request, answer):
    return Answer(200, b'{"inventories": [], "traits": 7}', {'Content-Type': 'application/json'})


# name: what to do before forwarding, what after, words of the line on stderr
TROUBLES = {
    'busy': (answering(BUSY), None, ['503']),
    'a login page': (answering(LOGIN_PAGE), None, ['not a JSON object', 'Sign in', 'proxy']),
    'a moved endpoint': (answering(Answer(404, b'Not here')), None, ['404', 'endpoint']),
    'a truncated answer': (None, truncating, []),
    'another JSON': (None, garbling, ['JSON that is not what Placement answers']),
    'a reset': (hanging_up(reset=True), None, ['reset']),
    'an end': (hanging_up(reset=False), None, ['closed']),
    'a hang': (hanging, None, ['timed out', '[placement]timeout']),
    'another conflict': (
        answering(conflict('placement.inventory.inuse')),
        None,
        ['409', 'They were faster'],
    ),
}


@pytest.fixture
def host(compute, tmp_path):
    """A host with file-backed memory configured, on which others have things too."""
    add_foreign_things(compute)
    return AgentHost(tmp_path, compute)


@pytest.fixture
def proxy(placement, host):
    """A proxy between `host` and Placement."""
    with Proxy(placement.url) as proxy:
        host.speak_to(proxy.url)
        yield proxy


def sent(proxy, method='PUT'):
    """Return the paths of what the agent has sent."""
    return [request.path for request in proxy.requests if request.method == method]


def puts_traits(request, compute):
    """Whether the request replaces the provider's traits."""
    return request.method == 'PUT' and request.path.endswith(f'/{compute.uuid}/traits')


@pytest.mark.parametrize('at', ['GET inventories', 'PUT MEMORY_MB'])
@pytest.mark.parametrize('trouble', TROUBLES.values(), ids=TROUBLES.keys())
def test_a_trouble_is_told_in_one_line(host, proxy, compute, placement, trouble, at):
    """Exit 1 without a second try, and nothing wrong is written."""
    before, after, words = trouble
    method, last = at.split()
    host.configure('placement', timeout=1)
    everything, others = compute.everything(), foreign(compute)

    def here(request):
        return request.method == method and request.path.endswith(f'/{last}')

    if before is not None:
        proxy.before = lambda request: before(request) if here(request) else None
    if after is not None:
        proxy.after = lambda request, answer: after(request, answer) if here(request) else None
    ended = host.once()

    assert ended.status == 1
    assert ended.stdout == ''
    assert ended.line.startswith('fbm-agent: ')
    for word in words:
        assert word in ended.line
    # Whoever reads it knows which request it was, at which service, without Python's own words.
    assert f'/resource_providers/{compute.uuid}/' in ended.line
    assert not re.search(r'Traceback|(Error|Exception|Read|Disconnected)\(', ended.line)
    assert len(ended.line) < 500
    assert len([request for request in proxy.requests if here(request)]) == 1
    assert here(proxy.requests[-1])
    assert foreign(compute) == others
    assert promise_is_kept(compute)
    if before is not None or method == 'GET':
        assert compute.everything() == everything
        return

    # Placement did what it was asked, only the answer was lost.
    assert own_traits(compute) == set()
    host.speak_to(placement.url)
    assert host.once().status == 0
    assert is_enabled(compute)
    assert foreign(compute) == others


def test_a_daemon_comes_back_when_it_was_told_to(host, proxy, compute):
    """Never sooner than Retry-After; but when asked to, at once."""
    proxy.before = answering(BUSY)
    with host.daemon() as agent:
        agent.wait_for('STATUS', '503')
        (line,) = agent.log_lines('503')
        assert int(re.search(r'next in (\d+) s', line)[1]) >= 40
        proxy.forget()
        agent.wait_for('READY', after=agent.hang_up())
        assert is_enabled(compute)


def test_a_conflict_at_every_write_ends_after_some_tries(host, proxy, compute):
    """Somebody is faster each time: all is read again, and at last the reason told."""
    times = 0

    def outrun(request):
        nonlocal times
        if request.method == 'PUT' and compute.uuid in request.path:
            times += 1
            compute.change_traits(add={f'CUSTOM_RACK_{times}'})

    proxy.before = outrun
    before = compute.everything()
    ended = host.once()
    assert ended.status == 1
    assert '409' in ended.line
    assert 'generation conflict' in ended.line
    assert times == 4
    inventories = f'/resource_providers/{compute.uuid}/inventories'
    assert sent(proxy, 'GET').count(inventories) == 4
    added = {f'CUSTOM_RACK_{number}' for number in range(1, 5)}
    assert compute.everything() == before | {'traits': before['traits'] | added}


def test_a_conflict_at_one_write_is_met_with_a_fresh_look(host, proxy, compute):
    """What came in between is kept: a trait that was not there at the first look."""
    outrun = threading.Event()

    def once(request):
        if puts_traits(request, compute) and not outrun.is_set():
            outrun.set()
            compute.change_traits(add={'CUSTOM_JUST_NOW'})

    proxy.before = once
    ended = host.once()
    assert (ended.status, ended.stderr) == (0, '')
    assert outrun.is_set()
    assert is_enabled(compute)
    assert 'CUSTOM_JUST_NOW' in compute.traits()
    # The inventory was right already at the second look.
    assert [path.rpartition('/')[2] for path in sent(proxy) if compute.uuid in path] == [
        'MEMORY_MB',
        'traits',
        'traits',
    ]


def test_a_trait_that_vanishes_before_it_is_named_is_created_again(tmp_path):
    """Somebody cleans up unused traits: Placement then answers 400, which mends itself."""
    gone = threading.Event()

    def clean_up(request):
        if puts_traits(request, compute) and not gone.is_set():
            gone.set()
            compute.call('DELETE', f'/traits/{names.TRAIT_ENABLED}')

    # One of its own: what other hosts have can't be deleted.
    with PlacementServer(tmp_path / 'placement') as placement:
        compute = NovaCompute(placement.url).start()
        with Proxy(placement.url, before=clean_up) as proxy:
            ended = AgentHost(tmp_path / 'host', compute, proxy.url).once()
        assert (ended.status, ended.stderr) == (0, '')
        assert 400 in [answer.status for answer in proxy.answers]
        assert is_enabled(compute)


def test_an_inventory_that_vanishes_before_it_is_written_is_waited_for(host, proxy, compute):
    """The record is nova-compute's: the agent does not create it, and says what is missing."""
    path = f'/resource_providers/{compute.uuid}/inventories/MEMORY_MB'
    for instance in compute.allocations():
        compute.deallocate(instance)

    def delete(request):
        if (
            request.method == 'PUT'
            and request.path == path
            and 'MEMORY_MB' in compute.inventories()
        ):
            compute.call('DELETE', path)

    proxy.before = delete
    before = foreign(compute)
    ended = host.once()
    assert ended.status == 1
    assert 'nova-compute has not created the MEMORY_MB inventory yet' in ended.line
    assert 'MEMORY_MB' not in compute.inventories()
    assert own_traits(compute) == set()
    assert foreign(compute) == before


def test_slow_answers_are_waited_for(host, proxy, compute):
    """[placement]timeout is for one request, not for a pass."""
    host.configure('placement', timeout=1)
    proxy.before = lambda request: time.sleep(0.25)
    start = time.monotonic()
    ended = host.once()
    assert (ended.status, ended.stderr) == (0, '')
    assert time.monotonic() - start > 1
    assert is_enabled(compute)


def test_nobody_listening_is_told_with_the_address(host, compute):
    port = free_port()
    host.speak_to(f'http://127.0.0.1:{port}')
    ended = host.once()
    assert ended.status == 1
    assert 'connection refused' in ended.line
    assert f'127.0.0.1:{port}' in ended.line


def test_a_certificate_that_nobody_knows_is_told(host, placement, compute, tmp_path):
    """The agent says which option names the authority; with it all is well."""
    certificate, key = self_signed(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with Proxy(placement.url, tls=tls) as proxy:
        host.speak_to(proxy.url)
        ended = host.once()
        assert ended.status == 1
        assert 'TLS failed' in ended.line
        assert '[placement]cafile' in ended.line
        assert proxy.requests == []
        assert own_traits(compute) == set()

        host.configure('placement', cafile=certificate)
        assert host.once().status == 0
        assert proxy.requests
    assert is_enabled(compute)


def self_signed(directory):
    """Write a certificate for 127.0.0.1 and its key; return the two paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'a test')])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address('127.0.0.1'))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = directory / 'certificate.pem', directory / 'key.pem'
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths

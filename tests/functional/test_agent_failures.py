# SPDX-License-Identifier: Apache-2.0
"""Failures between the agent and Placement: one clear line, and no wrong write.

The whole table of answers and errors is in tests/unit/test_http.py; here are those of them that
need a real connection, and what Placement holds afterwards.
"""

import datetime
import ipaddress
import re
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.services.agent import AgentHost
from tests.services.expected import (
    ENABLED_TRAIT,
    add_foreign_data,
    capacity_before_trait,
    foreign,
    is_enabled,
    own_traits,
)
from tests.services.nova_compute import NovaCompute
from tests.services.placement import PlacementServer
from tests.services.proxy import Answer, HangUp, Proxy

LOGIN_PAGE = Answer(
    200, b'<html><title>Sign in</title>' + b'<p>' * 999, {'Content-Type': 'text/html'}
)


TIMEOUT = 4
"""[placement]timeout, seconds: what a busy machine answers in time."""


def resetting(request):
    raise HangUp(reset=True)


def hanging(request):
    # Longer than [placement]timeout is here, and not much: the proxy's thread waits for it.
    time.sleep(TIMEOUT + 1)
    raise HangUp


def truncating(request, answer):
    half = len(answer.body) // 2
    return Answer(answer.status, answer.body[:half], answer.headers, len(answer.body) - half)


@pytest.fixture
def host(compute, tmp_path):
    add_foreign_data(compute)
    return AgentHost(tmp_path, compute)


@pytest.fixture
def proxy(placement, host):
    with Proxy(placement.url) as proxy:
        host.speak_to(proxy.url)
        yield proxy


def puts_traits(request, compute):
    return request.method == 'PUT' and request.path.endswith(f'/{compute.uuid}/traits')


@pytest.mark.parametrize(
    ('at', 'before', 'after', 'texts'),
    [
        ('GET inventories', None, truncating, []),
        ('PUT MEMORY_MB', None, truncating, []),
        (
            'PUT MEMORY_MB',
            lambda request: LOGIN_PAGE,
            None,
            ['not a JSON object', 'Sign in', 'proxy'],
        ),
        ('PUT MEMORY_MB', resetting, None, ['reset']),
        ('GET inventories', hanging, None, ['timed out', '[placement]timeout']),
    ],
    ids=['truncated', 'truncated after a write', 'login page', 'reset', 'hang'],
)
def test_a_failure_is_one_line(host, proxy, compute, placement, at, before, after, texts):
    """Exit 1 without a second try, and nothing wrong is written."""
    method, last = at.split()
    host.configure('placement', timeout=TIMEOUT)
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
    for text in texts:
        assert text in ended.line
    # It names the request and the service, without Python's names of errors.
    assert f'/resource_providers/{compute.uuid}/' in ended.line
    assert not re.search(r'Traceback|(Error|Exception|Read|Disconnected)\(', ended.line)
    assert len(ended.line) < 500
    assert len([request for request in proxy.requests if here(request)]) == 1
    assert here(proxy.requests[-1])
    assert foreign(compute) == others
    assert capacity_before_trait(compute)
    if before is not None or method == 'GET':
        assert compute.everything() == everything
        return

    # Placement did what was requested, only the answer was lost.
    assert own_traits(compute) == set()
    host.speak_to(placement.url)
    assert host.once().status == 0
    assert is_enabled(compute)
    assert foreign(compute) == others


def test_a_conflict_at_every_write_ends_after_four_tries(host, proxy, compute):
    """Another client is faster each time: all is read again, and at last the reason is logged."""
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
    read = [request.path for request in proxy.requests if request.method == 'GET']
    assert read.count(f'/resource_providers/{compute.uuid}/inventories') == 4
    added = {f'CUSTOM_RACK_{number}' for number in range(1, 5)}
    assert compute.everything() == before | {'traits': before['traits'] | added}


def test_a_trait_that_vanishes_before_it_is_named_is_created_again(tmp_path):
    """Another client cleans up unused traits: Placement then answers 400 once."""
    deleted = 0

    def clean_up(request):
        nonlocal deleted
        if puts_traits(request, compute) and not deleted:
            deleted = 1
            compute.call('DELETE', f'/traits/{ENABLED_TRAIT}')

    # One of its own: what other hosts have can't be deleted.
    with PlacementServer(tmp_path / 'placement') as placement:
        compute = NovaCompute(placement.url).start()
        with Proxy(placement.url, before=clean_up) as proxy:
            assert AgentHost(tmp_path / 'host', compute, proxy.url).once().is_clean
        assert 400 in [answer.status for answer in proxy.answers]
        assert is_enabled(compute)


def test_an_inventory_that_vanishes_before_it_is_written_is_waited_for(host, proxy, compute):
    """The record is nova-compute's: the agent does not create it, and logs what is missing."""
    path = f'/resource_providers/{compute.uuid}/inventories/MEMORY_MB'
    for instance in compute.allocations():
        compute.deallocate(instance)

    def delete(request):
        if (request.method, request.path) == ('PUT', path) and compute.inventories().get(
            'MEMORY_MB'
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
    host.configure('placement', timeout=TIMEOUT)
    proxy.before = lambda request: time.sleep(TIMEOUT / 4)
    start = time.monotonic()
    assert host.once().is_clean
    assert time.monotonic() - start > TIMEOUT
    assert is_enabled(compute)


def test_an_unknown_certificate_is_logged_with_the_option_to_set(
    host, placement, compute, tmp_path
):
    certificate = self_signed(tmp_path / 'certificate-and-key.pem')
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
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


def self_signed(path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'a test')])
    address = x509.IPAddress(ipaddress.ip_address('127.0.0.1'))
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(pem)
        + key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    )
    return path

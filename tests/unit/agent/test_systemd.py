# SPDX-License-Identifier: Apache-2.0
"""What is sent to systemd, through a real datagram socket."""

import os
import socket

import pytest

from fbm_placement.agent.systemd import Notifier


@pytest.fixture(params=['path', 'abstract'])
def listener(request, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        if request.param == 'path':
            name = str(tmp_path / 'notify')
            sock.bind(name)
        else:
            name = f'@fbm-test-{os.getpid()}-{id(sock)}'
            sock.bind('\0' + name[1:])
        sock.settimeout(5)
        yield sock, name


def received(sock):
    return sock.recv(4096).decode()


@pytest.mark.parametrize(
    ('assignments', 'message'),
    [
        ({'READY': 1, 'STATUS': 'all well'}, 'READY=1\nSTATUS=all well'),
        ({'RELOADING': 1}, 'RELOADING=1'),
        # A line break would be another assignment.
        ({'STATUS': 'a\nMAINPID=1\r\nREADY=1'}, 'STATUS=a MAINPID=1 READY=1'),
        ({'READY': 1, 'STATUS': 'a\n\n  b\v\x85c\u2028d'}, 'READY=1\nSTATUS=a b c d'),
        ({'STATUS': 'Größe'}, 'STATUS=Größe'),
    ],
)
def test_messages(listener, monkeypatch, assignments, message):
    """One datagram each, to the address in the process's environment."""
    sock, name = listener
    monkeypatch.setenv('NOTIFY_SOCKET', name)
    Notifier().send(**assignments)
    assert received(sock) == message
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        received(sock)


def test_the_watchdog_is_notified_only_where_systemd_asks(listener):
    sock, name = listener
    Notifier({'NOTIFY_SOCKET': name}).alive()
    Notifier({'NOTIFY_SOCKET': name, 'WATCHDOG_USEC': '2000000'}).alive()
    Notifier({'NOTIFY_SOCKET': name}).send(STOPPING=1)
    assert [received(sock), received(sock)] == ['WATCHDOG=1', 'STOPPING=1']


def test_ready_comes_after_half_a_minute(listener):
    """So that a start ends: the host's boot waits for it, and so does a reload."""
    sock, name = listener
    now = [100.0]
    notifier = Notifier({'NOTIFY_SOCKET': name, 'WATCHDOG_USEC': '40000000'}, lambda: now[0])
    assert [notifier.pause(90.0), notifier.pause(7.0)] == [20.0, 7.0]
    now[0] = 125.0
    assert notifier.pause(90.0) == 5.0
    now[0] = 129.9
    notifier.alive()
    assert (notifier.is_ready, received(sock)) == (False, 'WATCHDOG=1')
    now[0] = 130.0
    notifier.alive()
    assert notifier.is_ready
    assert [received(sock), received(sock)] == ['WATCHDOG=1', 'READY=1']
    notifier.alive()
    assert (received(sock), notifier.pause(90.0)) == ('WATCHDOG=1', 20.0)


@pytest.mark.parametrize(
    'environ',
    [{}, {'NOTIFY_SOCKET': ''}, {'NOTIFY_SOCKET': '/nowhere/notify'}, {'NOTIFY_SOCKET': '@gone'}],
)
def test_without_systemd_nothing_fails(environ):
    notifier = Notifier({'WATCHDOG_USEC': '1000000', **environ})
    notifier.send(READY=1, STATUS='x')
    notifier.alive()


@pytest.mark.parametrize(
    ('environ', 'expected'),
    [
        ({}, None),
        ({'WATCHDOG_USEC': '60000000'}, 30.0),
        ({'WATCHDOG_USEC': '1000000'}, 0.5),
        ({'WATCHDOG_USEC': '60000000', 'WATCHDOG_PID': str(os.getpid())}, 30.0),
        ({'WATCHDOG_USEC': '60000000', 'WATCHDOG_PID': '1'}, None),
        ({'WATCHDOG_USEC': '0'}, None),
        ({'WATCHDOG_USEC': '-5'}, None),
        ({'WATCHDOG_USEC': 'x'}, None),
        ({'WATCHDOG_USEC': ''}, None),
    ],
)
def test_watchdog_interval(environ, expected):
    """Half of what systemd allows, and only for the process that it asks."""
    assert Notifier(environ).watchdog_interval == expected

# SPDX-License-Identifier: Apache-2.0
"""What systemd is told, through a real datagram socket."""

import os
import socket

import pytest

from fbm_placement.systemd import Notifier


@pytest.fixture(params=['path', 'abstract'])
def listener(request, tmp_path):
    """Return a socket as systemd opens it, and its name for NOTIFY_SOCKET."""
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
    ('tell', 'message'),
    [
        (lambda n: n.ready('all well'), 'READY=1\nSTATUS=all well'),
        (lambda n: n.status('try 1 failed'), 'STATUS=try 1 failed'),
        (lambda n: n.reloading(), 'RELOADING=1'),
        (lambda n: n.watchdog(), 'WATCHDOG=1'),
        (lambda n: n.stopping(), 'STOPPING=1'),
        # A line break would be another assignment.
        (lambda n: n.status('a\nMAINPID=1\r\nREADY=1'), 'STATUS=a MAINPID=1 READY=1'),
        (lambda n: n.ready('a\n\n  b\v\x85c\u2028d'), 'READY=1\nSTATUS=a b c d'),
        (lambda n: n.status('Größe'), 'STATUS=Größe'),
    ],
)
def test_messages(listener, tell, message):
    """Each word of sd_notify(3) as systemd expects it, one datagram each."""
    sock, name = listener
    tell(Notifier({'NOTIFY_SOCKET': name, 'WATCHDOG_USEC': '2000000'}))
    assert received(sock) == message
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        received(sock)


def test_no_watchdog_no_sign_of_life(listener):
    """WATCHDOG=1 goes only where it was asked for."""
    sock, name = listener
    notifier = Notifier({'NOTIFY_SOCKET': name})
    notifier.watchdog()
    notifier.stopping()
    assert received(sock) == 'STOPPING=1'


@pytest.mark.parametrize(
    'environ',
    [{}, {'NOTIFY_SOCKET': ''}, {'NOTIFY_SOCKET': '/nowhere/notify'}, {'NOTIFY_SOCKET': '@gone'}],
)
def test_nobody_listens(environ):
    """Without systemd, or with it gone, nothing is told and nothing fails."""
    notifier = Notifier({'WATCHDOG_USEC': '1000000', **environ})
    notifier.ready('x')
    notifier.status('x')
    notifier.reloading()
    notifier.watchdog()
    notifier.stopping()


def test_the_environment_is_the_default(listener, monkeypatch):
    """The address comes from the process's environment."""
    sock, name = listener
    monkeypatch.setenv('NOTIFY_SOCKET', name)
    Notifier().stopping()
    assert received(sock) == 'STOPPING=1'


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

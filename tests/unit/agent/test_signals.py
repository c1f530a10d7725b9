# SPDX-License-Identifier: Apache-2.0
"""Real signals, to this very process: none is lost, none hits inside a request."""

import contextlib
import functools
import os
import signal
import threading
import time

import pytest

from fbm_placement.agent.signals import Signals

ALL = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

SOON = 0.05
NEVER = 20.0
"""No test waits so long, unless it fails."""


def blocked():
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def sender():
    """Return what sends a signal to this process.

    Where it has more threads (pytest-xdist), to this one: another one might take it.
    """
    if len(os.listdir('/proc/self/task')) == 1:
        return functools.partial(os.kill, os.getpid())
    return functools.partial(signal.pthread_kill, threading.get_ident())


def send(signum):
    sender()(signum)


@contextlib.contextmanager
def sent_soon(signum):
    timer = threading.Timer(SOON, sender(), (signum,))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.fixture
def signals():
    with Signals() as signals:
        yield signals


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_wait_ends_at_once(signals, signum):
    begin = time.monotonic()
    with sent_soon(signum):
        assert signals.wait(NEVER)
    assert time.monotonic() - begin < NEVER / 2
    assert signals.stop == (signum != signal.SIGHUP)
    assert signals.take_reload() == (signum == signal.SIGHUP)


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_pending_signal_is_seen(signals, signum):
    """Between two requests the agent sees what came during the first, without waiting."""
    assert not signals.stop
    send(signum)
    assert signals.stop
    assert signals.stop
    begin = time.monotonic()
    assert signals.wait(NEVER)
    assert signals.wait(NEVER)
    assert signals.stop
    assert time.monotonic() - begin < NEVER / 2


def test_a_wait_that_no_signal_ends(signals):
    begin = time.monotonic()
    assert not signals.wait(SOON)
    assert time.monotonic() - begin >= SOON
    assert not signals.stop
    assert not signals.take_reload()


@pytest.mark.parametrize('seconds', [0, -1.0])
def test_no_time_to_wait(signals, seconds):
    """A time that is over already is no error, and a signal is still seen."""
    assert not signals.wait(seconds)
    send(signal.SIGHUP)
    assert signals.wait(seconds)
    assert signals.take_reload()


def test_a_reload_taken_in_a_short_wait_ends_the_long_one(signals):
    """SIGHUP during the wait after a conflict isn't lost when the pass goes on."""
    send(signal.SIGHUP)
    assert signals.wait(SOON)
    begin = time.monotonic()
    assert signals.wait(NEVER)
    assert time.monotonic() - begin < NEVER / 2
    assert signals.take_reload()


def test_a_reload_is_taken_once(signals):
    send(signal.SIGHUP)
    assert not signals.stop
    assert signals.wait(NEVER)
    assert signals.take_reload()
    assert not signals.take_reload()
    assert not signals.wait(0)
    send(signal.SIGHUP)
    assert signals.wait(NEVER)
    assert signals.take_reload()


def test_both_come(signals):
    send(signal.SIGHUP)
    send(signal.SIGTERM)
    assert signals.stop
    assert signals.wait(NEVER)
    assert signals.stop
    assert signals.take_reload()


def test_other_signals_are_left_alone(signals):
    assert blocked() >= ALL
    assert not blocked() & {signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGQUIT}


@pytest.fixture
def hits():
    hits = []
    before = {signum: signal.signal(signum, lambda n, frame: hits.append(n)) for signum in ALL}
    yield hits
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_the_mask_is_restored(hits):
    """After the block signals act as before, and one that came late doesn't hit."""
    assert not blocked() & ALL
    with Signals():
        assert blocked() >= ALL
        send(signal.SIGTERM)
        send(signal.SIGHUP)
        send(signal.SIGINT)
    assert not blocked() & ALL
    assert hits == []
    send(signal.SIGHUP)
    assert hits == [signal.SIGHUP]


def test_the_mask_is_restored_after_an_error(hits):

    def fail():
        with Signals():
            send(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not blocked() & ALL
    assert hits == []


def test_what_was_blocked_before_stays_blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})
    try:
        with Signals():
            pass
        assert blocked() & {signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM} == {
            signal.SIGHUP,
            signal.SIGUSR1,
        }
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGUSR1})

# SPDX-License-Identifier: Apache-2.0
"""Functions in a child process: real processes."""

import errno
import gc
import os
import pickle
import signal
import time

import pytest

from fbm_placement import errors
from fbm_placement.host import probe as probe_module
from fbm_placement.host.probe import Probe
from fbm_placement.model import Store


def children():
    path = f'/proc/self/task/{os.getpid()}/children'
    with open(path, encoding='ascii') as file:
        return file.read().split()


def test_it_returns_what_the_function_returns():
    before = children()
    answer = (Store('/srv/ä', exposed=('x' * 1_000_000,)), [None, {1, 2}])
    assert Probe().ask(lambda: answer) == answer
    assert Probe().ask(os.getpid) != os.getpid()
    assert children() == before


class Garbage:
    """As a socket of a failed request: it is part of a cycle, and closes its number at its end."""

    def __init__(self):
        self.me = self
        self.parent = os.getpid()

    def __del__(self):
        if os.getpid() != self.parent:
            os.close(3)


def test_garbage_closes_nothing_in_the_child():
    gc.collect()
    Garbage()
    assert Probe().ask(lambda: len([[] for _ in range(1_000_000)])) == 1_000_000


def test_an_error_is_raised_here():
    with pytest.raises(FileNotFoundError) as raised:
        Probe().ask(lambda: os.stat('/no/such/path'))
    assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, '/no/such/path')


def test_a_function_that_ends_the_child_gave_no_answer():
    with pytest.raises(errors.NoAnswerError, match='ended without an answer'):
        Probe().ask(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_half_an_answer_is_none():
    half = pickle.dumps(['x' * 1000])[:500]
    with pytest.raises(errors.NoAnswerError, match='ended without an answer'):
        Probe().ask(lambda: (os.write(3, half), os._exit(0)))


def test_a_child_that_hangs_is_ended():
    """One that can be killed leaves no process behind, and the next one runs."""
    before = children()
    probe = Probe(seconds=0.2)
    start = time.monotonic()
    with pytest.raises(errors.NoAnswerError, match='no answer in'):
        probe.ask(lambda: time.sleep(60))
    assert time.monotonic() - start < 2
    assert children() == before
    assert probe.ask(lambda: 'well') == 'well'


def test_one_that_cannot_be_killed_is_left_behind_but_not_joined_by_another(monkeypatch):
    """A process in uninterruptible sleep can't be made here: a SIGKILL that is lost stands in."""
    kill = os.kill
    killed = []
    monkeypatch.setattr(probe_module.os, 'kill', lambda pid, number: killed.append(pid))
    probe = Probe(seconds=2)
    with pytest.raises(errors.NoAnswerError, match='no answer in'):
        probe.ask(lambda: time.sleep(60))
    with pytest.raises(errors.NoAnswerError, match='has not returned'):
        probe.ask(lambda: pytest.fail('a second one was started'))
    kill(killed[0], signal.SIGKILL)
    monkeypatch.undo()
    os.waitid(os.P_PID, killed[0], os.WEXITED | os.WNOWAIT)
    assert probe.ask(lambda: 'well') == 'well'


def test_a_stuck_child_holds_none_of_our_pipes():
    """What waits for the end of this process's output must get it although a child still hangs."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    probe = Probe(seconds=2)
    descriptors = probe.ask(lambda: os.listdir('/proc/self/fd'))
    os.close(writing)
    os.close(reading)
    # Its three standard ones, the pipe of the answer, and listdir's own.
    assert len(descriptors) == 5

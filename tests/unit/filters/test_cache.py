# SPDX-License-Identifier: Apache-2.0
"""The cache for what is read from Placement: who waits for it, and for how long."""

import logging
import os
import threading
import time
from collections.abc import Callable

import pytest

from fbm_filters import cache
from fbm_filters.cache import Cache
from fbm_placement.errors import PlacementError


class Source:
    """Returns how often it was read."""

    def __init__(self):
        self.reads = 0
        self.now = 0.0
        self.error = None
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def read(self, _context):
        self.reads += 1
        mine = self.reads
        self.begun.set()
        self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        return mine

    def hang(self):
        self.begun.clear()
        self.go_on.clear()


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def make(source):
    made = []

    def make(seconds=60.0):
        made.append(Cache(source.read, seconds, 5 * seconds, lambda: source.now))
        return made[-1]

    yield make
    source.go_on.set()
    for one in made:
        one.close()


def eventually(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_the_first_value_is_waited_for_and_used(make, source) -> None:
    """For five intervals; then an older one is as good as none."""
    cached = make()
    for source.now, earliest, value in (
        (0, None, 1),
        (300, None, 1),
        (300, 0, 1),
        (301, None, 2),
        (302, 302, 3),
    ):
        assert cached.get(earliest).value == value
    assert cached.get().begun_at == 302


def test_it_is_read_again_without_any_request(make, source) -> None:
    """Until it is closed."""
    cached = make(0.01)
    cached.get()
    eventually(lambda: source.reads > 3)
    source.hang()
    source.begun.wait(10)
    cached.close()
    before = source.reads
    source.go_on.set()
    time.sleep(0.1)
    assert source.reads == before


def test_no_request_waits_while_something_usable_is_known(make, source) -> None:
    """However long Placement hangs, and however many requests there are."""
    cached = make(0.01)
    cached.get()
    source.hang()
    source.begun.wait(10)
    began = time.monotonic()
    for _ in range(1000):
        assert cached.get().value >= 1
    assert time.monotonic() - began < 10


@pytest.mark.parametrize('error', [None, PlacementError('away')])
def test_one_thread_reads_and_the_others_wait(make, source, error) -> None:
    """Twenty requests at once cost one read, whether it fails or not."""
    source.error = error
    source.go_on.clear()
    cached = make()
    results = []

    def get():
        try:
            results.append(cached.get().value)
        except PlacementError as exc:
            results.append(str(exc))

    threads = [threading.Thread(target=get) for _ in range(20)]
    for thread in threads:
        thread.start()
    source.begun.wait(10)
    source.go_on.set()
    for thread in threads:
        thread.join(10)
    assert source.reads == 1
    assert results == [1 if error is None else 'away'] * 20


def test_a_value_that_began_too_early_is_not_waited_for(make, source) -> None:
    """The one after it is."""
    cached = make()
    cached.get()
    source.hang()
    results = []
    threads = []
    for source.now in (1.0, 2.0):
        args = (source.now,)
        threads.append(
            threading.Thread(target=lambda now: results.append(cached.get(now)), args=args)
        )
        threads[-1].start()
        source.begun.wait(10)
        time.sleep(0.05)
    source.go_on.set()
    for thread in threads:
        thread.join(10)
    assert sorted(one.value for one in results) in ([2, 3], [3, 3])
    assert cached.get(2.0).value == 3


def test_after_a_failure_nobody_waits(make, source, caplog, monkeypatch) -> None:
    """The thread tries again by itself, earlier than after a success; each failure is logged."""
    monkeypatch.setattr(cache, 'RETRY_SECONDS', 0.01)
    caplog.set_level(logging.INFO, logger='fbm_filters')
    cached = make()
    source.error = PlacementError('away')
    with pytest.raises(PlacementError, match='away'):
        cached.get()
    source.hang()
    source.begun.wait(10)
    began = time.monotonic()
    with pytest.raises(PlacementError, match='away'):
        cached.get()
    assert time.monotonic() - began < 10
    source.error = None
    source.go_on.set()
    eventually(lambda: 'Placement answers again' in caplog.text)
    assert cached.get().value == source.reads
    assert 'away; which hosts fit is not known' in caplog.text


def test_a_failure_keeps_no_request(make, source) -> None:
    """Each that raises it would else add itself, with all that it holds, and to the traceback."""
    cached = make()
    source.error = PlacementError('away')
    lengths = []
    for _ in range(3):
        with pytest.raises(PlacementError) as caught:
            cached.get()
        lengths.append(len(caught.traceback))
    assert lengths[0] == lengths[2]


def test_a_failure_is_logged_ever_more_rarely(make, source, caplog, monkeypatch) -> None:
    """With the age of what is used meanwhile."""
    monkeypatch.setattr(cache, 'RETRY_SECONDS', 0.001)
    cached = make(20.0)
    cached.get()
    source.now, source.error = 7.0, PlacementError('away')
    with pytest.raises(PlacementError):
        cached.get(7.0)
    eventually(lambda: source.reads > 9)
    lines = [record.getMessage() for record in caplog.records if 'away' in record.getMessage()]
    assert len(lines) in (4, 5)
    assert set(lines) == {
        'File-backed memory: away; using what Placement answered 7 s ago, until it is 100 s old'
    }
    assert cached.get().value == 1


def test_a_bug_is_logged_with_its_traceback(make, source, caplog) -> None:
    """It is raised in the requests that can't go on without a value, and ends no thread."""
    cached = make()
    source.error = KeyError('a bug')
    with pytest.raises(KeyError):
        cached.get()
    (record,) = [one for one in caplog.records if one.exc_info]
    assert record.exc_info[1] is source.error


def test_a_read_that_hangs_is_waited_for_so_long_and_then_replaced(
    make, source, monkeypatch, caplog
) -> None:
    """Its thread ends when it comes back, and what it brings is not used."""
    monkeypatch.setattr(cache, 'WAIT_SECONDS', 0.05)
    cached = make()
    source.hang()
    with pytest.raises(PlacementError, match='no answer in 0 s'):
        cached.get()
    with pytest.raises(PlacementError, match='no answer'):
        cached.get()
    assert source.reads == 1
    hanging, source.go_on = source.go_on, threading.Event()
    source.go_on.set()
    source.now = 61.0
    eventually(lambda: is_known(cached, 2))
    assert 'no answer in 60 s' in caplog.text
    hanging.set()
    time.sleep(0.05)
    assert (cached.get().value, source.reads) == (2, 2)


def is_known(cached, value) -> bool:
    try:
        return cached.get().value == value
    except PlacementError:
        return False


def test_a_thread_that_cannot_be_started_is_started_later(make, source, monkeypatch) -> None:
    """The limit of threads is reached for a moment."""
    cached = make()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', refused)
        with pytest.raises(RuntimeError):
            cached.get()
    assert cached.get().value == 1


def refused(_thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_forked_process_has_a_thread_of_its_own(make, source) -> None:
    """nova-scheduler forks its workers, perhaps while the thread is at work."""
    cached = make()
    cached.get()
    source.hang()
    source.now = 1.0
    asking = threading.Thread(target=cached.get, args=(1.0,))
    asking.start()
    source.begun.wait(10)
    child = os.fork()
    if child == 0:
        source.go_on = threading.Event()
        source.go_on.set()
        os._exit(0 if cached.get().value == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    source.go_on.set()
    asking.join(10)
    assert cached.get().value == 2

# SPDX-License-Identifier: Apache-2.0
"""The cache for what is read from Placement."""

import threading

import pytest
from nova import context as nova_context

from fbm_filters.fresh import Fresh
from fbm_placement.errors import PlacementError

CONTEXT = nova_context.get_admin_context()


class Source:
    def __init__(self):
        self.fetched = 0
        self.now = 0.0
        self.error = None
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def fetch(self, _context):
        self.fetched += 1
        self.begun.set()
        self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        return self.fetched

    def fresh(self, fallback_seconds=0):
        return Fresh(self.fetch, 60, fallback_seconds, lambda: self.now)


@pytest.fixture
def source():
    return Source()


def test_a_value_is_kept_while_it_is_fresh(source) -> None:
    """And fetched again after that, or where a younger one is needed."""
    fresh = source.fresh()
    for source.now, earliest, value in (
        (0, None, 1),
        (60, None, 1),
        (60, 0, 1),
        (61, None, 2),
        (62, 61, 2),
        (62, 62, 3),
    ):
        assert fresh.get(CONTEXT, earliest).value == value
    assert fresh.get(CONTEXT).begun_at == 62


@pytest.mark.parametrize('error', [None, PlacementError('away')])
def test_one_thread_fetches_and_the_others_wait(source, error) -> None:
    """Twenty requests at once cost one fetch, whether it fails or not."""
    source.error = error
    source.go_on.clear()
    fresh = source.fresh()
    results = []

    def get():
        try:
            results.append(fresh.get(CONTEXT).value)
        except PlacementError as exc:
            results.append(str(exc))

    threads = [threading.Thread(target=get) for _ in range(20)]
    for thread in threads:
        thread.start()
    source.begun.wait(10)
    source.go_on.set()
    for thread in threads:
        thread.join(10)
    assert source.fetched == 1
    assert results == [1 if error is None else 'away'] * 20


def test_after_a_failure_the_next_one_tries_again(source) -> None:
    """Only those that waited for it share it."""
    fresh = source.fresh()
    source.error = PlacementError('away')
    for source.now in (1, 2):
        with pytest.raises(PlacementError, match='away'):
            fresh.get(CONTEXT)
    source.now, source.error = 3, None
    assert fresh.get(CONTEXT).value == 3


def test_an_older_value_is_better_than_none_for_a_while(source) -> None:
    """With a warning; where nothing is allowed for that, the failure is raised at once."""
    kept, strict = source.fresh(fallback_seconds=300), source.fresh()
    assert (kept.get(CONTEXT).value, strict.get(CONTEXT).value) == (1, 2)
    source.now, source.error = 300, PlacementError('away')
    assert kept.get(CONTEXT).value == 1
    with pytest.raises(PlacementError):
        strict.get(CONTEXT)
    source.now = 301
    with pytest.raises(PlacementError):
        kept.get(CONTEXT)


def test_any_other_error_is_not_remembered(source) -> None:
    """It is a bug, and its lock is free again."""
    fresh = source.fresh()
    source.error = KeyError('a bug')
    for _ in range(2):
        with pytest.raises(KeyError):
            fresh.get(CONTEXT)
    source.error = None
    assert fresh.get(CONTEXT).value == 3

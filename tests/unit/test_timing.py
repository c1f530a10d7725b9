# SPDX-License-Identifier: Apache-2.0
"""How long the loop waits."""

import pytest

from fbm_placement import timing


def low(a: float, b: float) -> float:
    """Throw the lowest number."""
    return min(a, b)


def high(a: float, b: float) -> float:
    """Throw the highest number."""
    return max(a, b)


def test_the_first_wait_falls_anywhere_in_the_interval() -> None:
    """Hosts that were started together don't stay together."""
    assert timing.after_success(60, first=True, dice=low) == 1
    assert timing.after_success(60, first=True, dice=high) == 60


def test_later_waits_stay_near_the_interval() -> None:
    """A tenth to either side."""
    assert timing.after_success(60, first=False, dice=low) == pytest.approx(54)
    assert timing.after_success(60, first=False, dice=high) == pytest.approx(66)


@pytest.mark.parametrize(
    ('failures', 'shortest', 'longest'),
    [(1, 1, 2), (2, 2, 4), (3, 4, 8), (5, 16, 32), (6, 30, 60), (7, 30, 60), (10**6, 30, 60)],
)
def test_a_failure_is_tried_again_sooner_then_later(
    failures: int, shortest: float, longest: float
) -> None:
    """Doubled each time, never later than a good pass would be."""
    assert timing.after_failure(failures, 60, dice=low) == shortest
    assert timing.after_failure(failures, 60, dice=high) == longest


def test_never_comes_before_the_service_asked() -> None:
    """Retry-After is a lower bound, spread too: it was told to every host at once."""
    assert timing.after_failure(1, 60, retry_after=300, dice=low) == 300
    assert timing.after_failure(1, 60, retry_after=300, dice=high) == pytest.approx(330)


def test_a_short_retry_after_does_not_hasten() -> None:
    """Retry-After: 0 from a proxy must not make a busy loop."""
    assert timing.after_failure(3, 60, retry_after=0, dice=low) == 4

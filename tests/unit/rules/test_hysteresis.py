# SPDX-License-Identifier: Apache-2.0
"""How long a problem counts after it was last seen."""

from fbm_placement.model import Problem, Recovery
from fbm_placement.rules.hysteresis import Hysteresis

FULL = (Problem('too small', 'full'), Problem('exposed', 'readable'))


def recovering(good, needed):
    text = (
        f'recovering: {good} of {needed} successful checks in a row, no action is needed '
        '(the problem was: full)'
    )
    return (Problem('store', text, recovering=True),)


def test_a_problem_counts_at_once_and_ends_after_enough_good_checks():
    """A store at the edge of its size would come and go with each file on it otherwise."""
    store = Hysteresis('store', 3)
    assert not store.settling
    assert store.after(()) == ()
    assert store.after(FULL) == FULL
    assert store.after(()) == recovering(1, 3)
    assert store.after(FULL) == FULL
    assert store.after(()) == recovering(1, 3)
    assert store.after(()) == recovering(2, 3)
    assert store.after(()) == ()
    assert store.after(()) == ()


def test_a_problem_from_the_start_ends_with_the_first_good_check():
    """A host that boots is no host that flaps."""
    store = Hysteresis('store', 3, settles=True)
    assert [store.after(FULL), store.settling] == [FULL, True]
    assert [store.after(FULL), store.settling] == [FULL, True]
    assert [store.after(()), store.settling, store.recovery] == [(), False, None]
    assert store.after(FULL) == FULL
    assert [store.after(()), store.settling] == [recovering(1, 3), False]


def test_a_problem_of_an_earlier_process_is_none_from_the_start():
    store = Hysteresis('store', 3, Recovery('full', 0), settles=True)
    assert not store.settling
    assert store.after(()) == recovering(1, 3)


def test_a_recovery_continues_in_the_next_process():
    """A restart of the agent ends no problem, and single passes end it after enough of them."""
    first = Hysteresis('store', 2)
    assert (first.recovery, first.last_was_good) == (None, True)
    first.after(FULL)
    assert (first.recovery, first.last_was_good) == (Recovery('full', 0), False)
    second = Hysteresis('store', 2, first.recovery)
    assert second.after(()) == recovering(1, 2)
    assert second.last_was_good
    third = Hysteresis('store', 2, second.recovery)
    assert third.after(()) == ()
    assert third.recovery is None


def test_a_recovery_that_is_longer_than_needed_is_over():
    """The agent before this one may have needed more checks."""
    store = Hysteresis('store', 2, Recovery('full', 5))
    assert store.after(()) == ()
    assert store.recovery is None

# SPDX-License-Identifier: Apache-2.0
"""How long a problem counts after it was last seen."""

from fbm_placement.host.state_file import Recovery
from fbm_placement.model import Problem
from fbm_placement.rules.hysteresis import Hysteresis

FULL = (Problem('too small', 'full'),)


def recovering(good, needed):
    text = f'seen well {good} of {needed} times in a row that it takes; there is nothing to do'
    return (Problem('store', f'{text} but wait (it was: full)', recovering=True),)


def test_a_problem_counts_at_once_and_ends_after_enough_good_checks():
    """A store at the edge of its size would come and go with each file on it otherwise."""
    store = Hysteresis('store', 3)
    assert store.after(()) == ()
    assert store.after(FULL) == FULL
    assert store.after(()) == recovering(1, 3)
    assert store.after(FULL) == FULL
    assert store.after(()) == recovering(1, 3)
    assert store.after(()) == recovering(2, 3)
    assert store.after(()) == ()
    assert store.after(()) == ()


def test_a_recovery_continues_in_the_next_process():
    """A restart of the agent ends no problem, and single passes end it after enough of them."""
    first, second, third = (Hysteresis('store', 2) for _ in range(3))
    assert first.recovery is None
    first.after(FULL)
    assert first.recovery == Recovery('full', 0)
    second.restore(first.recovery)
    assert second.after(()) == recovering(1, 2)
    third.restore(second.recovery)
    assert third.after(()) == ()
    assert third.recovery is None

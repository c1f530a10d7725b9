# SPDX-License-Identifier: Apache-2.0
"""How long the loop waits. Pure but for the dice, which tests hand in.

Ten thousand hosts that were started by one power-on must not march in step: the first wait falls
anywhere in the interval, later ones keep drifting apart.
"""

import random
from collections.abc import Callable

Dice = Callable[[float, float], float]

JITTER = 0.1
"""Later waits are up to a tenth shorter or longer; enough to drift apart, too little to notice."""

FIRST_RETRY_SECONDS = 2.0
"""After a first failure: most restarts of a service are over by then. Doubled each time."""


def after_success(interval: float, first: bool, dice: Dice = random.uniform) -> float:
    """Return the seconds until the next pass.

    :param first: this was the first good pass, so the phase of this host is still to be chosen
    """
    if first:
        return dice(min(1.0, interval), interval)
    return interval * dice(1 - JITTER, 1 + JITTER)


def after_failure(
    failures: int,
    interval: float,
    retry_after: float | None = None,
    dice: Dice = random.uniform,
) -> float:
    """Return the seconds until the next try: sooner than ``interval``, later each time.

    :param failures: how many passes failed in a row, this one included
    :param retry_after: what the service itself asked for; never come sooner than that
    """
    # 2**30 is past every interval; without the bound a long outage would overflow a float.
    longest = min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 30), interval)
    wait = dice(longest / 2, longest)
    if retry_after is not None:
        wait = max(wait, retry_after * dice(1.0, 1 + JITTER))
    return wait

# SPDX-License-Identifier: Apache-2.0
"""An end for a request as a whole."""

import threading
import time

import pytest

from fbm_placement.http import deadline


def test_ends_what_takes_too_long() -> None:
    """Also where each single byte comes in time."""

    def trickle() -> None:
        with deadline(0.1):
            while True:
                time.sleep(0.01)

    begun = time.monotonic()
    with pytest.raises(TimeoutError, match='no complete answer in'):
        trickle()
    assert time.monotonic() - begun < 2


def test_leaves_nothing_behind() -> None:
    """A block that ends in time is never cut afterwards."""
    with deadline(0.05):
        pass
    time.sleep(0.1)


def test_other_threads_have_none() -> None:
    """Only the main thread gets signals."""
    done = []

    def work() -> None:
        with deadline(0.01):
            time.sleep(0.05)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done

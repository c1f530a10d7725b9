# SPDX-License-Identifier: Apache-2.0
"""An end for a request as a whole: requests' timeout begins anew with each byte."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

REQUEST_DEADLINE_SECONDS = 75.0
"""With its token and discovery. Below the unit's TimeoutStopSec, far below its WatchdogSec."""


@contextlib.contextmanager
def deadline(seconds: float = REQUEST_DEADLINE_SECONDS) -> Iterator[None]:
    """Raise TimeoutError in the block when the time is over; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f'no complete answer in {seconds:.0f} s')

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

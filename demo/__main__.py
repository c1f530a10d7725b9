# SPDX-License-Identifier: Apache-2.0
"""Start the tour, end it in time, and leave nothing behind."""

import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demo.stage import Stage, Unexpected
from demo.tour import tour
from tests.services.nova_compute import ComputeError
from tests.services.openstack import CommandError
from tests.services.process import ProcessError

LIMIT_SECONDS = 300
# Errors whose message is enough; others need their traceback.
WITHOUT_TRACEBACK = (Unexpected, CommandError, ComputeError, ProcessError)


class _Ended(BaseException):
    """A signal ends the tour; no handler of mere errors may hold it up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # Once is enough: a second Ctrl-C must not interrupt the cleaning up.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)
    raise _Ended(number)


def main() -> int:
    """Return 0 only if all of the tour really happened."""
    if sys.argv[1:]:
        print(f'demo: {sys.argv[1]}: the tour takes no arguments; try: make demo', file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _end)
    signal.alarm(LIMIT_SECONDS)
    started = time.monotonic()
    stage = Stage()
    try:
        # Each with-block of the tour ends its process before this one removes its files.
        with tempfile.TemporaryDirectory(prefix='fbm-demo-') as directory:
            try:
                tour(stage, Path(directory))
            except Exception as error:
                stage.failed(error)
                if not isinstance(error, WITHOUT_TRACEBACK):
                    raise
                return 1
    except _Ended as ended:
        if ended.number == signal.SIGALRM:
            stage.failed(Unexpected('the end of the tour', f'{LIMIT_SECONDS} s were not enough'))
            return 1
        stage.say()
        stage.say('Interrupted; everything is stopped and removed.')
        return 128 + ended.number
    stage.say(
        f'All of it happened, in {time.monotonic() - started:.0f} s; '
        'everything is stopped and removed.'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())

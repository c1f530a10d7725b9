# SPDX-License-Identifier: Apache-2.0
"""Filesystem calls that may never return, in a child process.

A call on a filesystem that hangs is ended by no signal; a child can be left behind with it.
"""

import contextlib
import gc
import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from fbm_placement import errors

ANSWER_SECONDS = 5.0
"""A healthy disk answers in a millisecond, a busy one in a second."""

T = TypeVar('T')


class Probe:
    """Runs functions in a child process, one at a time."""

    def __init__(self, seconds: float = ANSWER_SECONDS) -> None:
        self._seconds = seconds
        self._stuck: int | None = None

    def ask(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returns: basic types and the project's own dataclasses.

        :raises NoAnswerError: none came in time, or the child of an earlier call is still stuck
        :raises OSError: as ``function`` raised it
        """
        # The children of a filesystem that hangs for days must not pile up.
        if self._stuck is not None and not _has_ended(self._stuck):
            raise errors.NoAnswerError('the check before this one has not returned yet')
        self._stuck = None
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _run_child(function, writing)
        os.close(writing)
        try:
            with open(reading, 'rb') as pipe:
                if not select.select([pipe], [], [], self._seconds)[0]:
                    raise errors.NoAnswerError(f'no answer in {self._seconds:.0f} s')
                # The other end is this process's own fork, and writes after its last check.
                answer: T | OSError = pickle.load(pipe)  # noqa: S301
        except (EOFError, pickle.UnpicklingError) as exc:
            raise errors.NoAnswerError('the check ended without an answer') from exc
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._stuck = None if _has_ended(pid, wait_seconds=1.0) else pid
        if isinstance(answer, OSError):
            raise answer
        return answer


def _run_child(function: Callable[[], object], writing: int) -> NoReturn:
    # A socket among the parent's garbage, as of a failed request, would close its number here,
    # which may be that of the pipe now.
    gc.disable()
    try:
        # Nothing that waits for the end of this process's output may wait for a stuck child.
        null = os.open(os.devnull, os.O_RDWR)
        for inherited in range(3):
            os.dup2(null, inherited)
        os.dup2(writing, 3)
        os.closerange(4, 65536)
        try:
            answer = function()
        except OSError as exc:
            answer = exc
        with open(3, 'wb') as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        os._exit(0)


def _has_ended(pid: int, wait_seconds: float = 0.0) -> bool:
    end = time.monotonic() + wait_seconds
    while True:
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return True
        if ended or time.monotonic() >= end:
            return bool(ended)
        time.sleep(0.001)

# SPDX-License-Identifier: Apache-2.0
"""Ask something of a filesystem that may never answer, without waiting for ever.

A system call on a hung filesystem ends for no signal and no thread; only another process can be
left behind with it.
"""

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from fbm_placement import errors

ANSWER_SECONDS = 5.0
"""A healthy disk answers in a millisecond, a busy one in a second."""


class Probe:
    """Runs a look in a child process, one at a time."""

    def __init__(self, seconds: float = ANSWER_SECONDS) -> None:
        """Wait so long for an answer."""
        self._seconds = seconds
        self._left_behind: int | None = None

    def ask(self, look: Callable[[], Any]) -> Any:
        """Return what ``look`` returns, as JSON carries it.

        :raises NoAnswerError: none came in time, or the child of an earlier ask is still stuck
        :raises OSError: as ``look`` raised it
        """
        # The children of a filesystem that hangs for days must not pile up.
        if self._left_behind is not None and not _has_ended(self._left_behind):
            raise errors.NoAnswerError('the look before this one has not come back yet')
        self._left_behind = None
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _answer(look, writing)
        os.close(writing)
        try:
            answer = _read(reading, self._seconds)
        finally:
            os.close(reading)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._left_behind = None if _has_ended(pid, wait_seconds=1.0) else pid
        if answer is None:
            raise errors.NoAnswerError(f'no answer in {self._seconds:.0f} s')
        return _told(answer)


def _answer(look: Callable[[], Any], writing: int) -> None:
    """Run in the child; never returns."""
    try:
        # Whoever waits for the end of our output must not wait for a stuck child's copy of it.
        null = os.open(os.devnull, os.O_RDWR)
        for inherited in range(3):
            os.dup2(null, inherited)
        os.dup2(writing, 3)
        os.closerange(4, 65536)
        try:
            told = {'answer': look()}
        except OSError as exc:
            told = {'error': [exc.errno, exc.strerror, exc.filename]}
        with open(3, 'w', encoding='utf-8') as pipe:
            json.dump(told, pipe)
    finally:
        os._exit(0)


def _read(reading: int, seconds: float) -> bytes | None:
    """Read to the end; None if that doesn't come in time."""
    end = time.monotonic() + seconds
    parts: list[bytes] = []
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([reading], [], [], left)
        if ready:
            parts.append(os.read(reading, 65536))
            if not parts[-1]:
                return b''.join(parts)
    return None


def _told(answer: bytes) -> Any:
    if not answer:
        raise errors.NoAnswerError('the look ended without an answer')
    told = json.loads(answer)
    if 'error' in told:
        raise OSError(*told['error'])
    return told['answer']


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

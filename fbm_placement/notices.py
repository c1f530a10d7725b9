# SPDX-License-Identifier: Apache-2.0
"""What was logged already: a state is logged when it changes, an event ever more rarely."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

FORGOTTEN_AFTER_SECONDS = 3600.0
"""An event that did not occur for so long is counted from 1 again."""


class Notices:
    """Remembers by topic what was logged last, and how often something happened."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Remember nothing; ``clock`` gives the time in seconds."""
        self._clock = clock
        self._states: dict[str, Any] = {}
        self._events: dict[str, tuple[int, float]] = {}

    def replace(self, topic: str, state: Any) -> Any:
        """Remember the state of a topic; return the one before, None at first."""
        before, self._states[topic] = self._states.get(topic), state
        return before

    def count(self, topic: str) -> tuple[int, bool]:
        """Count an event; return how many there were, and whether to log this one."""
        now = self._clock()
        times, last = self._events.get(topic, (0, now))
        times = 1 if now - last > FORGOTTEN_AFTER_SECONDS else times + 1
        self._events[topic] = times, now
        return times, is_due(times)


def is_due(times: int) -> bool:
    """Whether to log the event of this number: the 1st, 2nd, 4th, 8th, ..."""
    return times.bit_count() == 1


def is_written(name: str, level: int) -> bool:
    """Return whether a record of this logger reaches a handler that can write it."""
    logger: logging.Logger | None = logging.getLogger(name)
    if not logging.getLogger(name).isEnabledFor(level):
        return False
    error = RuntimeError()
    record = logging.LogRecord(name, level, '', 0, '', None, (RuntimeError, error, None))
    while logger is not None:
        for handler in logger.handlers:
            if handler.level <= level and not isinstance(handler, logging.NullHandler):
                # An unknown field in a format is an error with each record.
                with contextlib.suppress(Exception):
                    handler.format(record)
                    return True
        logger = logger.parent if logger.propagate else None
    return False

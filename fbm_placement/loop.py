# SPDX-License-Identifier: Apache-2.0
"""The agent's loop: a pass, a wait that a signal can end, and again."""

import time
from collections.abc import Callable

from oslo_log import log

from fbm_placement import errors, timing
from fbm_placement.agent import Agent
from fbm_placement.quarrel import Quarrel
from fbm_placement.reconcile import TRIES, Outcome
from fbm_placement.signals import Signals
from fbm_placement.systemd import Notifier
from fbm_placement.words import count, without_numbers

LOG = log.getLogger(__name__)


class Loop:
    """Runs passes until somebody asks it to end."""

    def __init__(
        self,
        agent: Agent,
        signals: Signals,
        notifier: Notifier,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Run ``agent``, listen to ``signals`` and tell systemd through ``notifier``."""
        self._agent = agent
        self._signals = signals
        self._notifier = notifier
        self._clock = clock
        self._ready = False
        self._failures = 0
        self._last_failure = ''
        self._races = Quarrel(clock)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        :raises ConfigurationError: ``[placement]`` can't be used, which no waiting mends
        """
        while not self._signals.stop:
            try:
                self._rest(self._pass())
            except errors.StopRequested:
                break
            if self._signals.take_reload():
                self._reload()
        self._notifier.stopping()
        self._agent.leave()
        LOG.info('Asked to end; Placement stays as it is')

    def _pass(self) -> float:
        """Run one pass and return the seconds to wait after it."""
        result = self._outcome()
        # Not told within the except clause: oslo.log would say the error a second time.
        if isinstance(result, Exception):
            return self._failed(result)
        if self._failures:
            LOG.info('Good again after %s', count(self._failures, 'failed pass', 'failed passes'))
        self._failures = 0
        status = self._agent.status(result)
        first, self._ready = not self._ready, True
        if first:
            LOG.info('Ready: %s', status)
            self._notifier.ready(status)
        else:
            self._notifier.status(status)
        return timing.after_success(self._agent.options.interval, first)

    def _outcome(self) -> Outcome | errors.PlacementError | errors.NotReadyError:
        try:
            return self._agent.run_pass()
        except (errors.PlacementError, errors.NotReadyError) as exc:
            return exc

    def _failed(self, exc: errors.PlacementError | errors.NotReadyError) -> float:
        if isinstance(exc, errors.ConflictError):
            self._lost_race(exc)
            return timing.after_failure(1, self._agent.options.interval)
        self._failures += 1
        wait = timing.after_failure(
            self._failures, self._agent.options.interval, getattr(exc, 'retry_after', None)
        )
        # A long outage is told when it begins, when it changes, and then ever more rarely.
        trouble = without_numbers(str(exc))
        if trouble != self._last_failure or self._failures.bit_count() == 1:
            LOG.error('%s (try %d; next in %.0f s)', exc, self._failures, wait)
        self._last_failure = trouble
        ill = '; '.join(('', *map(str, self._agent.facts.unhealthy)))
        self._notifier.status(f'try {self._failures} failed: {exc}{ill}')
        return wait

    def _lost_race(self, exc: errors.ConflictError) -> None:
        """Tell of a writer who was faster in every try; good passes in between don't hide that."""
        times, tell = self._races.count()
        if tell:
            LOG.warning(
                'Somebody else wrote this provider in each of %d tries (%d such passes so far): '
                '%s; who writes it so often? The next pass tries again',
                TRIES,
                times,
                exc,
            )

    def _rest(self, seconds: float) -> None:
        """Wait, with signs of life for systemd's watchdog, until the time is over or a signal."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            self._notifier.watchdog()
            if self._signals.wait(min(left, self._notifier.watchdog_interval or left)):
                return

    def _reload(self) -> None:
        # Before the first good pass systemd waits for READY, and RELOADING would mean that it was.
        if self._ready:
            self._notifier.reloading()
        self._agent.reload()
        if self._ready:
            self._notifier.ready('configuration read again')

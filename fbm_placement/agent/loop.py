# SPDX-License-Identifier: Apache-2.0
"""The agent's loop: a pass, a wait that a signal can end, and the next pass.

Ten thousand hosts that were started by one power-on must not act in step: the first wait falls
anywhere in the interval, and later ones vary.
"""

import random
import time
from collections.abc import Callable

from oslo_log import log

from fbm_placement import errors
from fbm_placement.agent.agent import Agent
from fbm_placement.agent.reconcile import TRIES, PassResult
from fbm_placement.agent.signals import Signals
from fbm_placement.agent.systemd import Notifier
from fbm_placement.model import HostFacts
from fbm_placement.notices import is_due
from fbm_placement.text import count, without_numbers

LOG = log.getLogger(__name__)

Failure = errors.PlacementError | errors.NotReadyError
Uniform = Callable[[float, float], float]
"""Returns a random number between two."""

JITTER = 0.1
"""Later waits are up to a tenth shorter or longer: enough to drift apart."""

FIRST_RETRY_SECONDS = 2.0
"""After a first failure: most restarts of a service are over by then. Doubled each time."""


class Loop:
    def __init__(
        self,
        agent: Agent,
        signals: Signals,
        notifier: Notifier,
        clock: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        self._agent = agent
        self._signals = signals
        self._notifier = notifier
        self._clock = clock
        self._uniform = uniform
        self._succeeded = False
        self._failures = 0
        self._settling = 0

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; ConfigurationError: ``[placement]`` can't be used."""
        try:
            while not self._signals.stop:
                try:
                    self._rest(self._pass())
                except errors.StopRequested:
                    break
                if self._signals.take_reload():
                    self._reload()
        finally:
            # systemctl status shows the last STATUS of a service that has ended, too.
            self._notifier.send(STOPPING=1, STATUS='')
        self._agent.leave()
        LOG.info('Stopping; Placement is left as it is')

    def _pass(self) -> float:
        """Run one pass and return the seconds to wait after it."""
        facts = self._agent.observe()
        result: PassResult | Failure
        try:
            result = self._agent.reconcile(facts)
        except errors.SettingsChanged:
            return 0.0
        except (errors.PlacementError, errors.NotReadyError) as exc:
            result = exc
        # Not logged within the except clause: oslo.log would add the error a second time.
        if not isinstance(result, PassResult):
            return self._failed(result, facts)
        if self._failures:
            LOG.info('Recovered after %s', count(self._failures, 'failed pass', 'failed passes'))
        self._failures = 0
        status = self._agent.status(result, facts)
        first, self._succeeded = not self._succeeded, True
        if first:
            LOG.info('Ready: %s', status)
            self._notifier.ready(STATUS=status)
        else:
            self._notifier.send(STATUS=status)
        interval = self._agent.options.interval
        wait = after_success(interval, first, self._uniform)
        self._settling = self._settling + 1 if facts.settling else 0
        if facts.settling:
            wait = min(wait, after_failure(self._settling, interval, None, self._uniform))
        return wait

    def _failed(self, exc: Failure, facts: HostFacts) -> float:
        notices, interval = self._agent.notices, self._agent.options.interval
        if isinstance(exc, errors.ConflictError):
            # Counted apart: good passes in between do not hide the other client.
            times, due = notices.count('conflicts')
            if due:
                LOG.warning(
                    'Another client wrote this provider during each of %d tries (%d such passes '
                    'so far): %s; find the client that writes it so often. The next pass tries '
                    'again',
                    TRIES,
                    times,
                    exc,
                )
            return after_failure(1, interval, None, self._uniform)
        self._failures += 1
        retry_after = getattr(exc, 'retry_after', None)
        wait = after_failure(self._failures, interval, retry_after, self._uniform)
        # A long outage is logged when it begins, when it changes, and then ever more rarely; its
        # second try comes so soon that it shows nothing new.
        error, again = without_numbers(str(exc)), self._failures != 2 and is_due(self._failures)
        if error != notices.replace('failure', error) or again:
            LOG.error('%s (try %d; next in %.0f s)', exc, self._failures, wait)
        problems = ''.join(f'; {problem}' for problem in facts.unhealthy)
        self._notifier.send(STATUS=f'try {self._failures} failed: {exc}{problems}')
        return wait

    def _rest(self, seconds: float) -> None:
        """Wait until the time is over or a signal comes, and keep systemd's watchdog quiet."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            self._notifier.alive()
            if self._signals.wait(self._notifier.pause(left)):
                return

    def _reload(self) -> None:
        # While systemd waits for READY, RELOADING would count as it.
        if not self._notifier.is_ready:
            self._agent.reload()
            return
        self._notifier.send(RELOADING=1)
        self._agent.reload()
        self._notifier.ready(STATUS='configuration reloaded')


def after_success(interval: float, first: bool, uniform: Uniform) -> float:
    """Return the seconds until the next pass; after the ``first``, any part of the interval."""
    if first:
        return uniform(min(1.0, interval), interval)
    return interval * uniform(1 - JITTER, 1 + JITTER)


def after_failure(
    failures: int, interval: float, retry_after: float | None, uniform: Uniform
) -> float:
    """Return the seconds until the next try: sooner than ``interval``, later each time.

    :param failures: how many passes failed in a row
    :param retry_after: what the service itself asked for, a lower bound
    """
    # 2**30 is past every interval; without the bound a long outage would overflow a float.
    longest = min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 30), interval)
    wait = uniform(longest / 2, longest)
    return wait if retry_after is None else max(wait, retry_after * uniform(1.0, 1 + JITTER))

# SPDX-License-Identifier: Apache-2.0
"""The loop: when the next pass is, what is logged, and how it ends. Time is the test's own."""

import logging

import pytest

from fbm_placement import errors, loop, report, settings
from fbm_placement.loop import Loop, after_failure, after_success
from fbm_placement.notices import Notices
from fbm_placement.placement import Provider
from fbm_placement.plan import HostFacts, Observation, make_plan, target
from fbm_placement.reconcile import PassResult
from fbm_placement.systemd import Notifier

HOST = settings.Settings(
    capacity_mib=4096, reserved_mib=0, virt_type='kvm', ram_allocation_ratio=1.0
)
GOAL = target(HOST, HostFacts())
SEEN = Observation(generation=1, inventory=GOAL.inventory, traits=GOAL.own_traits)
GOOD = PassResult(Provider('u', 'compute1', is_root=True), GOAL, SEEN, make_plan(GOAL, SEEN))
STATUS = 'enabled: compute1 offers 4096 MiB, 0 MiB allocated'


class World:
    """A clock, signals that come at set times, and passes with set results; all is written down.

    It plays Signals, and Agent, for the loop.
    """

    def __init__(self):
        self.now = 0.0
        self.results = []
        """What the passes end in, one after the other; the last of them for ever."""
        self.signals = {}
        """When which signal comes."""
        self.passes = []
        """When a pass began."""
        self.waits = []
        self.reloads = []
        self.options = settings.AgentOptions(resource_provider=None, interval=60)
        self.notices = Notices(self.clock)
        self._reload = False

    def clock(self):
        return self.now

    # Agent

    def observe(self):
        return HostFacts()

    def reconcile(self, facts):
        self.passes.append(self.now)
        assert len(self.passes) < 1000, 'the loop does not end'
        index = min(len(self.passes), len(self.results)) - 1
        result = self.results[index] if self.results else GOOD
        if isinstance(result, BaseException):
            raise result
        return result

    def status(self, result, facts):
        return report.format_status(result, facts)

    def reload(self):
        self.reloads.append(self.now)

    def leave(self):
        self.left = True

    # Signals

    @property
    def stop(self):
        return any(at <= self.now for at, what in self.signals.items() if what == 'stop')

    def wait(self, seconds):
        self.waits.append(seconds)
        if self.stop or self._reload:
            return True
        due = [at for at in self.signals if at <= self.now + seconds]
        if not due:
            self.now += seconds
            return False
        self.now = max(self.now, min(due))
        if self.signals[min(due)] == 'reload':
            del self.signals[min(due)]
            self._reload = True
        return True

    def take_reload(self):
        asked, self._reload = self._reload, False
        return asked


class KeptMessages(Notifier):
    """Keeps what would be sent."""

    def __init__(self, watchdog_usec=None):
        super().__init__({'WATCHDOG_USEC': str(watchdog_usec)} if watchdog_usec else {})
        self.messages = []

    def _send(self, message):
        self.messages.append(message)


@pytest.fixture
def world(monkeypatch):
    """Take the dice away: a pass is due exactly at its time."""
    monkeypatch.setattr(
        loop,
        'after_success',
        lambda interval, first: interval / 2 if first else float(interval),
    )
    monkeypatch.setattr(
        loop,
        'after_failure',
        lambda failures, interval, retry_after=None: max(2.0**failures, retry_after or 0.0),
    )
    return World()


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger='fbm_placement')
    return caplog


def run(world, notifier=None):
    """Run the loop until the world stops it; return what was sent to systemd."""
    notifier = notifier or KeptMessages()
    Loop(world, world, notifier, world.clock).run()
    return notifier.messages


def lines(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_passes_at_the_interval(world):
    """The first wait is any part of the interval, the later ones are the interval."""
    world.signals = {200: 'stop'}
    run(world)
    assert world.passes == [0, 30, 90, 150]
    assert world.now == 200


def test_a_new_interval_counts(world):
    """The interval is looked up each time: it may have been read again."""
    world.signals = {31: 'reload', 100: 'stop'}

    def reload():
        world.options = settings.AgentOptions(resource_provider=None, interval=10)

    world.reload = reload
    run(world)
    assert world.passes == [0, 30, 31, 41, 51, 61, 71, 81, 91]


def test_asked_to_stop_before_it_began(world):
    """No pass, but a proper end."""
    world.signals = {0: 'stop'}
    assert run(world) == ['STOPPING=1']
    assert world.passes == []


def test_asked_to_stop_while_waiting(world, log):
    """The wait ends at once, and so does the loop."""
    world.signals = {7: 'stop'}
    assert run(world) == [f'READY=1\nSTATUS={STATUS}', 'STOPPING=1']
    assert world.now == 7
    assert lines(log, logging.INFO)[-1] == 'Stopping; Placement is left as it is'


def test_asked_to_stop_within_a_pass(world, log):
    """A pass that was ended between two requests is no failure."""
    world.results = [GOOD, errors.StopRequested()]
    assert run(world)[-1] == 'STOPPING=1'
    assert lines(log, logging.ERROR) == []
    assert world.passes == [0, 30]


def test_ready_only_after_a_good_pass(world):
    """READY comes with the first good pass."""
    world.results = [errors.NotReadyError('not there'), errors.PlacementError('away'), GOOD]
    world.signals = {30: 'stop'}
    assert run(world) == [
        'STATUS=try 1 failed: not there',
        'STATUS=try 2 failed: away',
        f'READY=1\nSTATUS={STATUS}',
        'STOPPING=1',
    ]
    assert world.passes == [0, 2, 6]


def test_status_after_each_pass(world):
    """READY is sent once; afterwards STATUS alone."""
    world.signals = {100: 'stop'}
    assert run(world) == [
        f'READY=1\nSTATUS={STATUS}',
        f'STATUS={STATUS}',
        f'STATUS={STATUS}',
        'STOPPING=1',
    ]


def test_sooner_after_a_failure(world, log):
    """After a failure the next pass is sooner, after more of them later again."""
    away = errors.PlacementError('away')
    world.results = [GOOD, away, away, away, GOOD, away, GOOD]
    world.signals = {170: 'stop'}
    run(world)
    assert world.passes == [0, 30, 32, 36, 44, 104, 106, 166]
    assert 'Recovered after 3 failed passes' in lines(log, logging.INFO)
    assert 'Recovered after 1 failed pass' in lines(log, logging.INFO)


def test_retry_after(world, log):
    """Placement asked to come later."""
    world.results = [errors.PlacementError('slow down', retry_after=120.0), GOOD]
    world.signals = {130: 'stop'}
    run(world)
    assert world.passes == [0, 120]
    assert lines(log, logging.ERROR) == ['slow down (try 1; next in 120 s)']


def test_a_long_outage_is_logged_ever_more_rarely(world, log, monkeypatch):
    """The 1st, 2nd, 4th, 8th ... failure of the same kind is logged; systemd gets each."""
    monkeypatch.setattr(loop, 'after_failure', lambda *args: 1.0)
    world.results = [errors.PlacementError('away')]
    world.signals = {19.5: 'stop'}
    messages = run(world)
    logged = [line.split('try ')[1].split(';')[0] for line in lines(log, logging.ERROR)]
    assert logged == ['1', '2', '4', '8', '16']
    assert messages[18] == 'STATUS=try 19 failed: away'


def test_another_failure_is_logged_at_once(world, log, monkeypatch):
    """A change in an outage is news."""
    monkeypatch.setattr(loop, 'after_failure', lambda *args: 1.0)
    away, wrong = errors.PlacementError('away'), errors.PlacementError('401')
    world.results = [away, away, away, away, wrong, wrong, wrong, away, away]
    world.signals = {8.5: 'stop'}
    run(world)
    logged = [line.split(' (')[0] for line in lines(log, logging.ERROR)]
    assert logged == ['away', 'away', 'away', '401', 'away']


def test_the_same_failure_after_a_good_pass_is_logged(world, log):
    """A new outage is logged from its beginning."""
    away = errors.PlacementError('away')
    world.results = [away, GOOD, away, GOOD]
    world.signals = {50: 'stop'}
    run(world)
    assert len(lines(log, logging.ERROR)) == 2


def test_ready_is_logged_once(world, log):
    """The log says when the agent began to do its work."""
    world.signals = {100: 'stop'}
    run(world)
    assert [line for line in lines(log, logging.INFO) if line.startswith('Ready')] == [
        f'Ready: {STATUS}'
    ]


def test_what_no_waiting_fixes_ends_the_loop(world):
    """A [placement] section that can't be used is for a person."""
    world.results = [errors.ConfigurationError(['[placement]: wrong'])]
    with pytest.raises(errors.ConfigurationError):
        run(world)
    assert world.passes == [0]


def test_reload(world):
    """SIGHUP reloads at once, notifies systemd, and makes a pass."""
    world.signals = {7: 'reload', 20: 'stop'}
    assert run(world) == [
        f'READY=1\nSTATUS={STATUS}',
        'RELOADING=1',
        'READY=1\nSTATUS=configuration reloaded',
        f'STATUS={STATUS}',
        'STOPPING=1',
    ]
    assert world.reloads == [7]
    assert world.passes == [0, 7]


def test_reload_before_the_first_good_pass(world):
    """Systemd still waits for READY, and must not take a reload's for it."""
    world.results = [errors.PlacementError('away')]
    world.signals = {1: 'reload', 2: 'stop'}
    messages = run(world)
    assert world.reloads == [1]
    assert not [m for m in messages if m.startswith(('READY', 'RELOADING'))]


def test_the_watchdog_is_notified_while_waiting(world):
    """At least at half of what it allows."""
    notifier = KeptMessages(watchdog_usec=20_000_000)
    world.signals = {30: 'stop'}
    messages = run(world, notifier)
    assert messages.count('WATCHDOG=1') == 3
    assert world.waits == [10, 10, 10]


def test_without_a_watchdog_one_wait_is_enough(world):
    """Without it the agent does not wake up in between."""
    world.signals = {95: 'stop'}
    assert 'WATCHDOG=1' not in run(world)
    assert world.waits == [30, 60, 60]


# How long it waits.


def low(a: float, b: float) -> float:
    """Throw the lowest number."""
    return min(a, b)


def high(a: float, b: float) -> float:
    """Throw the highest number."""
    return max(a, b)


def test_the_first_wait_falls_anywhere_in_the_interval() -> None:
    """Hosts that were started together don't stay together."""
    assert after_success(60, first=True, dice=low) == 1
    assert after_success(60, first=True, dice=high) == 60


def test_later_waits_stay_near_the_interval() -> None:
    """A tenth to either side."""
    assert after_success(60, first=False, dice=low) == pytest.approx(54)
    assert after_success(60, first=False, dice=high) == pytest.approx(66)


@pytest.mark.parametrize(
    ('failures', 'shortest', 'longest'),
    [(1, 1, 2), (2, 2, 4), (3, 4, 8), (5, 16, 32), (6, 30, 60), (7, 30, 60), (10**6, 30, 60)],
)
def test_a_failure_is_tried_again_sooner_then_later(
    failures: int, shortest: float, longest: float
) -> None:
    """Doubled each time, never later than a good pass would be."""
    assert after_failure(failures, 60, dice=low) == shortest
    assert after_failure(failures, 60, dice=high) == longest


def test_never_comes_before_the_service_asked() -> None:
    """Retry-After is a lower bound, spread too: every host got the same."""
    assert after_failure(1, 60, retry_after=300, dice=low) == 300
    assert after_failure(1, 60, retry_after=300, dice=high) == pytest.approx(330)


def test_a_short_retry_after_does_not_hasten() -> None:
    """Retry-After: 0 from a proxy must not make a busy loop."""
    assert after_failure(3, 60, retry_after=0, dice=low) == 4

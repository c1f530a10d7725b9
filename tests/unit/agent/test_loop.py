# SPDX-License-Identifier: Apache-2.0
"""The loop: when the next pass is, what is logged, and how it ends. Time is the test's own."""

import logging

import pytest

from fbm_placement import errors, model
from fbm_placement.agent import messages
from fbm_placement.agent.loop import Loop, after_failure, after_success
from fbm_placement.agent.reconcile import PassResult
from fbm_placement.agent.systemd import Notifier
from fbm_placement.model import HostFacts, Problem, Provider
from fbm_placement.notices import Notices
from fbm_placement.rules.publish import Observation, make_plan, target

HOST = model.Settings(capacity_mib=4096, reserved_mib=0, virt_type='kvm', ram_allocation_ratio=1.0)
GOAL = target(HOST, HostFacts())
SEEN = Observation(generation=1, inventory=GOAL.inventory, traits=GOAL.own_traits)
GOOD = PassResult(Provider('u', 'compute1', is_root=True), GOAL, SEEN, make_plan(GOAL, SEEN))
STATUS = 'enabled: compute1 offers 4096 MiB, 0 MiB allocated'
STOPPING = 'STOPPING=1\nSTATUS='


class World:
    """Signals and Agent for the loop: a clock, signals at set times, passes with set results."""

    def __init__(self):
        self.now = 0.0
        self.results = []
        """What the passes end in, one after the other; the last of them indefinitely."""
        self.signals = {}
        """When which signal comes."""
        self.passes = []
        """When a pass began."""
        self.waits = []
        self.reloads = []
        self.options = model.AgentOptions(resource_provider=None, interval=60)
        self.facts = HostFacts()
        self.notices = Notices(self.clock)
        self.left = False
        self._reload = False

    def clock(self):
        return self.now

    # Agent

    def observe(self):
        return self.facts

    def reconcile(self, facts):
        self.passes.append(self.now)
        assert len(self.passes) < 1000, 'the loop does not end'
        index = min(len(self.passes), len(self.results)) - 1
        result = self.results[index] if self.results else GOOD
        if isinstance(result, BaseException):
            raise result
        return result

    def status(self, result, facts):
        return messages.format_status(result, facts)

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
    def __init__(self, clock, watchdog_usec=None):
        environ = {'WATCHDOG_USEC': str(watchdog_usec)} if watchdog_usec else {}
        super().__init__(environ, clock)
        self.messages = []

    def send(self, **assignments):
        message = '\n'.join(f'{name}={value}' for name, value in assignments.items())
        self.messages.append(message)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger='fbm_placement')
    return caplog


def run(world, notifier=None):
    """Run the loop until the world stops it; return what was sent to systemd.

    Each wait is the shortest: 1 s after the first good pass, then 54 s; 1, 2, 4 s after failures.
    """
    notifier = notifier or KeptMessages(world.clock)
    Loop(world, world, notifier, world.clock, uniform=min).run()
    return notifier.messages


def lines(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def failures(caplog):
    return [line.split('; next')[0] for line in lines(caplog, logging.ERROR)]


def test_passes_at_the_interval(world, log):
    world.signals = {150: 'stop'}
    assert run(world) == [
        f'READY=1\nSTATUS={STATUS}',
        f'STATUS={STATUS}',
        f'STATUS={STATUS}',
        f'STATUS={STATUS}',
        STOPPING,
    ]
    assert world.passes == [0, 1, 55, 109]
    assert (world.now, world.left) == (150, True)
    assert lines(log, logging.INFO) == [
        f'Ready: {STATUS}',
        'Stopping; Placement is left as it is',
    ]


def test_a_new_interval_counts(world):
    world.signals = {31: 'reload', 60: 'stop'}

    def reload():
        world.options = model.AgentOptions(resource_provider=None, interval=10)

    world.reload = reload
    run(world)
    assert world.passes == [0, 1, 31, 40, 49, 58]


def test_a_pass_begins_again_at_once_when_the_settings_changed(world):
    world.results = [GOOD, errors.SettingsChanged(), GOOD]
    world.signals = {2: 'stop'}
    assert run(world) == [f'READY=1\nSTATUS={STATUS}', f'STATUS={STATUS}', STOPPING]
    assert world.passes == [0, 1, 1]


def test_asked_to_stop_before_it_began(world):
    world.signals = {0: 'stop'}
    assert run(world) == [STOPPING]
    assert world.passes == []


def test_asked_to_stop_within_a_pass(world, log):
    """A pass that was ended between two requests is no failure."""
    world.results = [GOOD, errors.StopRequested()]
    assert run(world)[-1] == STOPPING
    assert lines(log, logging.ERROR) == []
    assert world.passes == [0, 1]


def test_ready_only_after_a_good_pass(world):
    world.results = [errors.NotReadyError('not there'), errors.PlacementError('away'), GOOD]
    world.facts = HostFacts(unhealthy=(Problem('full', 'store full'), Problem('x', 'no hook')))
    world.signals = {3.5: 'stop'}
    status = f'{STATUS}; UNHEALTHY: store full; no hook'
    assert run(world) == [
        'STATUS=try 1 failed: not there; store full; no hook',
        'STATUS=try 2 failed: away; store full; no hook',
        f'READY=1\nSTATUS={status}',
        STOPPING,
    ]
    assert world.passes == [0, 1, 3]


def test_sooner_after_a_failure(world, log):
    away = errors.PlacementError('away')
    world.results = [GOOD, away, away, away, GOOD, away, GOOD]
    world.signals = {120: 'stop'}
    run(world)
    assert world.passes == [0, 1, 2, 4, 8, 62, 63, 117]
    recovered = [line for line in lines(log, logging.INFO) if line.startswith('Recovered')]
    assert recovered == ['Recovered after 3 failed passes', 'Recovered after 1 failed pass']


def test_retry_after(world, log):
    world.results = [errors.PlacementError('slow down', retry_after=120.0), GOOD]
    world.signals = {120.5: 'stop'}
    run(world)
    assert world.passes == [0, 120]
    assert lines(log, logging.ERROR) == ['slow down (try 1; next in 120 s)']


def test_a_long_outage_is_logged_ever_more_rarely(world, log):
    """The 1st, 4th, 8th ... failure of the same kind is logged; systemd gets each."""
    away = [errors.PlacementError(f'away, {number} s') for number in range(19)]
    world.results = [*away, errors.StopRequested()]
    messages = run(world)
    assert failures(log) == [
        'away, 0 s (try 1',
        'away, 3 s (try 4',
        'away, 7 s (try 8',
        'away, 15 s (try 16',
    ]
    messages.remove('READY=1')
    assert messages[18] == 'STATUS=try 19 failed: away, 18 s'


AWAY, WRONG = errors.PlacementError('away'), errors.PlacementError('"x" is refused')


@pytest.mark.parametrize(
    ('results', 'logged'),
    [
        # Another failure is logged at once, and does not begin a new outage.
        (
            [*[AWAY] * 4, *[WRONG] * 3, AWAY, AWAY],
            ['away 1', 'away 4', '"x" is refused 5', 'away 8'],
        ),
        # A new outage is logged from its beginning.
        ([AWAY, GOOD, AWAY, GOOD], ['away 1', 'away 1']),
    ],
)
def test_which_failures_are_logged(world, log, results, logged):
    world.results = [*results, errors.StopRequested()]
    run(world)
    assert [line.replace('(try ', '') for line in failures(log)] == logged


def test_conflicts_are_no_outage(world, log):
    conflict = errors.ConflictError('409')
    world.results = [GOOD, conflict, conflict, GOOD, conflict, conflict, errors.StopRequested()]
    run(world)
    assert world.passes == [0, 1, 2, 3, 57, 58, 59]
    assert lines(log, logging.ERROR) == []
    found = [line.split(')')[0] for line in lines(log, logging.WARNING)]
    text = 'Another client wrote this provider during each of 4 tries'
    assert found == [f'{text} ({number} such passes so far' for number in (1, 2, 4)]


def test_what_no_waiting_fixes_ends_the_loop(world):
    """Only a person can fix a wrong [placement] section."""
    world.results = [errors.ConfigurationError(['[placement]: wrong'])]
    with pytest.raises(errors.ConfigurationError):
        run(world)
    assert world.passes == [0]


def test_reload(world):
    world.signals = {7: 'reload', 20: 'stop'}
    assert run(world) == [
        f'READY=1\nSTATUS={STATUS}',
        f'STATUS={STATUS}',
        'RELOADING=1',
        'READY=1\nSTATUS=configuration reloaded',
        f'STATUS={STATUS}',
        STOPPING,
    ]
    assert world.reloads == [7]
    assert world.passes == [0, 1, 7]


def test_ready_without_a_good_pass(world):
    """A start ends although Placement is away, and from then on a reload is one for systemd."""
    world.results = [errors.PlacementError('away')]
    world.signals = {40: 'reload', 41: 'stop'}
    assert run(world)[4:] == [
        'STATUS=try 5 failed: away',
        'READY=1',
        'STATUS=try 6 failed: away',
        'RELOADING=1',
        'READY=1\nSTATUS=configuration reloaded',
        'STATUS=try 7 failed: away',
        STOPPING,
    ]
    assert world.passes == [0, 1, 3, 7, 15, 31, 40]


def test_a_store_that_is_not_fit_from_the_start_is_watched_closely(world):
    """It may be mounted soon; later it gets no more attention than any other."""
    world.facts = HostFacts(settling=True, unhealthy=(Problem('store', 'not there'),))
    world.signals = {200: 'stop'}
    run(world)
    assert world.passes == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]


def test_no_status_stays_when_the_configuration_cannot_be_used(world):
    world.results = [GOOD, errors.ConfigurationError(['[placement]: wrong'])]
    notifier = KeptMessages(world.clock)
    with pytest.raises(errors.ConfigurationError):
        run(world, notifier)
    assert notifier.messages == [f'READY=1\nSTATUS={STATUS}', STOPPING]


def test_reload_before_the_first_good_pass(world):
    """Systemd still waits for READY, and must not take a reload's for it."""
    world.results = [errors.PlacementError('away')]
    world.signals = {0.5: 'reload', 0.7: 'stop'}
    assert run(world) == ['STATUS=try 1 failed: away', 'STATUS=try 2 failed: away', STOPPING]
    assert world.reloads == [0.5]


@pytest.mark.parametrize(
    ('watchdog_usec', 'waits', 'notifications'),
    [(None, [1, 54], 0), (20_000_000, [1, 10, 10, 10, 10], 5)],
)
def test_the_watchdog_is_notified_while_waiting(world, watchdog_usec, waits, notifications):
    """At least at half of what it allows; without one the agent does not wake up in between."""
    world.signals = {40: 'stop'}
    messages = run(world, KeptMessages(world.clock, watchdog_usec))
    assert messages.count('WATCHDOG=1') == notifications
    assert world.waits == waits


# How long it waits.


@pytest.mark.parametrize(
    ('first', 'shortest', 'longest'), [(True, 1, 60), (False, 54, 66)], ids=['first', 'later']
)
def test_the_wait_after_a_good_pass(first, shortest, longest):
    """The first falls anywhere in the interval: hosts that start together do not stay so."""
    assert after_success(60, first, min) == shortest
    assert after_success(60, first, max) == pytest.approx(longest)


@pytest.mark.parametrize(
    ('failures', 'retry_after', 'shortest', 'longest'),
    [
        (1, None, 1, 2),
        (2, None, 2, 4),
        (3, None, 4, 8),
        (5, None, 16, 32),
        (6, None, 30, 60),
        (7, None, 30, 60),
        (10**6, None, 30, 60),
        # A lower bound, spread too: every host got the same.
        (1, 300, 300, 330),
        # A proxy's 0 must not make a busy loop.
        (3, 0, 4, 8),
    ],
)
def test_the_wait_after_a_failure(failures, retry_after, shortest, longest):
    """Doubled each time, never later than after a good pass."""
    assert after_failure(failures, 60, retry_after, min) == shortest
    assert after_failure(failures, 60, retry_after, max) == pytest.approx(longest)

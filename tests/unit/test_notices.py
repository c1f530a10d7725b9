# SPDX-License-Identifier: Apache-2.0

from fbm_placement.notices import Notices


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_state_is_known_until_the_next_one():
    notices = Notices(Clock())

    assert notices.replace('store', 'full') is None
    assert notices.replace('store', 'full') == 'full'
    assert notices.replace('store', None) == 'full'
    assert notices.replace('guests', 'draining') is None


def test_an_event_is_logged_ever_more_rarely():
    notices = Notices(Clock())

    logged = [times for times, due in (notices.count('overwrite') for _ in range(20)) if due]

    assert logged == [1, 2, 4, 8, 16]
    assert notices.count('conflict') == (1, True)


def test_an_event_is_forgotten_after_an_hour_without_it():
    clock = Clock()
    notices = Notices(clock)
    for _ in range(3):
        notices.count('overwrite')

    clock.now += 3600
    assert notices.count('overwrite') == (4, True)
    clock.now += 3601
    assert notices.count('overwrite') == (1, True)

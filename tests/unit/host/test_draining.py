# SPDX-License-Identifier: Apache-2.0
"""Which guests keep a host from being what its configuration says."""

from dataclasses import replace

import pytest

from fbm_placement.host.draining import common_state, remaining_guests, tell
from fbm_placement.host.guests import Backing, Guest

GUEST = Guest(7, 'instance-00000001', 'b1', is_nova=True, memory_mib=512, backing=Backing.DRAM)


def guests(*backings, **changes):
    return tuple(
        replace(GUEST, name=f'instance-{i}', uuid=f'b{i}', backing=b, **changes)
        for i, b in enumerate(backings)
    )


@pytest.mark.parametrize(
    ('backing', 'fits'),
    [
        (Backing.FILE, 'enabled'),
        (Backing.PRIVATE_FILE, 'neither'),
        (Backing.MIXED, 'neither'),
        (Backing.HUGE_PAGES, 'disabled'),
        (Backing.DRAM, 'disabled'),
    ],
)
def test_each_kind_of_guest_fits_one_state_at_most(backing, fits):
    """Libvirt moves a guest only between hosts where its memory source stays the same."""
    one = guests(backing)
    assert remaining_guests(True, one) == (() if fits == 'enabled' else one)
    assert remaining_guests(False, one) == (() if fits == 'disabled' else one)


@pytest.mark.parametrize(
    ('backings', 'state'),
    [
        ((Backing.FILE, Backing.FILE), True),
        ((Backing.DRAM, Backing.HUGE_PAGES), False),
        ((Backing.FILE, Backing.DRAM), None),
        ((Backing.PRIVATE_FILE,), None),
        ((), None),
    ],
)
def test_what_all_guests_are(backings, state):
    others = guests(Backing.FILE, Backing.DRAM, is_nova=False)
    assert common_state(guests(*backings) + others) is state


def test_others_guests_do_not_count():
    assert remaining_guests(True, guests(Backing.DRAM, is_nova=False)) == ()
    assert remaining_guests(False, guests(Backing.FILE, is_nova=False)) == ()


def test_turning_on_tells_how_many_are_left_and_which():
    told = tell(True, guests(Backing.DRAM, Backing.HUGE_PAGES))
    assert told.startswith(
        'draining: [libvirt]file_backed_memory is set, but 2 running guests are not file-backed: '
        'instance-0 (b0) DRAM, instance-1 (b1) huge pages; '
    )
    assert 'migrate them live to hosts without file-backed memory, or stop and start' in told


def test_turning_off_tells_it_too():
    told = tell(False, guests(Backing.FILE))
    assert '[libvirt]file_backed_memory is 0, but 1 running guest is still file-backed: ' in told
    assert 'to hosts with file-backed memory' in told


def test_of_many_some_are_named():
    told = tell(True, guests(*[Backing.DRAM] * 8))
    assert 'instance-4 (b4) DRAM and 3 more;' in told
    assert 'instance-5' not in told


def test_a_guest_that_fits_no_kind_of_host_can_only_be_started_anew():
    """Its memory is in a file, but private: libvirt moves it to no host without files."""
    told = tell(True, guests(Backing.PRIVATE_FILE))
    assert told.endswith(
        'file, private; stop and start them, which makes them what this host is now'
    )
    assert 'migrate' not in told
    assert 'migrate them live' in tell(True, guests(Backing.PRIVATE_FILE, Backing.DRAM))


@pytest.mark.parametrize(('enabled', 'kind'), [(True, 'file-backed'), (False, 'not file-backed')])
def test_those_that_were_started_anew_must_stay(enabled, kind):
    """The scheduler knows one kind for all guests of a host: theirs is not the published one."""
    told = tell(enabled, guests(Backing.FILE), 2)
    assert told.endswith(
        '; until then migrate no guest live that was started anew: the 2 guests that are '
        f'{kind} by now would go to a host of the other kind, and fail'
    )
    assert 'started anew' not in tell(enabled, guests(Backing.FILE))

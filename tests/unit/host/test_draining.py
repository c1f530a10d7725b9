# SPDX-License-Identifier: Apache-2.0
"""Which guests keep a host from being what its configuration says."""

from dataclasses import replace

import pytest

from fbm_placement.host.draining import common_state, problem, remaining_guests
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


def text(enabled, *backings):
    found = problem(enabled, guests(*backings))
    assert found.key == 'draining'
    return found.text


def test_without_such_guests_there_is_no_problem():
    assert problem(True, guests(Backing.FILE)) is None
    assert problem(False, guests(Backing.DRAM) + guests(Backing.FILE, is_nova=False)) is None


def test_turning_on():
    assert text(True, Backing.DRAM, Backing.HUGE_PAGES) == (
        'draining: [libvirt]file_backed_memory is set, but 2 running guests are not file-backed: '
        'instance-0 (b0) DRAM, instance-1 (b1) huge pages; migrate them live to hosts without '
        'file-backed memory, or stop and start them, which makes them what this host is now'
    )


def test_turning_off():
    assert text(False, Backing.FILE) == (
        'draining: [libvirt]file_backed_memory is 0, but 1 running guest is still file-backed: '
        'instance-0 (b0) file, shared; migrate them live to hosts with file-backed memory, or '
        'stop and start them, which makes them what this host is now'
    )


def test_of_many_some_are_named():
    found = text(True, *[Backing.DRAM] * 8)
    assert 'instance-4 (b4) DRAM and 3 more;' in found
    assert 'instance-5' not in found


def test_a_guest_that_fits_no_kind_of_host_can_only_be_restarted():
    """Its memory is in a file, but private: libvirt moves it to no host without files."""
    assert text(True, Backing.PRIVATE_FILE).endswith(
        'file, private; stop and start them, which makes them what this host is now'
    )
    assert 'migrate them live' in text(True, Backing.PRIVATE_FILE, Backing.DRAM)


@pytest.mark.parametrize(
    ('enabled', 'left', 'changed', 'kind'),
    [
        (True, Backing.DRAM, Backing.FILE, 'file-backed'),
        (False, Backing.FILE, Backing.DRAM, 'not file-backed'),
    ],
)
def test_those_that_were_restarted_must_stay(enabled, left, changed, kind):
    """The scheduler knows one kind for all guests of a host: theirs is not the published one."""
    assert text(enabled, left, changed, changed).endswith(
        '; until then do not live-migrate a guest that was restarted: the 2 guests that are '
        f'{kind} now would go to a host of the other kind, and fail'
    )

# SPDX-License-Identifier: Apache-2.0
"""Which guests keep a host from being what its configuration says."""

from dataclasses import replace

import pytest

from fbm_placement.model import Backing, Guest
from fbm_placement.rules.draining import common_state, problem, remaining_guests

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
    assert remaining_guests(True, guests(backing, is_nova=False)) == ()
    assert remaining_guests(False, guests(backing, is_nova=False)) == ()


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
def test_the_state_that_all_guests_share(backings, state):
    others = guests(Backing.FILE, Backing.DRAM, is_nova=False)
    assert common_state(guests(*backings) + others) is state
    assert (problem(True, guests(*backings) + others) is None) is (state is True or not backings)


@pytest.mark.parametrize(
    ('enabled', 'backings', 'left', 'fix'),
    [
        (
            True,
            (Backing.DRAM, Backing.HUGE_PAGES),
            'is set, but 2 running guests are not file-backed: instance-0 (b0) DRAM, instance-1',
            'huge pages; migrate them live to hosts without file-backed memory, or stop and start',
        ),
        (
            False,
            (Backing.FILE,),
            'is 0, but 1 running guest is still file-backed: instance-0 (b0)',
            'file, shared; migrate them live to hosts with file-backed memory, or stop and start',
        ),
        # Libvirt moves private files to no host without files.
        (
            True,
            (Backing.PRIVATE_FILE,),
            'is set, but 1 running guest is not file-backed: instance-0 (b0)',
            'file, private; stop and start',
        ),
    ],
)
def test_how_many_guests_are_left_and_how_to_move_them_on(enabled, backings, left, fix):
    found = problem(enabled, guests(*backings))
    assert (found.key, found.recovering) == ('draining', False)
    assert found.text.startswith(f'draining: [libvirt]file_backed_memory {left}')
    assert found.text.endswith(
        f' {fix} those that "Guest restarts" of "fbm-status upgrade check" does not name, which '
        'makes them what this host is now'
    )


def test_of_many_guests_some_are_named():
    text = problem(True, guests(*[Backing.DRAM] * 5)).text
    assert 'instance-4 (b4) DRAM; migrate them live' in text
    text = problem(True, guests(*[Backing.DRAM] * 11, Backing.PRIVATE_FILE)[::-1]).text
    assert 'instance-11 (b11) file, private, instance-2 (b2) DRAM and 7 more; migrate' in text


@pytest.mark.parametrize(
    ('enabled', 'left', 'changed', 'kind'),
    [
        (True, Backing.DRAM, Backing.FILE, 'file-backed'),
        (False, Backing.FILE, Backing.DRAM, 'not file-backed'),
    ],
)
def test_guests_that_were_restarted_must_stay(enabled, left, changed, kind):
    """The scheduler knows one kind for all guests of a host: theirs is not the published one."""
    assert problem(enabled, guests(left, left, *[changed] * 3)).text.endswith(
        'this host is now; until then do not live-migrate a guest that was restarted: the 3 '
        f'guests that are {kind} now would go to a host of the other kind, and fail'
    )

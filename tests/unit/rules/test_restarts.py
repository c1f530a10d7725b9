# SPDX-License-Identifier: Apache-2.0
"""Which guests a host can't start again, in each state."""

import pytest

from fbm_placement.rules.restarts import Definition, Need, having, obstacles

MIGRATE = (
    'move each away, running or stopped: "openstack server migrate", then "openstack server '
    'resize confirm"; of one whose resize waits to be confirmed, confirm that'
)
DETACH = (
    'of each, while it is stopped, detach the shares ("openstack server share list", "openstack '
    'server remove share")'
)


def guest(*needs, number=1):
    return Definition(f'instance-{number}', f'b{number}', frozenset(needs))


@pytest.mark.parametrize(
    ('need', 'on_disk', 'on_tmpfs', 'disabled'),
    [
        (Need.PAGE_SIZE, MIGRATE, MIGRATE, ''),
        (Need.MAYBE_PAGE_SIZE, MIGRATE, MIGRATE, ''),
        (Need.PINNED, MIGRATE, '', ''),
        (Need.FORBIDDEN, MIGRATE, MIGRATE, ''),
        (Need.REQUIRED, '', '', MIGRATE),
        (Need.SHARE, '', '', DETACH),
        (Need.TOPOLOGY, '', '', ''),
    ],
)
def test_where_a_guest_starts_and_the_way_out(need, on_disk, on_tmpfs, disabled):
    found = [
        obstacles([guest(need)], enabled, is_disk)
        for enabled, is_disk in ((True, True), (True, False), (False, True))
    ]
    for text, way_out in zip(found, (on_disk, on_tmpfs, disabled), strict=True):
        if way_out:
            assert text.startswith('1 guest with ')
            assert text.endswith(f': instance-1 (b1); {way_out}')
        else:
            assert text == ''


def test_each_need_has_its_guests_and_a_way_out_stands_once():
    text = obstacles(
        [
            guest(Need.PAGE_SIZE, Need.PINNED),
            guest(number=2),
            guest(Need.PAGE_SIZE, number=3),
        ],
        True,
        True,
    )
    assert text == (
        '2 guests with a page size (hw:mem_page_size): instance-1 (b1), instance-3 (b3); 1 guest '
        'with pinned memory (passed-through device, encryption, realtime), and the store is a '
        f'disk: instance-1 (b1); {MIGRATE}'
    )


def test_guests_that_have_a_need():
    assert having(Need.TOPOLOGY, [guest(), guest(Need.TOPOLOGY, number=2)]) == (
        '1 guest with a NUMA topology: instance-2 (b2)'
    )
    assert having(Need.SHARE, [guest()]) == ''

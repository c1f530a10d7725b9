# SPDX-License-Identifier: Apache-2.0
"""Which guests don't match the configured state yet.

libvirt refuses to change the memory source of a running guest in a live migration, so the
published state is the state of the guests, not the one that nova.conf configures.
"""

from collections.abc import Iterable

from fbm_placement.model import Backing, Guest, Problem
from fbm_placement.text import count

KEY = 'draining'
MOST_NAMED = 5


def remaining_guests(enabled: bool, guests: Iterable[Guest]) -> tuple[Guest, ...]:
    """Return the Nova guests whose memory isn't what this configured state makes of a new one."""
    return tuple(
        guest
        for guest in guests
        if guest.is_nova
        and (guest.backing is not Backing.FILE if enabled else guest.backing.in_files)
    )


def common_state(guests: Iterable[Guest]) -> bool | None:
    """Return which state all Nova guests are of; None: they differ, or there are none."""
    nova = [guest for guest in guests if guest.is_nova]
    for enabled in (True, False):
        if nova and not remaining_guests(enabled, nova):
            return enabled
    return None


def problem(enabled: bool, guests: Iterable[Guest]) -> Problem | None:
    """Return how many guests are left, which, and how to move them on; None: none is left."""
    nova = [guest for guest in guests if guest.is_nova]
    remaining = sorted(remaining_guests(enabled, nova), key=lambda guest: guest.name)
    if not remaining:
        return None
    option, kind = ('is set', 'not file-backed') if enabled else ('is 0', 'still file-backed')
    left = count(len(remaining), 'running guest is', 'running guests are')
    named = ', '.join(f'{guest} {guest.backing.value}' for guest in remaining[:MOST_NAMED])
    if len(remaining) > MOST_NAMED:
        named += f' and {len(remaining) - MOST_NAMED} more'
    fix = (
        'stop and start those that "Guest restarts" of "fbm-status upgrade check" does not name, '
        'which makes them what this host is now'
    )
    if not enabled or not all(guest.backing.in_files for guest in remaining):
        hosts = f'hosts {"without" if enabled else "with"} file-backed memory'
        fix = f'migrate them live to {hosts}, or {fix}'
    if changed := len(nova) - len(remaining):
        # The scheduler knows one kind for all guests of a host.
        fix += (
            '; until then do not live-migrate a guest that was restarted: the '
            f'{count(changed, "guest that is", "guests that are")} '
            f'{"file-backed" if enabled else "not file-backed"} now would go to a host of the '
            'other kind, and fail'
        )
    text = f'[libvirt]file_backed_memory {option}, but {left} {kind}: {named}; {fix}'
    return Problem(KEY, f'draining: {text}')

# SPDX-License-Identifier: Apache-2.0
"""The rules that tell which guests aren't yet what the configuration says.

libvirt refuses to change the memory source of a running guest in a live migration, so what the
host is for the scheduler is what its guests are, not what nova.conf says by now.
"""

from collections.abc import Iterable, Sequence

from fbm_placement.host.guests import Backing, Guest
from fbm_placement.words import count

MOST_NAMED = 5


def remaining_guests(enabled: bool, guests: Iterable[Guest]) -> tuple[Guest, ...]:
    """Return Nova's guests whose memory isn't what this configured state makes of a new one."""
    return tuple(
        guest
        for guest in guests
        if guest.is_nova
        and (guest.backing is not Backing.FILE if enabled else guest.backing.in_files)
    )


def common_state(guests: Iterable[Guest]) -> bool | None:
    """Return whether all of Nova's guests are as on an enabled host (True) or a disabled one.

    None: they differ, or there are none.
    """
    novas = [guest for guest in guests if guest.is_nova]
    for enabled in (True, False):
        if novas and not remaining_guests(enabled, novas):
            return enabled
    return None


def tell(enabled: bool, remaining: Sequence[Guest], changed: int = 0) -> str:
    """Tell how many guests are left, which, and what moves them on.

    :param changed: how many of Nova's guests are already what the host is to be
    """
    if enabled:
        kind, elsewhere = 'not file-backed', 'hosts without file-backed memory'
        option = 'is set'
    else:
        kind, elsewhere = 'still file-backed', 'hosts with file-backed memory'
        option = 'is 0'
    left = count(len(remaining), 'running guest is', 'running guests are')
    named = ', '.join(
        f'{guest} {guest.backing.value}'
        for guest in sorted(remaining, key=lambda guest: guest.name)[:MOST_NAMED]
    )
    more = len(remaining) - MOST_NAMED
    mend = 'stop and start them, which makes them what this host is now'
    if not enabled or not all(guest.backing.in_files for guest in remaining):
        mend = f'migrate them live to {elsewhere}, or {mend}'
    return (
        f'draining: [libvirt]file_backed_memory {option}, but {left} {kind}: {named}'
        f'{f" and {more} more" if more > 0 else ""}; {mend}{_stay(enabled, changed)}'
    )


def _stay(enabled: bool, changed: int) -> str:
    """Tell that those which have changed stay: the scheduler knows one kind for all of a host."""
    if not changed:
        return ''
    are = count(changed, 'guest that is', 'guests that are')
    kind = 'file-backed' if enabled else 'not file-backed'
    return (
        f'; until then migrate no guest live that was started anew: the {are} {kind} by now would '
        'go to a host of the other kind, and fail'
    )

# SPDX-License-Identifier: Apache-2.0
"""Which guests can't be started again on a host, as it is or once it is turned on or off.

Nova refuses a page size where memory is file-backed, the kernel to pin pages of a file on a disk,
libvirt a share where memory is not shared: each when the guest is started, not before.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from fbm_placement.text import count


class Need(enum.Enum):
    """What a guest asks for; the value completes "1 guest with …"."""

    PAGE_SIZE = 'a page size (hw:mem_page_size)'
    MAYBE_PAGE_SIZE = 'a NUMA topology, and a page size if the flavor has hw:mem_page_size'
    """Nova writes the flavor's extra specs into the definition from release 32 on."""
    PINNED = 'pinned memory (passed-through device, encryption, realtime), and the store is a disk'
    FORBIDDEN = 'a flavor that forbids file-backed memory'
    REQUIRED = 'a flavor that requires file-backed memory'
    SHARE = 'a share attached'
    TOPOLOGY = 'a NUMA topology'
    """They start in both states, within the DRAM of the host's cells."""


_MIGRATE = (
    'move each away, running or stopped: "openstack server migrate", then "openstack server '
    'resize confirm"; of one whose resize waits to be confirmed, confirm that'
)
_DETACH = (
    'of each, while it is stopped, detach the shares ("openstack server share list", "openstack '
    'server remove share")'
)
_UNFIT = {
    True: {
        Need.PAGE_SIZE: _MIGRATE,
        Need.MAYBE_PAGE_SIZE: _MIGRATE,
        Need.PINNED: _MIGRATE,
        Need.FORBIDDEN: _MIGRATE,
    },
    False: {Need.REQUIRED: _MIGRATE, Need.SHARE: _DETACH},
}
"""By the state of the host: the needs that it can't meet, and the way out."""


@dataclass(frozen=True)
class Definition:
    """A Nova guest as libvirt keeps it, whether it runs or not."""

    name: str
    uuid: str
    needs: frozenset[Need] = frozenset()

    def __str__(self) -> str:
        return f'{self.name} ({self.uuid})'


def having(need: Need, definitions: Sequence[Definition]) -> str:
    """Return how many guests have this need, and which; '': none."""
    named = [str(definition) for definition in definitions if need in definition.needs]
    guests = count(len(named), 'guest', 'guests')
    return f'{guests} with {need.value}: {", ".join(named)}' if named else ''


def obstacles(definitions: Sequence[Definition], enabled: bool, store_is_disk: bool) -> str:
    """Return which guests a host that is so can't start, and the way out; '': it starts all."""
    fixes: dict[str, list[str]] = {}
    for need, fix in _UNFIT[enabled].items():
        if (named := having(need, definitions)) and (store_is_disk or need is not Need.PINNED):
            fixes.setdefault(fix, []).append(named)
    return '; '.join(f'{"; ".join(found)}; {fix}' for fix, found in fixes.items())

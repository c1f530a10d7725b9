# SPDX-License-Identifier: Apache-2.0
"""Who likely wrote an inventory that differs from the configured one. Pure."""

from collections.abc import Sequence

from fbm_placement import constants
from fbm_placement.model import Inventory

BY_HAND = 'an operator or a tool (nova-compute never reports these units)'
OTHER_SIZE = (
    'nova-compute: it has the form of its report, with another [libvirt]file_backed_memory than '
    'this nova.conf has, so it was not restarted after an edit or reads another file; or it was '
    'another fbm-agent (a second one, or --once after an edit)'
)


def likely_author(seen: Inventory, wanted: Inventory, dram_mib: int | None) -> str:
    """Guess from its values who wrote an inventory.

    :param dram_mib: this host's DRAM, MiB; None: unknown
    """
    if seen != Inventory.reported(seen.total, seen.reserved, seen.allocation_ratio):
        return BY_HAND
    if seen.total == dram_mib:
        return (
            "nova-compute: this is the host's DRAM, so it runs without "
            '[libvirt]file_backed_memory, was not restarted since, or its driver ignores it'
        )
    if seen.total == wanted.total:
        return (
            'nova-compute: it has the total but runs with another ram_allocation_ratio or '
            'reserved_host_memory_mb; or by an operator (openstack resource provider inventory '
            'set)'
        )
    return OTHER_SIZE


def provider_config_text(files: Sequence[str]) -> str:
    """Return that these files of nova-compute name one of the agent's traits; '': there is none.

    nova-compute owns what they name (``_merge_provider_configs`` in
    nova/compute/resource_tracker.py).
    """
    if not files:
        return ''
    return (
        f'{" and ".join(files)}, which nova-compute reads ([compute]provider_config_location), '
        f'names a trait that begins with {constants.TRAIT_ENABLED}: nova-compute sets it again '
        'and again; remove it there, then restart nova-compute'
    )

# SPDX-License-Identifier: Apache-2.0
"""What Placement should hold of an agent's host, and what others keep there."""

import uuid
from typing import Any

from tests.services.nova_compute import NovaCompute, inventory
from tests.services.store import CAPACITY_MIB

# Literal: a test must not ask the code under test what to expect.
ENABLED_TRAIT = 'CUSTOM_FILE_BACKED_MEMORY'
DISK_TRAIT = 'CUSTOM_FILE_BACKED_MEMORY_DISK'
UNHEALTHY_TRAIT = 'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'
OWN_TRAITS = {ENABLED_TRAIT, DISK_TRAIT, UNHEALTHY_TRAIT}


ENABLED = inventory(CAPACITY_MIB)
"""Of a host whose store is the small one, a tmpfs; its trait is ENABLED_TRAIT alone."""


def foreign(compute: NovaCompute) -> dict[str, Any]:
    """Return all that Placement holds about the provider and that isn't the agent's."""
    everything = compute.everything()
    everything['inventories'].pop('MEMORY_MB', None)
    everything['traits'] -= OWN_TRAITS
    return everything


def own_traits(compute: NovaCompute) -> set[str]:
    return compute.traits() & OWN_TRAITS


def add_foreign_data(compute: NovaCompute) -> NovaCompute:
    """Give the provider what others may keep there; return a child of it, with its own."""
    compute.allocate(memory_mib=16)
    compute.allocate(memory_mib=4, vcpus=4)
    compute.change_traits(add={'CUSTOM_RACK_7', 'CUSTOM_FILE_BACKED_MEMORY_TIER_2'})
    compute.call('PUT', '/resource_classes/CUSTOM_LICENSE')
    path = f'/resource_providers/{compute.uuid}'
    body: dict[str, Any] = {'resource_class': 'CUSTOM_LICENSE', 'total': 3}
    compute.call('POST', f'{path}/inventories', body=body)
    compute.set_aggregates([str(uuid.uuid4())])
    child = NovaCompute(compute.url, compute.token, name=f'{compute.name}_NUMA0')
    child.create_provider(parent=compute.uuid)
    body = {'resource_class': 'MEMORY_MB', 'total': 4096, 'allocation_ratio': 1.5}
    compute.call('POST', f'/resource_providers/{child.uuid}/inventories', body=body)
    return child


def is_enabled(compute: NovaCompute) -> bool:
    return compute.inventory() == ENABLED and own_traits(compute) == {ENABLED_TRAIT}


def make_enabled(compute: NovaCompute) -> None:
    """Write to Placement what an agent on this host wrote earlier."""
    compute.overwrite_inventory(**ENABLED)
    compute.change_traits(add={ENABLED_TRAIT})
    assert is_enabled(compute)


def capacity_before_trait(compute: NovaCompute) -> bool:
    """Whether the enabled trait is there only together with the right inventory."""
    # The trait first: it must not have come before the inventory that is read after it.
    return ENABLED_TRAIT not in compute.traits() or compute.inventory() == ENABLED

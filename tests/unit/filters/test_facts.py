# SPDX-License-Identifier: Apache-2.0
"""What a RequestSpec asks for, read with Nova's own helpers."""

import pytest
from nova import exception, objects

from fbm_filters import facts
from fbm_placement.constants import TRAIT_DISK, TRAIT_ENABLED
from tests.unit.filters.specs import ALIAS, DIRECT, VDPA, spec

REALTIME = {
    'hw:cpu_realtime': 'yes',
    'hw:cpu_policy': 'dedicated',
    'hw:cpu_realtime_mask': '^0',
}
UEFI = {'hw_firmware_type': 'uefi', 'hw_machine_type': 'q35'}


@pytest.mark.parametrize(
    ('asked', 'needs'),
    [
        (spec(), set()),
        (spec(image=None), set()),
        (spec({'hw:mem_page_size': 'small'}), {'page_size'}),
        (spec({'hw:mem_page_size': 'large'}), {'page_size'}),
        (spec({'hw:mem_page_size': 'any'}), {'page_size'}),
        (spec({'hw:mem_page_size': '2048'}), {'page_size'}),
        (spec({'hw:mem_page_size': 'any'}, {'hw_mem_page_size': '1GB'}), {'page_size'}),
        (spec({'hw:mem_page_size': 'large', 'hw:locked_memory': 'true'}), {'page_size'}),
        (spec({'hw:numa_nodes': '2'}), set()),
        (spec(REALTIME), {'realtime'}),
        (spec({'hw:cpu_realtime': 'no'}), set()),
        (spec({'hw:mem_encryption': 'true'}, UEFI), {'memory_encryption'}),
        (spec({}, {**UEFI, 'hw_mem_encryption': 'true'}), {'memory_encryption'}),
        (spec({'hw:mem_encryption': 'false'}), set()),
        (spec({'resources:VGPU': '1'}), {'mediated_devices'}),
        (spec({'resources1:VGPU': '1'}), {'mediated_devices'}),
        (spec({'resources:VGPU': '0'}), set()),
        (spec({'accel:device_profile': 'fpga'}), {'accelerators'}),
        (spec(pci=[ALIAS]), {'pci_passthrough'}),
        (spec(pci=[DIRECT]), {'sriov'}),
        (spec(pci=[VDPA]), {'vdpa'}),
        (spec(pci=[ALIAS, DIRECT, VDPA]), {'pci_passthrough', 'sriov', 'vdpa'}),
        (
            spec(
                groups=[
                    objects.RequestGroup(
                        requester_id='device_profile_0port', resources={'FPGA': 1}
                    )
                ]
            ),
            {'accelerators'},
        ),
    ],
)
def test_needs(asked, needs) -> None:
    assert facts.read(asked).needs == needs


@pytest.mark.parametrize(
    ('asked', 'needs'),
    [
        (spec({'hw:mem_page_size': 'huge'}), {'page_size'}),
        (spec({}, {'hw_mem_page_size': 'large'}), {'page_size'}),
        (spec({'hw:cpu_policy': 'shared', 'hw:cpu_thread_policy': 'isolate'}), set()),
    ],
)
def test_what_nova_refuses_counts_as_mentioned(asked, needs) -> None:
    """Nova will say so later, in its own words; until then it stays off the wrong hosts."""
    assert facts.read(asked).needs == needs


def test_what_nova_cannot_translate_for_placement_is_an_error() -> None:
    """Memory encryption without UEFI: Nova raises the same a few lines later."""
    asked = spec({'hw:mem_encryption': 'true'})
    with pytest.raises(exception.FlavorImageConflict):
        facts.read(asked)
    assert facts.mentions_rules(asked)


def test_traits() -> None:
    asked = spec({f'trait:{TRAIT_ENABLED}': 'required', f'trait:{TRAIT_DISK}': 'forbidden'})
    asked.root_required.add('CUSTOM_A')
    asked.root_forbidden.add('CUSTOM_B')
    read = facts.read(asked)
    assert read.required >= {TRAIT_ENABLED, 'CUSTOM_A'}
    assert read.forbidden >= {TRAIT_DISK, 'CUSTOM_B'}
    by_image = spec({}, {f'trait:{TRAIT_ENABLED}': 'required'})
    assert TRAIT_ENABLED in facts.read(by_image).required


def test_reading_changes_nothing() -> None:
    """The same RequestSpec goes on to Placement."""
    asked = spec({**REALTIME, 'resources:VGPU': '1'}, pci=[ALIAS])
    _ = asked.root_required, asked.root_forbidden, asked.same_subtree  # made when first read
    before = asked.obj_to_primitive()
    facts.read(asked)
    assert asked.obj_to_primitive() == before


@pytest.mark.parametrize(
    ('asked', 'mentions'),
    [
        (spec(), False),
        (spec({'hw:cpu_policy': 'dedicated'}, {'hw_disk_bus': 'scsi'}), False),
        (spec({f'trait:{TRAIT_DISK}': 'forbidden'}), True),
        (spec({'hw:mem_page_size': 'small'}), True),
        (spec({}, {'hw_mem_encryption': 'true'}), True),
        (spec({}, {f'trait:{TRAIT_ENABLED}': 'required'}), True),
        (spec(pci=[DIRECT]), True),
        (spec({'resources2:VGPU': '1'}), True),
        (spec({'accel:device_profile': 'x'}), True),
    ],
)
def test_mentions(asked, mentions) -> None:
    """For when reading fails: coarse, and on the safe side."""
    assert facts.mentions_rules(asked) == mentions

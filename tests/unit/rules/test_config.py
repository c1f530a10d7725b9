# SPDX-License-Identifier: Apache-2.0
"""What the spec forbids, and what only some releases of Nova refuse."""

import re
from dataclasses import replace

import pytest

from fbm_placement.model import DISABLED, Settings
from fbm_placement.rules import config

GOOD = Settings(capacity_mib=4096, reserved_mib=0, virt_type='kvm', ram_allocation_ratio=1.0)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'virt_type': 'qemu'},
        {'ram_allocation_ratio': 1},
        {'reserved_mib': 512},
        {'reserved_mib': 4095},
        {'capacity_mib': 1},
        {'capacity_mib': 2147483647},
        # Disabled: it may be configured in any way.
        {'capacity_mib': 0, 'reserved_mib': 512, 'virt_type': 'lxc', 'ram_allocation_ratio': 16.0},
    ],
)
def test_allowed(changes):
    assert list(config.forbidden(replace(GOOD, **changes))) == []


def test_the_settings_for_withdrawing_are_those_of_a_disabled_host():
    assert not DISABLED.enabled
    assert list(config.forbidden(DISABLED)) == []


RATIO = r'.DEFAULT.ram_allocation_ratio is {}: .* set ram_allocation_ratio = 1.0'
VIRT_TYPE = r'.libvirt.virt_type is {}: .* set virt_type = kvm, or file_backed_memory = 0'
RESERVE = r'.DEFAULT.reserved_host_memory_mb is {} MiB, .* set reserved_host_memory_mb = 0, or .*'
CAPACITY = r'.libvirt.file_backed_memory is {} MiB: .* at most 2147483647; .* KiB or bytes.'
NEGATIVE = r'.*(file_backed_memory|reserved_host_memory_mb) is {}: expected a whole .*, 0 or more'


@pytest.mark.parametrize(
    ('field', 'value', 'reason'),
    [
        ('ram_allocation_ratio', None, RATIO.format('not set')),
        *(
            ('ram_allocation_ratio', value, RATIO.format(value))
            for value in (1.5, 1.0001, 0.9, 0.0, float('nan'), float('inf'))
        ),
        *(('virt_type', name, VIRT_TYPE.format(name)) for name in ('lxc', 'parallels', 'KVM')),
        *(('reserved_mib', value, RESERVE.format(value)) for value in (4096, 4097)),
        ('capacity_mib', 2147483648, CAPACITY.format(2147483648)),
        *((field, -1, NEGATIVE.format(-1)) for field in ('capacity_mib', 'reserved_mib')),
    ],
)
def test_forbidden(field, value, reason):
    """Each rule gives one reason: what was seen, and what to set."""
    (found,) = config.forbidden(replace(GOOD, **{field: value}))
    assert re.fullmatch(reason, found)


def test_all_reasons_are_given_at_once():
    """Also where the capacity is no capacity; a reserve as large as it is a rule of its own."""
    settings = Settings(capacity_mib=1, reserved_mib=1, virt_type='lxc', ram_allocation_ratio=2.0)
    found = [reason.split()[0] for reason in config.forbidden(settings)]
    assert found == [
        '[DEFAULT]ram_allocation_ratio',
        '[libvirt]virt_type',
        '[DEFAULT]reserved_host_memory_mb',
    ]
    found = [reason.split()[0] for reason in config.forbidden(replace(settings, capacity_mib=-2))]
    assert found == [
        '[libvirt]file_backed_memory',
        '[DEFAULT]ram_allocation_ratio',
        '[libvirt]virt_type',
    ]


@pytest.mark.parametrize('reserved', [1, 512])
def test_a_reserve_is_worth_a_warning(reserved):
    """It runs here, but keeps nova-compute 34 from starting."""
    (warning,) = config.warnings(replace(GOOD, reserved_mib=reserved))
    assert warning.startswith(f'[DEFAULT]reserved_host_memory_mb is {reserved}: nova-compute 34')
    assert warning.endswith('set reserved_host_memory_mb = 0')


@pytest.mark.parametrize('changes', [{}, {'capacity_mib': 0, 'reserved_mib': 512}])
def test_no_warning(changes):
    assert list(config.warnings(replace(GOOD, **changes))) == []

# SPDX-License-Identifier: Apache-2.0
"""What in nova.conf forbids this host to run.

The rules are those of Nova's spec libvirt-file-backed-memory (Rocky) and of
``Host._check_file_backed_memory_support`` in nova/virt/libvirt/host.py, which reports one at each
start; here all are reported at once.
"""

from collections.abc import Iterator

from fbm_placement import constants
from fbm_placement.model import Settings


def forbidden(settings: Settings) -> Iterator[str]:
    """Return every reason why this host must not run; a disabled host has few."""
    capacity, reserved = settings.capacity_mib, settings.reserved_mib
    for name, value in (
        ('[libvirt]file_backed_memory', capacity),
        ('[DEFAULT]reserved_host_memory_mb', reserved),
    ):
        if value < 0:
            yield f'{name} is {value}: expected a whole number of MiB, 0 or more'
    if not capacity:
        return
    if capacity > constants.PLACEMENT_MAX_INT:
        yield (
            f'[libvirt]file_backed_memory is {capacity} MiB: Placement stores at most '
            f'{constants.PLACEMENT_MAX_INT}; the unit is MiB, was it meant in KiB or bytes?'
        )
    ratio = settings.ram_allocation_ratio
    if ratio != 1.0:
        yield (
            f'[DEFAULT]ram_allocation_ratio is {"not set" if ratio is None else ratio}: '
            'file-backed memory cannot be overcommitted; set ram_allocation_ratio = 1.0'
        )
    if settings.virt_type not in ('kvm', 'qemu'):
        yield (
            f'[libvirt]virt_type is {settings.virt_type}: only kvm and qemu guests can have '
            'file-backed memory; set virt_type = kvm, or file_backed_memory = 0'
        )
    if settings.enabled and capacity <= reserved:
        yield (
            f'[DEFAULT]reserved_host_memory_mb is {reserved} MiB, and '
            f'[libvirt]file_backed_memory {capacity} MiB: the reserve leaves nothing for '
            'instances; set reserved_host_memory_mb = 0, or offer more'
        )


def warnings(settings: Settings) -> Iterator[str]:
    """Return what is allowed here, but not with every release of Nova."""
    if settings.enabled and settings.reserved_mib:
        yield (
            f'[DEFAULT]reserved_host_memory_mb is {settings.reserved_mib}: nova-compute 34 and '
            'later does not start with file-backed memory and a reserve (earlier ones warn); '
            'set reserved_host_memory_mb = 0'
        )

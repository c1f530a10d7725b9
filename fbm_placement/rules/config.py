# SPDX-License-Identifier: Apache-2.0
"""What in nova.conf forbids this host to run.

The rules are those of Nova's spec libvirt-file-backed-memory (Rocky) and of
``Host._check_file_backed_memory_support`` in nova/virt/libvirt/host.py, which reports one at each
start; here all are reported at once.
"""

from fbm_placement import names
from fbm_placement.settings import Settings

VIRT_TYPES = ('kvm', 'qemu')


def forbidden(settings: Settings) -> list[str]:
    """Return every reason why this host must not run; a disabled host has few."""
    rules = [_negative_capacity, _negative_reserve]
    if settings.capacity_mib != 0:
        rules += [_too_large, _overcommitted, _wrong_virt_type, _nothing_left]
    return [reason for rule in rules if (reason := rule(settings))]


def warnings(settings: Settings) -> list[str]:
    """Return what is allowed here, but not with every release of Nova."""
    if not settings.enabled or settings.reserved_mib <= 0:
        return []
    warning = (
        f'[DEFAULT]reserved_host_memory_mb is {settings.reserved_mib}: nova-compute 34 and '
        'later does not start with file-backed memory and a reserve (earlier ones warn); '
        'set reserved_host_memory_mb = 0'
    )
    return [warning]


def _negative_capacity(settings: Settings) -> str | None:
    return _negative('[libvirt]file_backed_memory', settings.capacity_mib)


def _negative_reserve(settings: Settings) -> str | None:
    return _negative('[DEFAULT]reserved_host_memory_mb', settings.reserved_mib)


def _negative(name: str, value: int) -> str | None:
    return f'{name} is {value}: expected a whole number of MiB, 0 or more' if value < 0 else None


def _too_large(settings: Settings) -> str | None:
    if settings.capacity_mib <= names.PLACEMENT_MAX_INT:
        return None
    return (
        f'[libvirt]file_backed_memory is {settings.capacity_mib} MiB: Placement stores at most '
        f'{names.PLACEMENT_MAX_INT}; the unit is MiB, was it meant in KiB or bytes?'
    )


def _overcommitted(settings: Settings) -> str | None:
    ratio = settings.ram_allocation_ratio
    if ratio == 1.0:
        return None
    seen = 'not set' if ratio is None else str(ratio)
    return (
        f'[DEFAULT]ram_allocation_ratio is {seen}: file-backed memory cannot be overcommitted; '
        'set ram_allocation_ratio = 1.0'
    )


def _wrong_virt_type(settings: Settings) -> str | None:
    if settings.virt_type in VIRT_TYPES:
        return None
    return (
        f'[libvirt]virt_type is {settings.virt_type}: only kvm and qemu guests can have '
        'file-backed memory; set virt_type = kvm, or file_backed_memory = 0'
    )


def _nothing_left(settings: Settings) -> str | None:
    if settings.capacity_mib < 0 or settings.reserved_mib < settings.capacity_mib:
        return None
    return (
        f'[DEFAULT]reserved_host_memory_mb is {settings.reserved_mib} MiB, and '
        f'[libvirt]file_backed_memory {settings.capacity_mib} MiB: the reserve leaves nothing '
        'for instances; set reserved_host_memory_mb = 0, or offer more'
    )

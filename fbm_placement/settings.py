# SPDX-License-Identifier: Apache-2.0
"""What nova.conf says that this host offers, and whether the spec lets it run.

The rules are those of Nova's spec libvirt-file-backed-memory (Rocky) and of
``Host._check_file_backed_memory_support`` in nova/virt/libvirt/host.py, told all at once instead
of one at each restart.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from fbm_placement import errors, names
from fbm_placement.conf import file_backed_memory
from fbm_placement.words import config_error_text

VIRT_TYPES = ('kvm', 'qemu')


@dataclass(frozen=True)
class Settings:
    """What nova-compute's configuration promises of this host."""

    capacity_mib: int
    """``[libvirt]file_backed_memory``, MiB. 0: the host's configured state is ``disabled``."""
    reserved_mib: int
    """``[DEFAULT]reserved_host_memory_mb``, MiB."""
    virt_type: str
    ram_allocation_ratio: float | None

    @property
    def enabled(self) -> bool:
        """Whether file-backed memory is configured on this host."""
        return self.capacity_mib > 0

    @property
    def promised_mib(self) -> int:
        """What instances may be allocated, MiB: the store has to hold it."""
        return self.capacity_mib - self.reserved_mib

    def __str__(self) -> str:
        """Return the configured state, e.g. ``enabled, 4096 MiB``."""
        return f'enabled, {self.capacity_mib} MiB' if self.enabled else 'disabled'


DISABLED = Settings(capacity_mib=0, reserved_mib=0, virt_type='', ram_allocation_ratio=None)
"""A host that offers no file-backed memory, whatever its configuration says."""


@dataclass(frozen=True)
class AgentOptions:
    """``[file_backed_memory]``: what may change while the agent runs."""

    resource_provider: str | None
    interval: int
    memory_backing_dir: str | None = None
    """Of libvirt; None: as its qemu.conf says."""
    hook_mode: str = 'enforce'
    """What libvirt's hook does with a guest that breaks a rule: HOOK_MODES."""


def forbidden(settings: Settings) -> list[str]:
    """Return every reason why the spec forbids this host to run; none while it is disabled."""
    negative = _negative(settings)
    if settings.capacity_mib == 0:
        return negative
    rules = (_too_large, _overcommitted, _wrong_virt_type, _nothing_left)
    return negative + [reason for rule in rules if (reason := rule(settings))]


def doubtful(settings: Settings) -> list[str]:
    """Return what runs here, but not with every release of Nova."""
    if settings.enabled and settings.reserved_mib > 0:
        doubt = (
            f'[DEFAULT]reserved_host_memory_mb is {settings.reserved_mib}: nova-compute 34 and '
            'later does not start with file-backed memory and a reserve (earlier ones warn); '
            'set reserved_host_memory_mb = 0'
        )
        return [doubt]
    return []


def read_settings(conf: cfg.ConfigOpts) -> Settings:
    """Read Nova's options and check them.

    :raises ConfigurationError: with every reason at once
    """
    reader = _Reader()
    settings = Settings(
        capacity_mib=reader.value(
            lambda: conf.libvirt.file_backed_memory,
            '[libvirt]file_backed_memory',
            'a whole number of MiB, e.g. 1048576 for 1 TiB, or 0 for DRAM',
            stand_in=names.PLACEMENT_MAX_INT,
        ),
        reserved_mib=reader.value(
            lambda: conf.reserved_host_memory_mb,
            '[DEFAULT]reserved_host_memory_mb',
            'a whole number of MiB, 0 or more',
            stand_in=0,
        ),
        virt_type=reader.value(
            lambda: conf.libvirt.virt_type,
            '[libvirt]virt_type',
            ' or '.join(VIRT_TYPES),
            stand_in=VIRT_TYPES[0],
        ),
        ram_allocation_ratio=reader.value(
            lambda: conf.ram_allocation_ratio,
            '[DEFAULT]ram_allocation_ratio',
            '1.0',
            stand_in=1.0,
            optional=True,
        ),
    )
    reasons = [*reader.reasons, *forbidden(settings)]
    if reasons:
        raise errors.ConfigurationError(reasons)
    return settings


def read_all(conf: cfg.ConfigOpts) -> tuple[Settings, AgentOptions]:
    """Read and check both.

    :raises ConfigurationError: with every reason of both at once
    """
    reasons: list[str] = []
    try:
        settings = read_settings(conf)
    except errors.ConfigurationError as exc:
        settings = DISABLED
        reasons += exc.reasons
    try:
        options = read_agent_options(conf)
    except errors.ConfigurationError as exc:
        raise errors.ConfigurationError([*reasons, *exc.reasons]) from exc
    if reasons:
        raise errors.ConfigurationError(reasons)
    return settings, options


def read_agent_options(conf: cfg.ConfigOpts) -> AgentOptions:
    """Read the agent's own options.

    :raises ConfigurationError: with every reason at once
    """
    reader = _Reader()
    options = AgentOptions(
        resource_provider=_resource_provider(reader, conf),
        interval=reader.value(
            lambda: conf.file_backed_memory.interval,
            '[file_backed_memory]interval',
            'a whole number of seconds, 5 to 3600',
            stand_in=0,
        ),
        memory_backing_dir=_memory_backing_dir(reader, conf),
        hook_mode=reader.value(
            lambda: conf.file_backed_memory.hook_mode,
            '[file_backed_memory]hook_mode',
            ' or '.join(file_backed_memory.HOOK_MODES),
            stand_in='',
        ),
    )
    if reader.reasons:
        raise errors.ConfigurationError(reader.reasons)
    return options


def read_resource_provider(conf: cfg.ConfigOpts) -> str | None:
    """Read the one option that withdrawing needs.

    :raises ConfigurationError: it is wrong
    """
    reader = _Reader()
    name = _resource_provider(reader, conf)
    if reader.reasons:
        raise errors.ConfigurationError(reader.reasons)
    return name


def _resource_provider(reader: '_Reader', conf: cfg.ConfigOpts) -> str | None:
    name: str | None = reader.value(
        lambda: (conf.file_backed_memory.resource_provider or '').strip() or None,
        '[file_backed_memory]resource_provider',
        'the UUID or the name of a resource provider',
        stand_in=None,
        optional=True,
    )
    return name


def _memory_backing_dir(reader: '_Reader', conf: cfg.ConfigOpts) -> str | None:
    name, expected = '[file_backed_memory]memory_backing_dir', 'the absolute path of a directory'
    path: str | None = reader.value(
        lambda: (conf.file_backed_memory.memory_backing_dir or '').strip() or None,
        name,
        expected,
        stand_in=None,
        optional=True,
    )
    if path is not None and not path.startswith('/'):
        reader.reasons.append(f'{name} is {path}: expected {expected}')
    return path and os.path.normpath(path)


class _Reader:
    """Reads options one by one and collects what is wrong, instead of stopping at the first."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def value(
        self,
        read: Callable[[], Any],
        name: str,
        expected: str,
        *,
        stand_in: object,
        optional: bool = False,
    ) -> Any:
        """Return what ``read`` returns; where that fails, ``stand_in``, which breaks no rule."""
        try:
            value = read()
        except (cfg.NoSuchOptError, cfg.TemplateSubstitutionError):
            seen = 'a $ that names no option known here'
        except (cfg.Error, ValueError) as exc:
            seen = config_error_text(exc, with_option=False)
        else:
            if value is not None or optional:
                return value
            seen = 'nothing after the ='
        self.reasons.append(f'{name}: {seen}; expected {expected}')
        return stand_in


def _negative(settings: Settings) -> list[str]:
    values = {
        '[libvirt]file_backed_memory': settings.capacity_mib,
        '[DEFAULT]reserved_host_memory_mb': settings.reserved_mib,
    }
    return [
        f'{name} is {value}: expected a whole number of MiB, 0 or more'
        for name, value in values.items()
        if value < 0
    ]


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

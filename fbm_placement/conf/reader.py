# SPDX-License-Identifier: Apache-2.0
"""Reads options into ``Settings`` and ``AgentOptions``, and reports every error at once."""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from fbm_placement import constants, errors
from fbm_placement.conf import nova
from fbm_placement.model import DISABLED, AgentOptions, Settings
from fbm_placement.rules import config
from fbm_placement.text import config_error_text


def _required(value: Any) -> Any:
    if value is None:
        raise ValueError('nothing after the =')
    return value


def _text(value: str | None) -> str | None:
    return (value or '').strip() or None


def _directory(value: str | None) -> str | None:
    path = _text(value)
    if path is not None and not path.startswith('/'):
        raise ValueError(f'{path} is relative')
    return path and os.path.normpath(path)


@dataclass(frozen=True)
class _Option:
    group: str
    name: str
    expected: str
    fallback: Any = None
    """Replaces a value that can't be read; breaks no rule."""
    parse: Callable[[Any], Any] = _required
    """Raises ValueError."""


_CAPACITY = 'a whole number of MiB, e.g. 1048576 for 1 TiB, or 0 for DRAM'
_RESERVE = 'a whole number of MiB, 0 or more'
# By the field of the dataclass.
_SETTINGS = {
    'capacity_mib': _Option(
        'libvirt', 'file_backed_memory', _CAPACITY, constants.PLACEMENT_MAX_INT
    ),
    'reserved_mib': _Option('DEFAULT', 'reserved_host_memory_mb', _RESERVE, 0),
    'virt_type': _Option('libvirt', 'virt_type', 'kvm or qemu', 'kvm'),
    'ram_allocation_ratio': _Option(
        'DEFAULT', 'ram_allocation_ratio', '1.0', 1.0, lambda value: value
    ),
}

_AGENT_OPTIONS = {
    name: _Option('file_backed_memory', name, expected, parse=parse)
    for name, expected, parse in (
        ('resource_provider', 'the UUID or the name of a resource provider', _text),
        ('interval', 'a whole number of seconds, 5 to 3600', _required),
        ('memory_backing_dir', 'the absolute path of a directory', _directory),
        ('hook_mode', 'enforce or warn or off', _required),
    )
}


def read_settings(conf: cfg.ConfigOpts) -> Settings:
    """Read Nova's options and check them; ConfigurationError has every reason at once."""
    values, reasons = _read(conf, _SETTINGS)
    settings = Settings(**values, instance_name_template=read_instance_name_template(conf))
    reasons += config.forbidden(settings)
    if reasons:
        raise errors.ConfigurationError(reasons)
    return settings


def read_instance_name_template(conf: cfg.ConfigOpts) -> str:
    """Return how Nova names its guests; Nova's default if that can't be read."""
    try:
        return conf.instance_name_template or ''
    except cfg.Error:  # It has a $ that names no option known here.
        return DISABLED.instance_name_template


def read_settings_again(conf: cfg.ConfigOpts) -> Settings:
    """Read Nova's options from the same files as they are now; ``conf`` stays as it is.

    Raises what ``read_settings`` raises, cfg.Error, OSError and ValueError.
    """
    now = cfg.ConfigOpts()
    nova.register_opts(now)
    now([], default_config_files=conf.config_file, default_config_dirs=conf.config_dir)
    return read_settings(now)


def read_agent_options(
    conf: cfg.ConfigOpts, needed: Collection[str] = _AGENT_OPTIONS
) -> AgentOptions:
    """Read those options that are ``needed``; ConfigurationError has every reason at once."""
    values, reasons = _read(conf, {name: _AGENT_OPTIONS[name] for name in needed})
    if reasons:
        raise errors.ConfigurationError(reasons)
    return AgentOptions(**values)


def read_all(conf: cfg.ConfigOpts) -> tuple[Settings, AgentOptions]:
    """Read and check both; ConfigurationError has every reason of both at once."""
    try:
        settings = read_settings(conf)
    except errors.ConfigurationError as exc:
        reasons = _read(conf, _AGENT_OPTIONS)[1]
        raise errors.ConfigurationError([*exc.reasons, *reasons]) from None
    return settings, read_agent_options(conf)


def _read(conf: cfg.ConfigOpts, table: dict[str, _Option]) -> tuple[dict[str, Any], list[str]]:
    """Return the value of each field, and what is wrong with the options."""
    values, reasons = {}, []
    for field, option in table.items():
        section = conf if option.group == 'DEFAULT' else conf[option.group]
        try:
            values[field] = option.parse(section[option.name])
            continue
        except (cfg.NoSuchOptError, cfg.TemplateSubstitutionError):
            seen = 'a $ that names no option known here'
        except (cfg.Error, ValueError) as exc:
            seen = config_error_text(exc, with_option=False)
        values[field] = option.fallback
        reasons.append(f'[{option.group}]{option.name}: {seen}; expected {option.expected}')
    return values, reasons

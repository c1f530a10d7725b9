# SPDX-License-Identifier: Apache-2.0
"""Reads options into ``Settings`` and ``AgentOptions``, and reports every error at once."""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from fbm_placement import errors, names
from fbm_placement.conf.file_backed_memory import HOOK_MODES
from fbm_placement.rules import config
from fbm_placement.settings import AgentOptions, Settings
from fbm_placement.words import config_error_text


def _as_is(value: Any) -> Any:
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
    optional: bool = False
    parse: Callable[[Any], Any] = _as_is
    """Raises ValueError."""

    def __str__(self) -> str:
        return f'[{self.group}]{self.name}'


_Table = dict[str, _Option]
"""The field of the dataclass, and the option that it is read from."""

_SETTINGS: _Table = {
    'capacity_mib': _Option(
        'libvirt',
        'file_backed_memory',
        'a whole number of MiB, e.g. 1048576 for 1 TiB, or 0 for DRAM',
        fallback=names.PLACEMENT_MAX_INT,
    ),
    'reserved_mib': _Option(
        'DEFAULT', 'reserved_host_memory_mb', 'a whole number of MiB, 0 or more', fallback=0
    ),
    'virt_type': _Option(
        'libvirt', 'virt_type', ' or '.join(config.VIRT_TYPES), fallback=config.VIRT_TYPES[0]
    ),
    'ram_allocation_ratio': _Option(
        'DEFAULT', 'ram_allocation_ratio', '1.0', fallback=1.0, optional=True
    ),
}

_GROUP = 'file_backed_memory'
_AGENT_OPTIONS: _Table = {
    'resource_provider': _Option(
        _GROUP,
        'resource_provider',
        'the UUID or the name of a resource provider',
        optional=True,
        parse=_text,
    ),
    'interval': _Option(_GROUP, 'interval', 'a whole number of seconds, 5 to 3600'),
    'memory_backing_dir': _Option(
        _GROUP,
        'memory_backing_dir',
        'the absolute path of a directory',
        optional=True,
        parse=_directory,
    ),
    'hook_mode': _Option(_GROUP, 'hook_mode', ' or '.join(HOOK_MODES)),
}


def read_settings(conf: cfg.ConfigOpts) -> Settings:
    """Read Nova's options and check them.

    :raises ConfigurationError: with every reason at once
    """
    settings, reasons = _settings(conf)
    _refuse(reasons)
    return settings


def read_agent_options(
    conf: cfg.ConfigOpts, needed: Collection[str] = _AGENT_OPTIONS
) -> AgentOptions:
    """Read the agent's own options.

    :param needed: those to read; the others get their defaults
    :raises ConfigurationError: with every reason at once
    """
    values, reasons = _read(conf, {name: _AGENT_OPTIONS[name] for name in needed})
    _refuse(reasons)
    return AgentOptions(**values)


def read_all(conf: cfg.ConfigOpts) -> tuple[Settings, AgentOptions]:
    """Read and check both.

    :raises ConfigurationError: with every reason of both at once
    """
    settings, reasons = _settings(conf)
    values, more_reasons = _read(conf, _AGENT_OPTIONS)
    _refuse(reasons + more_reasons)
    return settings, AgentOptions(**values)


def _settings(conf: cfg.ConfigOpts) -> tuple[Settings, list[str]]:
    values, reasons = _read(conf, _SETTINGS)
    settings = Settings(**values)
    return settings, [*reasons, *config.forbidden(settings)]


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise errors.ConfigurationError(reasons)


def _read(conf: cfg.ConfigOpts, table: _Table) -> tuple[dict[str, Any], list[str]]:
    """Return the value of each field, and what is wrong with the options."""
    values, reasons = {}, []
    for field, option in table.items():
        section = conf if option.group == 'DEFAULT' else conf[option.group]
        values[field] = option.fallback
        try:
            value = option.parse(section[option.name])
        except (cfg.NoSuchOptError, cfg.TemplateSubstitutionError):
            seen = 'a $ that names no option known here'
        except (cfg.Error, ValueError) as exc:
            seen = config_error_text(exc, with_option=False)
        else:
            if value is not None or option.optional:
                values[field] = value
                continue
            seen = 'nothing after the ='
        reasons.append(f'{option}: {seen}; expected {option.expected}')
    return values, reasons

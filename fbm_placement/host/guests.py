# SPDX-License-Identifier: Apache-2.0
"""What QEMU's command line shows of a guest: its owner, and what its memory is backed by.

libvirt's XML has what was asked for; the command line is what QEMU was given.
"""

import json
import os
import re
import uuid
from collections.abc import Iterator, Sequence

from fbm_placement.model import Backing, Guest

_QEMU = re.compile(r'^(qemu-system-|qemu-kvm$|kvm$)')
_DEFAULT_NAME = re.compile(r'^instance-[0-9a-f]{8}$')
_UNITS_MIB = {'K': 1 / 1024, 'M': 1.0, 'G': 1024.0, 'T': 1024.0**2}

Properties = dict[str, str]


def guest_of(pid: int, argv: Sequence[str]) -> Guest | None:
    """Return the guest that any command line runs; None if it is no QEMU of libvirt's."""
    if not argv or not _QEMU.match(os.path.basename(argv[0])):
        return None
    options = list(_options(argv))
    first = dict(reversed(options))
    name, domain_uuid = _value(first.get('name', ''), 'guest'), first.get('uuid', '')
    if not name or not _is_uuid(domain_uuid):
        return None
    backends = _ram_backends(options)
    return Guest(
        pid=pid,
        name=name,
        uuid=domain_uuid.lower(),
        is_nova=_is_nova(name, options),
        memory_mib=_memory_mib(first.get('m', '')),
        backing=Backing.of_whole(_backing_of_one(backend) for backend in backends),
        ram_files=tuple(b['mem-path'] for b in backends if _is_in_file(b)),
    )


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    # A flag has no value, and no value that libvirt gives begins with a dash.
    for argument, following in zip(argv[1:], [*argv[2:], ''], strict=True):
        if argument.startswith('-'):
            yield argument.lstrip('-'), '' if following.startswith('-') else following


def _properties(text: str) -> Properties:
    """Read QEMU's ``name=value,...`` or, from libvirt 7 on for objects, its JSON."""
    if text.startswith('{'):
        try:
            loaded = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return {key: 'on' if value is True else str(value) for key, value in loaded.items()}
    # A doubled comma is one that belongs to the value.
    parts = text.replace(',,', '\0').split(',')
    pairs = (part.replace('\0', ',').partition('=') for part in parts)
    return {key: value for key, _, value in pairs}


def _value(text: str, name: str) -> str:
    """Return a property, or what stands before the first comma: its name may be left out."""
    return _properties(text).get(name) or text.partition(',')[0]


def _is_nova(name: str, options: Sequence[tuple[str, str]]) -> bool:
    """Return whether Nova made it: x86 guests have that in SMBIOS (``_get_guest_config_sysinfo``).

    Vendors change manufacturer and product (/etc/nova/release), but not the family. Guests of
    other architectures have no such table: there Nova's default instance_name_template decides.
    """
    tables = [_properties(value) for option, value in options if option == 'smbios']
    systems = [table for table in tables if table.get('type') == '1']
    if systems:
        return any(table.get('family') == 'Virtual Machine' for table in systems)
    return _DEFAULT_NAME.match(name) is not None


def _memory_mib(text: str) -> int:
    size = _value(text, 'size')
    number, unit = (size[:-1], size[-1].upper()) if size[-1:].isalpha() else (size, 'M')
    try:
        return round(int(number) * _UNITS_MIB[unit])
    except (ValueError, KeyError, OverflowError):
        return 0


def _ram_backends(options: Sequence[tuple[str, str]]) -> list[Properties]:
    """Return the objects that the machine or its NUMA cells name; others are devices' memory."""
    named = set()
    for option, value in options:
        if option in ('machine', 'M'):
            named.add(_properties(value).get('memory-backend', ''))
        elif option == 'numa':
            named.add(_properties(value).get('memdev', ''))
    objects = [_object(value) for option, value in options if option == 'object']
    return [backend for backend in objects if backend.get('id') in named]


def _object(text: str) -> Properties:
    defaults = {'mem-path': '', 'share': 'off'}
    return defaults | _properties(text) | {'qom-type': _value(text, 'qom-type')}


def _is_in_file(backend: Properties) -> bool:
    """For huge pages libvirt gives a directory; for a file, the file, named as the object is."""
    return (
        backend['qom-type'] == 'memory-backend-file'
        and os.path.basename(backend['mem-path']) == backend['id']
    )


def _backing_of_one(backend: Properties) -> Backing:
    if backend['qom-type'] != 'memory-backend-file':
        return Backing.DRAM
    if not _is_in_file(backend):
        return Backing.HUGE_PAGES
    return Backing.FILE if backend['share'] in ('on', 'yes', 'true') else Backing.PRIVATE_FILE


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

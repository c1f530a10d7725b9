# SPDX-License-Identifier: Apache-2.0
"""What QEMU's command line shows of a guest: its owner, and what its memory is backed by.

libvirt's XML has what was asked for; the command line is what QEMU was given.
"""

import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence

from fbm_placement.model import Backing, Guest

_UNITS_MIB = {'K': 1 / 1024, 'M': 1.0, 'G': 1024.0, 'T': 1024.0**2}

Properties = dict[str, str]


def guest_of(
    pid: int,
    argv: Sequence[str],
    is_nova: Callable[[str, str], bool],
    is_on_hugetlbfs: Callable[[str], bool],
) -> Guest | None:
    """Return the guest that this command line runs; None if it is no QEMU of libvirt's.

    The program may have any name and user: containers and vendors have their own. Raises nothing,
    whatever the command line is.

    :param is_nova: whether Nova made the guest of this name and UUID; asked if its command line
        does not show that
    :param is_on_hugetlbfs: whether this path is; asked about ``-mem-path``
    """
    if '-uuid' not in argv:
        return None
    options = list(_options(argv))
    first = dict(reversed(options))
    # libvirt's form; QEMU itself also takes a bare name.
    name = _properties(first.get('name', '')).get('guest')
    domain_uuid = first.get('uuid', '').lower()
    if not name or not _is_uuid(domain_uuid):
        return None
    backends = _ram_backends(options) or _mem_path(first, is_on_hugetlbfs)
    made_by_nova = _nova_in_smbios(options)
    return Guest(
        pid=pid,
        name=name,
        uuid=domain_uuid,
        is_nova=is_nova(name, domain_uuid) if made_by_nova is None else made_by_nova,
        memory_mib=_memory_mib(first.get('m', '')),
        backing=Backing.of_whole(backing for backing, _ in backends),
        ram_files=tuple(
            path for backing, path in backends if backing in (Backing.FILE, Backing.PRIVATE_FILE)
        ),
    )


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    # A flag has no value, and no value that libvirt gives begins with a dash.
    for argument, following in itertools.pairwise([*argv[1:], '']):
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


def _nova_in_smbios(options: Sequence[tuple[str, str]]) -> bool | None:
    """Return whether Nova made it, by its SMBIOS strings (``_get_guest_config_sysinfo``).

    Vendors change manufacturer and product (/etc/nova/release), but not the family. None: there
    are no such strings, which Nova writes on x86 only.
    """
    tables = [_properties(value) for option, value in options if option == 'smbios']
    systems = [table for table in tables if table.get('type') == '1']
    if not systems:
        return None
    return any(table.get('family') == 'Virtual Machine' for table in systems)


def _memory_mib(text: str) -> int:
    size = _value(text, 'size')
    number, unit = (size[:-1], size[-1].upper()) if size[-1:].isalpha() else (size, 'M')
    try:
        return round(int(number) * _UNITS_MIB[unit])
    except (ValueError, KeyError, OverflowError):
        return 0


def _ram_backends(options: Sequence[tuple[str, str]]) -> list[tuple[Backing, str]]:
    """Return backing and path of the objects that the machine or its NUMA cells name.

    Others are devices' memory.
    """
    named = set()
    for option, value in options:
        if option in ('machine', 'M'):
            named.add(_properties(value).get('memory-backend', ''))
        elif option == 'numa':
            named.add(_properties(value).get('memdev', ''))
    objects = [_object(value) for option, value in options if option == 'object']
    return [
        (_backing_of_one(backend), backend['mem-path'])
        for backend in objects
        if backend.get('id') in named
    ]


def _mem_path(
    options: Properties, is_on_hugetlbfs: Callable[[str], bool]
) -> list[tuple[Backing, str]]:
    """Return the same of ``-mem-path``, which old machine types have; QEMU maps it private."""
    path = options.get('mem-path')
    if not path:
        return []
    return [(Backing.HUGE_PAGES if is_on_hugetlbfs(path) else Backing.PRIVATE_FILE, path)]


def _object(text: str) -> Properties:
    defaults = {'mem-path': '', 'share': 'off'}
    return defaults | _properties(text) | {'qom-type': _value(text, 'qom-type')}


def _backing_of_one(backend: Properties) -> Backing:
    if backend['qom-type'] != 'memory-backend-file':
        return Backing.DRAM
    # For huge pages libvirt gives a directory; for a file, the file, named as the object is.
    if os.path.basename(backend['mem-path']) != backend['id']:
        return Backing.HUGE_PAGES
    return Backing.FILE if backend['share'] in ('on', 'yes', 'true') else Backing.PRIVATE_FILE


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

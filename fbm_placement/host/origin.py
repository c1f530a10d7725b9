# SPDX-License-Identifier: Apache-2.0
"""Whether Nova made a guest whose command line doesn't show it.

Nova writes its SMBIOS strings on x86 only (``_get_guest_config_sysinfo``).
"""

import functools
import os
import re

from fbm_placement.hook import program

RUN_TIME_XML = '/run/libvirt/qemu'
"""libvirt's XML of the guests that run, root's alone: CAP_DAC_READ_SEARCH is needed."""

# libvirt keeps elements of other namespaces than its own in <metadata> alone.
_METADATA = re.compile(rf'<[^<>]+ xmlns:\w+=["\']{re.escape(program.NOVA)}'.encode())
_FORMAT = re.compile(r'%(?:\((?P<key>[^)]*)\))?[-#0 +]*(?P<width>\d*)(?:\.\d+)?(?P<kind>.)')
_NUMBERS = {'x': '[ 0-9a-f]', 'X': '[ 0-9A-F]', 'o': '[ 0-7]'}
_DECIMAL = '[ 0-9]'


def is_nova(name: str, uuid: str, name_template: str, directory: str = RUN_TIME_XML) -> bool:
    """Return whether Nova's metadata is in the guest's XML; if that can't be read, by its name."""
    try:
        with open(os.path.join(directory, os.path.basename(f'{name}.xml')), 'rb') as file:
            xml = file.read()
    except OSError:
        xml = b''
    if f'<uuid>{uuid}</uuid>'.encode() in xml:
        return _METADATA.search(xml) is not None
    return is_name_of(name_template, name, uuid)


def is_name_of(template: str, name: str, uuid: str) -> bool:
    """Return whether ``Instance.name`` (nova/objects/instance.py) makes this name of a template.

    The template formats the instance's id, or fields by name, of which only ``uuid`` is known.
    """
    return _pattern(template).fullmatch(name.replace(uuid, '\0')) is not None


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    pattern, end = '', 0
    for part in _FORMAT.finditer(template):
        pattern += re.escape(template[end : part.start()]) + _values(part)
        end = part.end()
    return re.compile(pattern + re.escape(template[end:]))


def _values(part: re.Match[str]) -> str:
    key, kind = part['key'], part['kind']
    if kind == '%':
        return '%'
    if key == 'uuid':
        return '\0'
    if key in (None, 'id'):
        return f'{_NUMBERS.get(kind, _DECIMAL)}{{{min(int(part["width"] or 1), 255)},}}'
    return '.+'

# SPDX-License-Identifier: Apache-2.0
"""The definitions of Nova guests, running or stopped: libvirt's persistent XML.

Nova writes it again each time that it starts a guest, and from the same flavor.
"""

import contextlib
import os
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from fbm_placement import constants, errors
from fbm_placement.rules.restarts import Definition, Need

DIRECTORY = '/etc/libvirt/qemu'

_NOVA = '{http://openstack.org/xmlns/libvirt/nova/'
_PAGE_SIZES = ('hw:mem_page_size', 'hw_mem_page_size')
"""Of the flavor and of the image."""
_PINNING = (
    'memoryBacking/locked',
    'launchSecurity',
    "devices/hostdev[@type='pci']",
    "devices/hostdev[@type='mdev']",
    "devices/interface[@type='hostdev']",
    "devices/interface[@type='vdpa']",
)


def read_definitions(directory: str = DIRECTORY) -> tuple[Definition, ...]:
    """Return the definition of each Nova guest; HostError: they can't be read."""
    try:
        return tuple(_read_all(directory))
    except OSError as exc:
        raise errors.HostError(
            f'{exc.filename}: {exc.strerror}; expected to read the definitions of the guests '
            'there: run fbm-status as root'
        ) from exc


def _read_all(directory: str) -> Iterator[Definition]:
    # No directory: libvirt never ran. No file: the guest was undefined since it was listed.
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory)):
            if name.endswith('.xml') and (definition := _read(os.path.join(directory, name))):
                yield definition


def _read(path: str) -> Definition | None:
    with contextlib.suppress(FileNotFoundError), open(path, 'rb') as file:
        return parse(file.read())
    return None


def parse(xml: bytes) -> Definition | None:
    """Return what Nova asks for in a domain; None: it is not Nova's, or no domain."""
    try:
        domain = ET.fromstring(xml)  # noqa: S314 - libvirt's own file
    except ET.ParseError:
        return None
    instance = domain.find('metadata/{*}instance')
    if instance is None or not instance.tag.startswith(_NOVA):
        return None
    return Definition(
        domain.findtext('name', ''),
        domain.findtext('uuid', ''),
        frozenset(_needs(domain, instance)),
    )


def _needs(domain: ET.Element, instance: ET.Element) -> Iterator[Need]:
    specs = {
        element.get('name'): element.text
        for path in ('{*}flavor/{*}extraSpecs/*', '{*}image/{*}properties/*')
        for element in instance.iterfind(path)
    }
    has_topology = domain.find('cpu/numa/cell') is not None
    has_share = domain.find("devices/filesystem/driver[@type='virtiofs']") is not None
    if domain.find('memoryBacking/hugepages') is not None or any(map(specs.get, _PAGE_SIZES)):
        yield Need.PAGE_SIZE
    elif has_topology and not _shows_page_size(domain, instance):
        yield Need.MAYBE_PAGE_SIZE
    elif has_topology:
        yield Need.TOPOLOGY
    if has_share and domain.find('memoryBacking/hugepages') is None:
        yield Need.SHARE
    if any(domain.find(path) is not None for path in _PINNING):
        yield Need.PINNED
    match specs.get(f'trait:{constants.TRAIT_ENABLED}'):
        case 'required':
            yield Need.REQUIRED
        case 'forbidden':
            yield Need.FORBIDDEN


def _shows_page_size(domain: ET.Element, instance: ET.Element) -> bool:
    """Return whether a page size of the smallest pages, which is no element, would be seen."""
    return (
        instance.find('{*}flavor/{*}extraSpecs') is not None
        or domain.find("memoryBacking/source[@type='file']") is not None
    )

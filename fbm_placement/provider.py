# SPDX-License-Identifier: Apache-2.0
"""Which resource provider is this host's? An option says so, or Nova's compute_id, or the name."""

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oslo_config import cfg

from fbm_placement import errors
from fbm_placement.placement import PlacementClient, Provider

COMPUTE_ID_FILE = 'compute_id'
HOW_TO_SET = (
    'set [file_backed_memory]resource_provider to its UUID (openstack resource provider list)'
)
_LONGEST_COMPUTE_ID = 40
_STATE_PATH = (
    '[DEFAULT]state_path has a $ that names no option known here: expected the directory that '
    f'nova-compute uses (it holds {COMPUTE_ID_FILE}); write it out without the $, or {HOW_TO_SET}'
)


@dataclass(frozen=True)
class Lookup:
    """What to look for in Placement, and who said so."""

    source: str
    uuid: str | None = None
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Tell it as messages do."""
        what = f'UUID {self.uuid}' if self.uuid else 'name ' + ' or '.join(self.names)
        return f'{what} (from {self.source})'


def choose_lookup(
    option: str | None, compute_ids: Mapping[str, str], hostnames: Sequence[str]
) -> Lookup:
    """Decide what to look for: the option, else Nova's compute_id, else the hypervisor's hostname.

    :param option: ``[file_backed_memory]resource_provider``, a UUID or a name
    :param compute_ids: path to content of each ``compute_id`` file (nova/virt/node.py)
    :param hostnames: what libvirt may tell Nova as the hypervisor's hostname
    :raises NotReadyError: a compute_id file holds no UUID, or they don't agree
    """
    if option is not None:
        source = '[file_backed_memory]resource_provider'
        as_uuid = _uuid(option)
        return Lookup(source, uuid=as_uuid) if as_uuid else Lookup(source, names=(option,))
    found = {path: _uuid(content.strip()) for path, content in compute_ids.items()}
    for path, value in found.items():
        if value is None:
            raise errors.NotReadyError(
                f'{path} holds {compute_ids[path].strip()!r}, expected a UUID; nova-compute will '
                f'not start with it either: restore the file, or {HOW_TO_SET}'
            )
    if len(set(found.values())) > 1:
        told = ', '.join(f'{path} holds {value}' for path, value in found.items())
        raise errors.NotReadyError(
            f'the {COMPUTE_ID_FILE} files do not agree: {told}; nova-compute will not start with '
            'them either: keep the one that `openstack resource provider list` shows for this host'
        )
    for path, value in found.items():
        return Lookup(path, uuid=value)
    return Lookup("this host's name", names=tuple(dict.fromkeys(hostnames)))


def lookup_for(option: str | None, conf: cfg.ConfigOpts) -> Lookup:
    """Find out what to look for; nothing of the host is read where ``option`` says it.

    Raises what ``choose_lookup`` and ``read_compute_ids`` raise.
    """
    if option is not None:
        return choose_lookup(option, {}, ())
    return choose_lookup(None, read_compute_ids(conf), hypervisor_hostnames())


def read_compute_ids(conf: cfg.ConfigOpts) -> dict[str, str]:
    """Read every ``compute_id``: beside each configuration file and in ``state_path``.

    :raises NotReadyError: one can't be read
    :raises ConfigurationError: ``state_path`` interpolates what isn't known here
    """
    folders = [os.path.dirname(path) for path in conf.config_file]
    try:
        folders.append(conf.state_path)
    except cfg.Error as exc:
        raise errors.ConfigurationError([_STATE_PATH]) from exc
    found = {}
    for folder in dict.fromkeys(folders):
        path = os.path.join(folder, COMPUTE_ID_FILE)
        try:
            with open(path, encoding='utf-8', errors='replace') as file:
                found[path] = file.read(_LONGEST_COMPUTE_ID)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise errors.NotReadyError(
                f'{path}: {exc.strerror}; expected to read it as nova-compute does (run as the '
                'same user, nova)'
            ) from exc
    return found


def hypervisor_hostnames() -> tuple[str, ...]:
    """Return what libvirt may tell as this host's name: the canonical name, then the plain one.

    libvirt's virGetHostname() asks the resolver to complete a name without a dot, and keeps the
    plain name where the answer is ``localhost``.
    """
    plain = socket.gethostname()
    if '.' in plain:
        return (plain,)
    try:
        canonical = socket.getaddrinfo(plain, None, flags=socket.AI_CANONNAME)[0][3]
    except (OSError, UnicodeError):
        canonical = ''
    if not canonical or canonical.startswith('localhost'):
        return (plain,)
    return tuple(dict.fromkeys((canonical, plain)))


def find_provider(placement: PlacementClient, lookup: Lookup) -> Provider:
    """Find the one root provider that ``lookup`` describes.

    :raises NotReadyError: there is none (yet), there are several, or it isn't a root
    :raises PlacementError: Placement could not be asked
    """
    found = _search(placement, lookup)
    if not found:
        raise errors.NotReadyError(
            f'Placement has no resource provider with {lookup}; nova-compute creates it when it '
            f'first reports: is it running on this host? If the provider is another one, '
            f'{HOW_TO_SET}'
        )
    if len(found) > 1:
        told = ', '.join(f'{provider.name} ({provider.uuid})' for provider in found)
        raise errors.NotReadyError(
            f'several resource providers fit {lookup}: {told}; {HOW_TO_SET}'
        )
    (provider,) = found
    if not provider.is_root:
        raise errors.NotReadyError(
            f'resource provider {provider.name} ({provider.uuid}), found by {lookup}, has a '
            f"parent; expected the compute node's root provider: {HOW_TO_SET}"
        )
    return provider


def warning(found: Provider, option: str | None, conf: cfg.ConfigOpts) -> str | None:
    """Return why ``resource_provider`` may name another host's provider; None: nothing says so."""
    if option is None:
        return None
    try:
        ids = {_uuid(text.strip()) for text in read_compute_ids(conf).values()} - {None}
    except errors.FileBackedMemoryError:
        return None
    if not ids or found.uuid in ids:
        return None
    others = ', '.join(sorted(map(str, ids)))
    return (
        f'[file_backed_memory]resource_provider names {found.name} ({found.uuid}), but '
        f'nova-compute here writes {others} ({COMPUTE_ID_FILE}): if this is not meant, take the '
        'option away'
    )


def _search(placement: PlacementClient, lookup: Lookup) -> list[Provider]:
    if lookup.uuid is not None:
        return placement.providers(uuid=lookup.uuid)
    return [found for name in lookup.names for found in placement.providers(name=name)]


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None

# SPDX-License-Identifier: Apache-2.0
"""Which resource provider is this host's: by an option, Nova's compute_id or the host's name."""

import contextlib
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oslo_config import cfg

from fbm_placement import errors
from fbm_placement.model import Provider
from fbm_placement.placement.client import PlacementClient

COMPUTE_ID_FILE = 'compute_id'
HOW_TO_SET = (
    'set [file_backed_memory]resource_provider to its UUID (openstack resource provider list)'
)
_LONGEST_COMPUTE_ID = 40
_OPTION = '[file_backed_memory]resource_provider'
_STATE_PATH = (
    '[DEFAULT]state_path has a $ that names no option known here: expected the directory that '
    f'nova-compute uses (it holds {COMPUTE_ID_FILE}); write it out without the $, or {HOW_TO_SET}'
)


@dataclass(frozen=True)
class Lookup:
    """What to search for in Placement, and where that comes from."""

    source: str
    uuid: str | None = None
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f'UUID {self.uuid}' if self.uuid else f'name {" or ".join(self.names)}'
        return f'{what} (from {self.source})'


def lookup_for(option: str | None, conf: cfg.ConfigOpts) -> Lookup:
    """Return what to search for: the option (a UUID or a name), else compute_id, else host names.

    Raises what ``choose_lookup`` and ``read_compute_ids`` raise; not with an option.
    """
    if option is None:
        return choose_lookup(read_compute_ids(conf), hypervisor_hostnames())
    as_uuid = _uuid(option)
    return Lookup(_OPTION, uuid=as_uuid, names=() if as_uuid else (option,))


def choose_lookup(compute_ids: Mapping[str, str], hostnames: Sequence[str]) -> Lookup:
    """Return what to search for without an option.

    :param compute_ids: path to content of each ``compute_id`` file (nova/virt/node.py)
    :param hostnames: the names that libvirt may have for this host
    :raises NotReadyError: a compute_id file holds no UUID, or they don't agree
    """
    found = {path: _uuid(content) for path, content in compute_ids.items()}
    for path, value in found.items():
        if value is None:
            raise errors.NotReadyError(
                f'{path} holds {compute_ids[path].strip()!r}, expected a UUID; nova-compute will '
                f'not start with it either: restore the file, or {HOW_TO_SET}'
            )
    if len(set(found.values())) > 1:
        listed = ', '.join(f'{path} holds {value}' for path, value in found.items())
        raise errors.NotReadyError(
            f'the {COMPUTE_ID_FILE} files do not agree: {listed}; nova-compute will not start '
            'with them either: keep the one that `openstack resource provider list` shows for '
            'this host'
        )
    for path, value in found.items():
        return Lookup(path, uuid=value)
    return Lookup("this host's name", names=tuple(dict.fromkeys(hostnames)))


def read_compute_ids(conf: cfg.ConfigOpts) -> dict[str, str]:
    """Read every ``compute_id``: next to each configuration file and in ``state_path``.

    :raises NotReadyError: one can't be read
    :raises ConfigurationError: ``state_path`` interpolates an option that isn't known here
    """
    try:
        folders = [*map(os.path.dirname, conf.config_file), conf.state_path]
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
    """Return the names that libvirt may have for this host: the canonical, then the plain one.

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

    :raises NoProviderError: there is none (yet)
    :raises NotReadyError: there are several, or it isn't a root
    :raises PlacementError: Placement could not be asked
    """
    queries = [{'uuid': lookup.uuid}] if lookup.uuid else [{'name': n} for n in lookup.names]
    found = [one for query in queries for one in placement.providers(**query)]
    if not found:
        raise errors.NoProviderError(
            f'Placement has no resource provider with {lookup}; nova-compute creates it when it '
            f'first reports: is it running on this host? If it is another provider, {HOW_TO_SET}'
        )
    if len(found) > 1:
        listed = ', '.join(f'{provider.name} ({provider.uuid})' for provider in found)
        raise errors.NotReadyError(
            f'several resource providers fit {lookup}: {listed}; {HOW_TO_SET}'
        )
    (provider,) = found
    if not provider.is_root:
        raise errors.NotReadyError(
            f'resource provider {provider.name} ({provider.uuid}), found by {lookup}, has a '
            f"parent; expected the compute node's root provider: {HOW_TO_SET}"
        )
    return provider


def warning(found: Provider, option: str | None, conf: cfg.ConfigOpts) -> str | None:
    """Return why ``resource_provider`` may name another host's provider; None: it does not."""
    ids: set[str | None] = set()
    if option is not None:
        with contextlib.suppress(errors.FileBackedMemoryError):
            ids = {_uuid(text) for text in read_compute_ids(conf).values()} - {None}
    if not ids or found.uuid in ids:
        return None
    others = ', '.join(sorted(map(str, ids)))
    return (
        f'[file_backed_memory]resource_provider names {found.name} ({found.uuid}), but '
        f'nova-compute here writes {others} ({COMPUTE_ID_FILE}): if this is not meant, remove the '
        'option'
    )


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        return None

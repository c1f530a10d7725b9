# SPDX-License-Identifier: Apache-2.0
"""What is read from and written to Placement: providers, inventory, traits, allocations."""

import contextlib
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from fbm_placement import constants, errors
from fbm_placement.model import Inventory, Provider
from fbm_placement.placement.http import Json, Send, exchange


class PlacementClient:
    """The requests of the agent and of the scheduler's side.

    Every method may raise PlacementError or one of its subclasses, and what ``send`` raises; one
    that writes ConflictError where the provider's generation is not the given one, and
    BadRequestError where what it names does not exist (any more).
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    def get(self, path: str, **params: str) -> Json:
        query = f'?{urllib.parse.urlencode(params)}' if params else ''
        return exchange(self._send, 'GET', path, query)

    def put(self, path: str, body: Json | None = None) -> Json:
        return exchange(self._send, 'PUT', path, body=body)

    def providers(self, **query: str) -> list[Provider]:
        """Return the one with this ``uuid`` or ``name``, or all with the trait ``required``."""
        path = '/resource_providers'
        with _answer(path, self._list(path, **query)) as body:
            return [_provider(record) for record in body['resource_providers']]

    def inventory(self, uuid: str) -> tuple[int, Inventory | None]:
        """Return the provider's generation and MEMORY_MB record, None where it has none."""
        path = f'/resource_providers/{uuid}/inventories'
        with _answer(path, self.get(path)) as body:
            record = body['inventories'].get(constants.MEMORY_MB)
            return _generation(body), None if record is None else _inventory(record)

    def put_inventory(self, uuid: str, generation: int, inventory: Inventory) -> int:
        """Replace the MEMORY_MB record, all six fields of it, and return the new generation."""
        path = f'/resource_providers/{uuid}/inventories/{constants.MEMORY_MB}'
        return self._put(path, generation, asdict(inventory))

    def traits(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Return the provider's generation and all of its traits."""
        path = f'/resource_providers/{uuid}/traits'
        with _answer(path, self.get(path)) as body:
            return _generation(body), _names(body['traits'])

    def put_traits(self, uuid: str, generation: int, traits: Collection[str]) -> int:
        """Replace the provider's whole set of traits and return the new generation."""
        path = f'/resource_providers/{uuid}/traits'
        return self._put(path, generation, {'traits': sorted(traits)})

    def allocations(self, uuid: str) -> tuple[int, int]:
        """Return how much of the provider's MEMORY_MB is allocated, MiB, and to how many."""
        path = f'/resource_providers/{uuid}/allocations'
        with _answer(path, self.get(path)) as body:
            held = [allocation['resources'] for allocation in body['allocations'].values()]
            amounts = [
                _whole(one[constants.MEMORY_MB]) for one in held if constants.MEMORY_MB in one
            ]
        return sum(amounts), len(amounts)

    def existing_traits(self, wanted: Collection[str], **query: str) -> frozenset[str]:
        """Return those of the ``wanted`` traits that exist; with ``associated``, on a provider."""
        listed = self._list('/traits', name='in:' + ','.join(sorted(wanted)), **query)
        with _answer('/traits', listed) as body:
            return _names(body['traits'])

    def create_missing_traits(self, wanted: Collection[str]) -> frozenset[str]:
        """Create those of the ``wanted`` traits that don't exist, and return them."""
        missing = frozenset(wanted) - self.existing_traits(wanted)
        for trait in sorted(missing):
            self.create_trait(trait)
        return missing

    def create_trait(self, name: str) -> None:
        """Create a trait, if it doesn't exist yet; BadRequestError: not a ``CUSTOM_`` name."""
        self.put(f'/traits/{name}')

    def _list(self, path: str, **query: str) -> Json:
        """Ask for what each Placement has: a 404 shows that this is not its root."""
        try:
            return self.get(path, **query)
        except errors.NotFoundError as exc:
            raise errors.PlacementError(
                f"{exc}; this is not Placement's root: check [placement]endpoint_override, or the "
                'catalogue (openstack catalog list)'
            ) from exc

    def _put(self, path: str, generation: int, record: Mapping[str, Any]) -> int:
        sent = {'resource_provider_generation': generation, **record}
        with _answer(path, self.put(path, sent)) as body:
            return _generation(body)


@contextlib.contextmanager
def _answer(path: str, body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Turn what goes wrong while ``body`` is read into PlacementError."""
    try:
        yield body
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise errors.PlacementError(
            f'{path}: JSON that is not what Placement answers here ({type(exc).__name__}: {exc}); '
            'does [placement] point to another service?'
        ) from exc


def _provider(record: Mapping[str, Any]) -> Provider:
    is_root = record['parent_provider_uuid'] is None
    return Provider(uuid=str(record['uuid']), name=str(record['name']), is_root=is_root)


def _generation(body: Mapping[str, Any]) -> int:
    return _whole(body['resource_provider_generation'])


def _inventory(record: Mapping[str, Any]) -> Inventory:
    whole = ('total', 'reserved', 'min_unit', 'max_unit', 'step_size')
    return Inventory(
        **{name: _whole(record[name]) for name in whole},
        allocation_ratio=float(record['allocation_ratio']),
    )


def _names(value: object) -> frozenset[str]:
    # Strict: {} taken for "no traits" would make the next write drop all foreign ones.
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f'expected a list of names, not {value!r}')
    return frozenset(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f'expected a whole number, not {value!r}')
    return value

# SPDX-License-Identifier: Apache-2.0
"""What is read from and written to Placement: providers, inventory, traits, allocations."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from fbm_placement import errors, names
from fbm_placement.plan import Inventory

T = TypeVar('T')


@dataclass(frozen=True)
class Provider:
    """A resource provider."""

    uuid: str
    name: str
    is_root: bool


@dataclass(frozen=True)
class Allocations:
    """What instances hold of a provider's MEMORY_MB."""

    allocated_mib: int
    consumers: int


class Transport(Protocol):
    """Sends one request and returns the parsed answer; raises PlacementError."""

    def get(self, path: str, **params: str) -> Mapping[str, Any]:
        """GET a JSON object."""

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """PUT a JSON object and return the answer, empty where there is none."""


class PlacementClient:
    """The requests of the agent and of the scheduler's side.

    Every method may raise PlacementError or one of its subclasses, and what its transport raises.
    """

    def __init__(self, transport: Transport) -> None:
        """Send through ``transport``."""
        self._http = transport

    def providers(self, **query: str) -> list[Provider]:
        """Return the providers with this ``uuid`` or ``name`` (one or none, as both are unique).

        Or those that have the trait ``required``. A query, also for a UUID: a 404 then shows that
        this is not Placement's root.
        """
        path = '/resource_providers'
        body = self._http.get(path, **query)
        return _read(path, lambda b: [_provider(p) for p in b['resource_providers']], body)

    def inventory(self, uuid: str) -> tuple[int, Inventory | None]:
        """Return the provider's generation and MEMORY_MB record, None where it has none."""
        path = f'/resource_providers/{uuid}/inventories'

        def parse(body: Mapping[str, Any]) -> tuple[int, Inventory | None]:
            record = body['inventories'].get(names.MEMORY_MB)
            return _generation(body), None if record is None else _inventory(record)

        return _read(path, parse, self._http.get(path))

    def put_inventory(self, uuid: str, generation: int, inventory: Inventory) -> int:
        """Replace the MEMORY_MB record, all six fields of it, and return the new generation.

        :raises ConflictError: the provider's generation is not ``generation`` any more
        :raises BadRequestError: the provider has no MEMORY_MB record (any more)
        """
        path = f'/resource_providers/{uuid}/inventories/{names.MEMORY_MB}'
        body = {'resource_provider_generation': generation, **asdict(inventory)}
        return _read(path, _generation, self._http.put(path, body))

    def traits(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Return the provider's generation and all of its traits."""
        path = f'/resource_providers/{uuid}/traits'
        return _read(path, _traits, self._http.get(path))

    def put_traits(self, uuid: str, generation: int, traits: Collection[str]) -> int:
        """Replace the provider's whole set of traits and return the new generation.

        :raises ConflictError: the provider's generation is not ``generation`` any more
        :raises BadRequestError: one of the traits doesn't exist (any more)
        """
        path = f'/resource_providers/{uuid}/traits'
        body = {'resource_provider_generation': generation, 'traits': sorted(traits)}
        return _read(path, _generation, self._http.put(path, body))

    def allocations(self, uuid: str) -> Allocations:
        """Return what instances hold of the provider's MEMORY_MB."""
        path = f'/resource_providers/{uuid}/allocations'

        def parse(body: Mapping[str, Any]) -> Allocations:
            amounts = [
                _whole(allocation['resources'][names.MEMORY_MB])
                for allocation in body['allocations'].values()
                if names.MEMORY_MB in allocation['resources']
            ]
            return Allocations(allocated_mib=sum(amounts), consumers=len(amounts))

        return _read(path, parse, self._http.get(path))

    def create_missing_traits(self, wanted: Collection[str]) -> frozenset[str]:
        """Create those of the ``wanted`` traits that don't exist, and return them."""
        body = self._http.get('/traits', name='in:' + ','.join(sorted(wanted)))
        there = _read('/traits', lambda b: _names(b['traits']), body)
        missing = frozenset(wanted) - there
        for trait in sorted(missing):
            self.create_trait(trait)
        return missing

    def create_trait(self, name: str) -> None:
        """Create a trait, if it doesn't exist yet.

        :raises BadRequestError: the name does not begin with ``CUSTOM_``
        """
        self._http.put(f'/traits/{name}')


def _read(path: str, parse: Callable[[Mapping[str, Any]], T], body: Mapping[str, Any]) -> T:
    try:
        return parse(body)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise errors.PlacementError(
            f'{path}: JSON that is not what Placement answers here ({type(exc).__name__}: {exc}); '
            'does [placement] point to another service?'
        ) from exc


def _provider(body: Mapping[str, Any]) -> Provider:
    return Provider(
        uuid=str(body['uuid']),
        name=str(body['name']),
        is_root=body['parent_provider_uuid'] is None,
    )


def _generation(body: Mapping[str, Any]) -> int:
    return _whole(body['resource_provider_generation'])


def _inventory(record: Mapping[str, Any]) -> Inventory:
    return Inventory(
        total=_whole(record['total']),
        reserved=_whole(record['reserved']),
        min_unit=_whole(record['min_unit']),
        max_unit=_whole(record['max_unit']),
        step_size=_whole(record['step_size']),
        allocation_ratio=float(record['allocation_ratio']),
    )


def _traits(body: Mapping[str, Any]) -> tuple[int, frozenset[str]]:
    return _generation(body), _names(body['traits'])


def _names(value: object) -> frozenset[str]:
    # Strict: {} taken for "no traits" would make the next write drop all foreign ones.
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f'expected a list of names, not {value!r}')
    return frozenset(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f'expected a whole number, not {value!r}')
    return value

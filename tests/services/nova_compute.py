# SPDX-License-Identifier: Apache-2.0
"""nova-compute's part: what it sends to Placement, sent to the real one.

Written after Nova 34's scheduler/client/report.py and the libvirt driver: the same requests at the
same microversions, the same cache of its own view, the same answer to a conflict.
"""

import copy
import uuid as uuids
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.services.process import PATIENCE

Inventory = dict[str, Any]
"""One resource class: the six fields."""

# What Nova 34 puts on every root of its own, and some that the libvirt driver found on a host.
NOVA_TRAITS = frozenset({'COMPUTE_NODE', 'OWNER_NOVA'})
DRIVER_TRAITS = frozenset(
    {
        'COMPUTE_DEVICE_TAGGING',
        'COMPUTE_IMAGE_TYPE_QCOW2',
        'COMPUTE_MIGRATE_AUTO_CONVERGE',
        'COMPUTE_NET_ATTACH_INTERFACE',
        'COMPUTE_VOLUME_MULTI_ATTACH',
        'HW_CPU_X86_AVX2',
        'HW_CPU_X86_VMX',
    }
)

LATEST = '1.39'
# As in Nova: a conflict is met with a fresh view, this often.
ATTEMPTS = 4


def inventory(total: int, reserved: int = 0, ratio: float = 1.0) -> Inventory:
    return {
        'total': total,
        'reserved': reserved,
        'min_unit': 1,
        'max_unit': total,
        'step_size': 1,
        'allocation_ratio': ratio,
    }


class ComputeError(RuntimeError):
    """Placement answered what nova-compute, or a test, cannot go on with."""

    def __init__(self, response: requests.Response) -> None:
        request = response.request
        super().__init__(
            f'{request.method} {request.path_url}: {response.status_code} {response.text}'
        )
        self.status = response.status_code


@dataclass
class _View:
    """What nova-compute believes that Placement holds."""

    generation: int
    inventories: dict[str, Inventory]
    traits: frozenset[str]


@dataclass
class NovaCompute:
    """A compute host, as far as Placement sees it.

    :param url: Placement's
    :param token: sent with each request; a function is asked for one each time
    :param memory_mib: the host's DRAM; :meth:`knows_file_backed_memory` makes it something else
    """

    url: str
    token: str | Callable[[], str] = 'admin'
    uuid: str = field(default_factory=lambda: str(uuids.uuid4()))
    name: str = ''
    vcpus: int = 32
    memory_mib: int = 65536
    memory_reserved: int = 512
    memory_ratio: float = 1.5
    disk_gb: int = 930
    traits_of_driver: frozenset[str] = DRIVER_TRAITS
    traits_of_provider_yaml: frozenset[str] = frozenset()
    _view: _View | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Name the provider as the hypervisor would, when no name was given."""
        self.name = self.name or f'compute-{self.uuid[:8]}.example.org'
        self._http = requests.Session()
        # No proxy setting or .netrc of the caller concerns a server on loopback.
        self._http.trust_env = False

    # What nova-compute does

    def start(self) -> 'NovaCompute':
        """Start or restart nova-compute: it knows nothing yet, and reports at once."""
        self._view = None
        self.report()
        return self

    def report(self, *, refresh: bool = False) -> bool:
        """Do what the periodic task does every 60 s; return whether anything was written.

        :param refresh: the cached view is older than resource_provider_association_refresh
        """
        if refresh:
            self._view = None
        for _ in range(ATTEMPTS):
            self._view = self._view or self._read()
            try:
                wrote_inventory = self._write_inventories(self._view)
                wrote_traits = self._write_traits(self._view)
            except ComputeError as error:
                self._view = None
                if error.status != requests.codes.conflict:
                    raise
                conflict = error
            else:
                return wrote_inventory or wrote_traits
        raise conflict

    def rewrite_inventory(self) -> bool:
        """Put its own value back, as 300 to 360 s after another client's write."""
        return self.report(refresh=True)

    def believes(self) -> dict[str, Inventory]:
        return copy.deepcopy(self._view.inventories) if self._view else {}

    def knows_file_backed_memory(self, mib: int, *, reserved: int = 0) -> None:
        """From now on it reports as the driver does with [libvirt]file_backed_memory set."""
        self.memory_mib, self.memory_reserved, self.memory_ratio = mib, reserved, 1.0

    def inventories_to_report(self) -> dict[str, Inventory]:
        memory = inventory(self.memory_mib, self.memory_reserved, self.memory_ratio)
        return {
            'MEMORY_MB': memory,
            'VCPU': inventory(self.vcpus, ratio=16.0),
            'DISK_GB': inventory(self.disk_gb),
        }

    def _read(self) -> _View:
        known = self.call('GET', f'/resource_providers?in_tree={self.uuid}', '1.14')
        if not known['resource_providers']:
            return _View(self.create_provider()['generation'], {}, frozenset())
        inventories = self.call('GET', f'{self._path}/inventories', '1.0')
        self.call('GET', f'{self._path}/aggregates', '1.19')
        traits = self.call('GET', f'{self._path}/traits', '1.6')
        generation = traits['resource_provider_generation']
        return _View(generation, inventories['inventories'], frozenset(traits['traits']))

    def create_provider(self, parent: str | None = None) -> Any:
        new = {'uuid': self.uuid, 'name': self.name}
        if parent:
            new['parent_provider_uuid'] = parent
        return self.call('POST', '/resource_providers', '1.20', new)

    def _write_inventories(self, view: _View) -> bool:
        wanted = self.inventories_to_report()
        if wanted == view.inventories:
            return False
        body = {'resource_provider_generation': view.generation, 'inventories': wanted}
        answer = self.call('PUT', f'{self._path}/inventories', '1.26', body)
        view.inventories = answer['inventories']
        view.generation = answer['resource_provider_generation']
        return True

    def _write_traits(self, view: _View) -> bool:
        own = self.traits_of_driver | NOVA_TRAITS | self.traits_of_provider_yaml
        # COMPUTE_* that the driver does not report are taken away; all others are left alone.
        others = {trait for trait in view.traits if not trait.startswith('COMPUTE_')}
        wanted = own | others
        if wanted == view.traits:
            return False
        self.create_traits(wanted)
        body = {'resource_provider_generation': view.generation, 'traits': sorted(wanted)}
        answer = self.call('PUT', f'{self._path}/traits', '1.6', body)
        view.traits = frozenset(answer['traits'])
        view.generation = answer['resource_provider_generation']
        return True

    # What the scheduler and the conductor do

    def allocate(
        self, *, memory_mib: int, vcpus: int = 1, disk_gb: int = 1, instance: str | None = None
    ) -> str:
        instance = instance or str(uuids.uuid4())
        current = self.call('GET', f'/allocations/{instance}', '1.28')
        resources = {'VCPU': vcpus, 'MEMORY_MB': memory_mib, 'DISK_GB': disk_gb}
        body = {
            'allocations': {self.uuid: {'resources': resources}},
            'project_id': 'b0f7c3d2c8a54f7e9e3a52d1c4f6a7b8',
            'user_id': '1d2c3b4a596877869504a3b2c1d0e9f8',
            'consumer_generation': current.get('consumer_generation'),
        }
        self.call('PUT', f'/allocations/{instance}', '1.36', body)
        return instance

    def deallocate(self, instance: str) -> None:
        self.call('DELETE', f'/allocations/{instance}', '1.28')

    # What others write

    def overwrite_inventory(self, resource_class: str = 'MEMORY_MB', **fields: Any) -> Inventory:
        now = self.call('GET', f'{self._path}/inventories', LATEST)
        wanted = now['inventories'][resource_class] | fields
        body = {'resource_provider_generation': now['resource_provider_generation'], **wanted}
        answer = self.call('PUT', f'{self._path}/inventories/{resource_class}', LATEST, body)
        return {name: value for name, value in answer.items() if name in wanted}

    def change_traits(self, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> set[str]:
        add = set(add)
        self.create_traits(add)
        now = self.call('GET', f'{self._path}/traits', LATEST)
        wanted = sorted((set(now['traits']) | add) - set(remove))
        return set(
            self.call('PUT', f'{self._path}/traits', LATEST, now | {'traits': wanted})['traits']
        )

    def toggle_trait(self, trait: str) -> None:
        there = trait in self.traits()
        self.change_traits(**{'remove' if there else 'add': {trait}})

    def set_aggregates(self, aggregates: list[str]) -> None:
        body = {'resource_provider_generation': self.generation(), 'aggregates': aggregates}
        self.call('PUT', f'{self._path}/aggregates', body=body)

    def create_traits(self, traits: Iterable[str]) -> None:
        if wanted := sorted(traits):
            known = self.call('GET', f'/traits?name=in:{",".join(wanted)}', '1.6')['traits']
            for trait in sorted(set(wanted) - set(known)):
                self.call('PUT', f'/traits/{trait}', '1.6')

    def delete(self) -> None:
        self.call('DELETE', self._path, LATEST)
        self._view = None

    # What there is now

    def inventories(self) -> dict[str, Inventory]:
        found: dict[str, Inventory]
        found = self.call('GET', f'{self._path}/inventories', LATEST)['inventories']
        return found

    def inventory(self, resource_class: str = 'MEMORY_MB') -> Inventory:
        return self.inventories()[resource_class]

    def traits(self) -> set[str]:
        return set(self.call('GET', f'{self._path}/traits', LATEST)['traits'])

    def generation(self) -> int:
        return int(self.call('GET', self._path, LATEST)['generation'])

    def allocations(self) -> dict[str, dict[str, int]]:
        found = self.call('GET', f'{self._path}/allocations', LATEST)['allocations']
        return {consumer: allocation['resources'] for consumer, allocation in found.items()}

    def everything(self) -> dict[str, Any]:
        provider = self.call('GET', self._path, LATEST)
        return {
            'name': provider['name'],
            'parent': provider['parent_provider_uuid'],
            'inventories': self.inventories(),
            'traits': self.traits(),
            'aggregates': self.call('GET', f'{self._path}/aggregates', LATEST)['aggregates'],
            'allocations': self.allocations(),
        }

    def call(self, method: str, path: str, version: str = LATEST, body: Any = None) -> Any:
        """Send one request; return the JSON of the answer, or raise ComputeError."""
        token = self.token if isinstance(self.token, str) else self.token()
        response = self._http.request(
            method,
            self.url + path,
            json=body,
            headers={
                'Accept': 'application/json',
                'OpenStack-API-Version': f'placement {version}',
                'X-Auth-Token': token,
            },
            timeout=PATIENCE,
        )
        if not response.ok:
            raise ComputeError(response)
        return response.json() if response.content else None

    @property
    def _path(self) -> str:
        return f'/resource_providers/{self.uuid}'

# SPDX-License-Identifier: Apache-2.0
"""How long the filter takes with ``prefilter = false``, against the cheapest of Nova's own."""

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator
from unittest import mock

import nova.conf
import requests_mock
from keystoneauth1 import adapter, token_endpoint
from keystoneauth1 import session as ksa_session
from nova import objects
from nova.scheduler import host_manager
from nova.scheduler.client import report
from nova.scheduler.filters import (
    aggregate_instance_extra_specs,
    compute_capabilities_filter,
    compute_filter,
    image_props_filter,
)
from oslo_utils import timeutils

from benchmarks.measurement import Measurement, least_ms
from fbm_filters import options, placement
from fbm_filters.host_filter import FileBackedMemoryFilter
from fbm_placement.constants import OWN_TRAITS, TRAIT_ENABLED, TRAIT_UNHEALTHY
from tests.unit.fake_placement import URL, FakePlacement, Provider

HOSTS = 10_000
ROUNDS = 8

NOVAS_OWN = (
    aggregate_instance_extra_specs.AggregateInstanceExtraSpecsFilter,
    compute_capabilities_filter.ComputeCapabilitiesFilter,
    compute_filter.ComputeFilter,
    image_props_filter.ImagePropertiesFilter,
)

REQUESTS = {
    'all pass': {},
    'half are rejected': {f'trait:{TRAIT_ENABLED}': 'required'},
    'a need for no disk': {'resources:VGPU': '1'},
}
"""Extra specs of a flavor."""


def run() -> list[Measurement]:
    """Compare the least of each."""
    objects.register_all()
    hosts = list(_hosts())
    plain = _spec({})
    works: dict[str, Callable[[], int]] = {
        own.__name__: _work(own(), hosts, plain) for own in NOVAS_OWN
    }
    with _filter_alone(hosts) as ours:
        for name, extra_specs in REQUESTS.items():
            works[name] = _work(ours, hosts, _spec(extra_specs))
        left = {name: work() for name, work in works.items()}
        expected = dict.fromkeys(works, HOSTS) | {'half are rejected': HOSTS // 2}
        if left != expected:
            raise RuntimeError(f'the filters left {left} hosts, not {expected}')
        least = least_ms(works, ROUNDS)
    cheapest = min((own.__name__ for own in NOVAS_OWN), key=lambda name: least[name])
    times = ', '.join(f'{own.__name__} {least[own.__name__]:.1f} ms' for own in NOVAS_OWN)
    print(f"Nova's own over {HOSTS} hosts: {times}")
    return [
        Measurement(
            f'filter, {HOSTS} hosts, {name}',
            least[name],
            least[cheapest],
            cheapest,
            budget=1 / 20,
            unit='ms',
        )
        for name in REQUESTS
    ]


def _work(
    one: object, hosts: list['host_manager.HostState'], spec: 'objects.RequestSpec'
) -> Callable[[], int]:
    return lambda: len(list(one.filter_all(hosts, spec)))  # type: ignore[attr-defined]


@contextlib.contextmanager
def _filter_alone(hosts: list['host_manager.HostState']) -> Iterator[FileBackedMemoryFilter]:
    """The filter with a fresh snapshot: half of the hosts are enabled, on tmpfs."""
    fake = FakePlacement()
    fake.traits.update(OWN_TRAITS)
    enabled = [Provider(host.uuid, host.host, traits={TRAIT_ENABLED}) for host in hosts[::2]]
    unhealthy = Provider(str(uuid.uuid4()), 'elsewhere', traits={TRAIT_UNHEALTHY})
    fake.providers = {one.uuid: one for one in (*enabled, unhealthy)}
    session = ksa_session.Session(auth=token_endpoint.Token(URL, 'token'))
    client = report.SchedulerReportClient(adapter.Adapter(session, 'placement', raise_exc=False))
    conf = nova.conf.CONF
    options.register_opts(conf)
    conf.set_override('prefilter', False, group='file_backed_memory')
    logging.getLogger('fbm_filters').setLevel(logging.WARNING)
    try:
        with (
            mock.patch.object(placement, 'connection', return_value=client),
            requests_mock.Mocker() as http,
        ):
            fake.install(http)
            one = FileBackedMemoryFilter()
            yield one
            one.cache.close()
    finally:
        conf.clear_override('prefilter', group='file_backed_memory')


def _hosts() -> Iterator['host_manager.HostState']:
    """HostStates that every one of Nova's filters passes, which is what costs it most."""
    aggregate = objects.Aggregate(
        id=1,
        uuid=str(uuid.uuid4()),
        name='a',
        hosts=[],
        metadata={'ssd': 'true', 'availability_zone': 'az1'},
    )
    for number in range(HOSTS):
        host = host_manager.HostState(f'host{number}', f'host{number}', str(uuid.uuid4()))
        host.uuid = str(uuid.uuid4())
        now = timeutils.utcnow()
        host.service = {
            'host': host.host,
            'disabled': False,
            'disabled_reason': None,
            'forced_down': False,
            'topic': 'compute',
            'binary': 'nova-compute',
            'report_count': 1,
            'last_seen_up': now,
            'updated_at': now,
            'created_at': now,
        }
        host.hypervisor_type = 'QEMU'
        host.hypervisor_version = 9_000_000
        host.supported_instances = [['x86_64', 'kvm', 'hvm'], ['x86_64', 'qemu', 'hvm']]
        host.cpu_info = '{"arch": "x86_64", "features": ["vmx"]}'
        host.stats = {}
        host.aggregates = [aggregate]
        yield host


def _spec(extra_specs: dict[str, str]) -> 'objects.RequestSpec':
    return objects.RequestSpec(
        instance_uuid=str(uuid.uuid4()),
        flavor=objects.Flavor(
            id=1,
            flavorid='f',
            name='f',
            vcpus=1,
            memory_mb=64,
            root_gb=0,
            ephemeral_gb=0,
            swap=0,
            extra_specs=extra_specs,
        ),
        image=objects.ImageMeta(
            properties=objects.ImageMetaProps.from_dict({'hw_architecture': 'x86_64'})
        ),
        is_bfv=False,
        requested_resources=[],
        scheduler_hints={},
        pci_requests=objects.InstancePCIRequests(requests=[]),
    )

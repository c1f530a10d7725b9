# SPDX-License-Identifier: Apache-2.0
"""A small cloud of four kinds of hosts, and guests of every row of the decision table."""

import contextlib
import json
from unittest import mock

from nova.scheduler import request_filter
from nova.tests.fixtures import libvirt as fakelibvirt

from fbm_filters import decision
from fbm_filters.host_filter import FileBackedMemoryFilter
from fbm_filters.rules import NEEDS, Policy, decide
from fbm_placement.errors import PlacementError
from tests.functional.nova import fleet

OFFERED_MIB = 16384
_CARD = {'vendor_id': fakelibvirt.PCI_VEND_ID, 'product_id': fakelibvirt.PCI_PROD_ID}

GUESTS = {
    'plain': {},
    'required': {'trait:CUSTOM_FILE_BACKED_MEMORY': 'required'},
    'forbidden': {'trait:CUSTOM_FILE_BACKED_MEMORY': 'forbidden'},
    'trait of Nova': {'trait:COMPUTE_MEM_BACKING_FILE': 'required'},
    'small pages': {'hw:mem_page_size': 'small'},
    'large pages': {'hw:mem_page_size': 'large'},
    'realtime': {
        'hw:cpu_realtime': 'yes',
        'hw:cpu_policy': 'dedicated',
        'hw:cpu_realtime_mask': '^0',
    },
    'passthrough': {'pci_passthrough:alias': 'card:1'},
    'of both kinds': {
        'trait:CUSTOM_FILE_BACKED_MEMORY': 'required',
        'hw:mem_page_size': 'small',
    },
}
"""Extra specs of a flavor, by what the guest is called here."""

HOSTS = {
    'disk': {'offered_mib': OFFERED_MIB},
    'tmpfs': {'offered_mib': OFFERED_MIB, 'on_disk': False},
    'plain': {'offered_mib': 0},
    'sick': {'offered_mib': OFFERED_MIB, 'healthy': False},
}
"""What hosts are like, by the first part of their names: ``plain-2`` is like ``plain``."""


class CloudTestCase(fleet.FleetTestCase):
    """Starts hosts as a test asks for them, with the filter enabled."""

    AVAILABLE_FILTERS = (
        'nova.scheduler.filters.all_filters',
        'fbm_filters.FileBackedMemoryFilter',
    )
    ADDITIONAL_FILTERS = (
        'NUMATopologyFilter',
        'PciPassthroughFilter',
        'FileBackedMemoryFilter',
    )
    PREFILTER = True
    REFRESH_INTERVAL = 60
    DEFAULT_POLICY = 'any'
    INCOMPATIBLE = frozenset(NEEDS)

    def setUp(self):
        before = list(request_filter.ALL_REQUEST_FILTERS)
        self.addCleanup(request_filter.ALL_REQUEST_FILTERS.__setitem__, slice(None), before)
        self.flags(
            device_spec=[json.dumps(_CARD)],
            alias=[json.dumps({**_CARD, 'name': 'card'})],
            group='pci',
        )
        self.flags(cpu_dedicated_set='0-3', cpu_shared_set='4-7', group='compute')
        self.scheduler_flags(
            prefilter=self.PREFILTER,
            refresh_interval=self.REFRESH_INTERVAL,
            default_policy=self.DEFAULT_POLICY,
            incompatible=sorted(self.INCOMPATIBLE),
        )
        super().setUp()
        (self.cache,) = [
            one.cache
            for one in self.scheduler.manager.host_manager.enabled_filters
            if isinstance(one, FileBackedMemoryFilter)
        ]
        self.addCleanup(self.cache.close)

    def start(self, *names, passes=True, dram_mib=OFFERED_MIB):
        """Start hosts by the kinds in HOSTS; the agent's code then sets their providers."""
        for name in names:
            self.start_host(name, _kind(name)['offered_mib'], **_hardware(dram_mib))
            if passes:
                self.let_agent_pass(name)

    def let_agent_pass(self, name, **changed):
        """Let the agent's code set a provider; return when the scheduler acts upon it."""
        facts = {**_kind(name), **changed}
        del facts['offered_mib']
        self.agent_pass(name, **facts)
        self.let_scheduler_read()

    def let_scheduler_read(self):
        """Return when the scheduler knows what Placement has now."""
        since = self.cache.now()
        self.eventually(lambda: self._knows(since), bool)

    def _knows(self, since):
        try:
            return self.cache.get(since)
        except PlacementError:
            return None

    def guest(self, kind, *, node=None, **kwargs):
        flavor = self._create_flavor(
            memory_mb=512, vcpu=2, disk=1, ephemeral=0, extra_spec=GUESTS[kind]
        )
        body = self._build_server(flavor_id=flavor, networks='none', **kwargs)
        if node is not None:
            body['hypervisor_hostname'] = node
        return self.settled(self.api.post_server({'server': body}))

    def guest_from_before(self, kind, host):
        """A guest that came when ``default_policy`` was ``any``, and no host had a trait."""
        early = mock.patch.object(decision, 'decide', lambda facts, _: decide(facts, Policy()))
        with early:
            server = self.guest(kind, host=host)
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        return server

    def fault_of(self, server):
        return server.get('fault', {}).get('message', '')

    @contextlib.contextmanager
    def speaking(self, microversion):
        """Let the API calls in the block use another microversion."""
        apis = {api: api.microversion for api in (self.api, self.admin_api)}
        for api in apis:
            api.microversion = microversion
        try:
            yield
        finally:
            for api, before in apis.items():
                api.microversion = before


def _kind(name):
    return HOSTS[name.partition('-')[0]]


def _hardware(dram_mib):
    pages = [fakelibvirt.create_mempages([(4, 1024 * 1024), (2048, 2048)]) for _ in range(2)]
    return {
        'host_info': fakelibvirt.HostInfo(
            cpu_nodes=2,
            cpu_sockets=1,
            cpu_cores=2,
            cpu_threads=2,
            kB_mem=dram_mib * 1024,
            mempages=pages,
        ),
        'pci_info': fakelibvirt.HostPCIDevicesInfo(num_pci=1, num_pfs=0, num_vfs=0),
    }

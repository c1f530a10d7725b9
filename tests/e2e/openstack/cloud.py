# SPDX-License-Identifier: Apache-2.0
"""The cloud: the control plane, two hosts with file-backed memory and one without."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.e2e.lab import huge_pages
from tests.e2e.lab.store import Disk, Tmpfs
from tests.e2e.openstack import image, remote_shell, template
from tests.e2e.openstack.api import Api, Server
from tests.e2e.openstack.compute import ComputeNode
from tests.e2e.openstack.control import UP, ControlPlane
from tests.e2e.openstack.database import MariaDB
from tests.services.expected import OWN_TRAITS, UNHEALTHY_TRAIT
from tests.services.process import wait_until

CAPACITY = 1024
MEMORY = 64
"""MiB, of a server."""
MOST_PASSES = 5
HUGE_PAGES = 96
"""MiB, of the machine; the host without file-backed memory can use them."""


class Cloud:
    """Everything; a context manager.

    :ivar disk: enabled, the store is on a disk
    :ivar ram: enabled, the store is a tmpfs
    :ivar plain: disabled, and emptier than both; it has huge pages
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Self:
        made = template.get()
        with ExitStack() as stack:
            data = self.directory / 'mariadb'
            template.copy(made, data)
            database = MariaDB(self.directory, data)
            password = (made / 'password').read_text()
            self.control = ControlPlane(self.directory, database, password)
            stack.callback(self.control.kill)
            self._start_control()
            self._start_nodes(stack, made / 'cache')
            self._wait()
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._cleanup.close()

    def _start_control(self) -> None:
        control = self.control
        control.database.start()
        control.broker.start()
        control.configure()
        control.database.wait()
        control.move_endpoints()
        control.start()

    def _start_nodes(self, stack: ExitStack, cache: Path) -> None:
        # nova-compute asks libvirt once how many there are.
        stack.enter_context(huge_pages.reserved(HUGE_PAGES))
        hosts = self.directory / 'h'
        hosts.mkdir()
        remote_shell.install(hosts / 'bin', hosts)
        self.nodes: dict[str, ComputeNode] = {}
        hosts_options: dict[str, dict[str, Any]] = {
            'disk': {'store': Disk(1536), 'capacity': CAPACITY},
            'ram': {'store': Tmpfs(1536), 'capacity': CAPACITY},
            'plain': {'huge_pages': True},
        }
        for number, (name, options) in enumerate(hosts_options.items(), 1):
            node = ComputeNode(self.control, hosts, number, name, cache=cache, **options)
            self.nodes[name] = stack.enter_context(node)
            node.host.start_libvirtd()
        self.disk, self.ram, self.plain = self.nodes.values()

    def _wait(self) -> None:
        control = self.control
        control.wait_for('keystone', 'placement')
        control.broker.wait()
        # nova-compute gives up on a conductor that isn't there, and does not start.
        control.conductor.wait_for_output(UP, timeout=180)
        for node in self.nodes.values():
            node.compute.start()
        control.wait_for('nova', 'glance', 'network', 'shares')
        self.api = Api(control.admin)
        self.image = self.api.upload('counter', image.disk())
        self.flavors: dict[str, str] = {}
        self.flavor('plain')
        for node in self.nodes.values():
            node.wait_for_compute()
        for node in self.nodes.values():
            node.start_agent(wait=False)
        for node in self.nodes.values():
            node.agent.wait_for('READY')
        control.scheduler.wait_for_output(UP, timeout=180)
        wait_until(self._all_hosts_known, 'all hosts in the cell')
        self.up_since = time.monotonic()

    def _all_hosts_known(self) -> bool:
        found = self.api.nova('GET', '/os-hypervisors')['hypervisors']
        return {one['hypervisor_hostname'] for one in found} == set(self.nodes)

    # -- servers ----------------------------------------------------------------------------------

    def flavor(self, name: str, **specs: str) -> str:
        """Return the flavor of that name; make it with these extra specs if there is none."""
        if name not in self.flavors:
            flavor = {'name': name, 'ram': MEMORY, 'vcpus': 1, 'disk': 0}
            made = self.api.nova('POST', '/flavors', {'flavor': flavor})['flavor']['id']
            if specs:
                path = f'/flavors/{made}/os-extra_specs'
                self.api.nova('POST', path, {'extra_specs': specs})
            self.flavors[name] = made
        return self.flavors[name]

    def create(self, flavor: str = 'plain', *, host: str | None = None, **more: Any) -> Server:
        body: dict[str, Any] = {
            'name': 'server',
            'imageRef': self.image,
            'flavorRef': self.flavors[flavor],
            'networks': 'none',
            **more,
        }
        if host:
            body['host'] = host
        made = self.api.nova('POST', '/servers', {'server': body})['server']
        return Server(self.api, self.nodes, made['id'])

    def let_scheduler_read(self) -> None:
        """Wait until the scheduler has read which traits some host has: it does every 5 s."""
        time.sleep(7)

    # -- our parts --------------------------------------------------------------------------------

    @contextmanager
    def without_our_parts(self) -> Iterator[None]:
        for node in self.nodes.values():
            node.stop_agent()
            node.remove_hook()
        self.control.restart_scheduler(with_our_filter=False)
        try:
            yield
        finally:
            for node in self.nodes.values():
                node.install_hook()
                node.start_agent()
            self.control.restart_scheduler(with_our_filter=True)

    # -- Placement --------------------------------------------------------------------------------

    def provider(self, name: str) -> str:
        path = f'/resource_providers?name={name}'
        (found,) = self.api.placement('GET', path)['resource_providers']
        return found['uuid']

    def traits(self, name: str) -> set[str]:
        path = f'/resource_providers/{self.provider(name)}/traits'
        return set(self.api.placement('GET', path)['traits'])

    def memory(self, name: str) -> dict[str, Any]:
        path = f'/resource_providers/{self.provider(name)}/inventories'
        return self.api.placement('GET', path)['inventories']['MEMORY_MB']

    def own_traits(self, node: ComputeNode) -> set[str]:
        return self.traits(node.name) & OWN_TRAITS

    def passes_until_open(self, node: ComputeNode) -> None:
        """Have the agent make passes until the host takes instances again."""
        for _ in range(MOST_PASSES):
            node.agent.pass_now()
            if UNHEALTHY_TRAIT not in self.own_traits(node):
                return
        raise AssertionError(node.agent.log)

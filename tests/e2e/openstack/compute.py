# SPDX-License-Identifier: Apache-2.0
"""A compute host of the cloud: the lab's host, nova-compute, the agent and libvirt's hook."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.e2e.host import NOVA_CONF, RUN, FbmHost
from tests.e2e.lab.host import LibvirtHost
from tests.e2e.lab.store import Store
from tests.e2e.openstack.control import UP, ControlPlane
from tests.services.agent import Daemon
from tests.services.nova_conf import NovaConf
from tests.services.process import program, service_environment

HUGE_PAGES = '/var/lib/nova/huge'

_FIRST_PORT = 19000
"""For migrations. The default, 49152, is one that an outgoing connection may have."""
_PORTS_EACH = 60


class ComputeNode(FbmHost):
    """A host; `with node:` gives it libvirtd, the hook and a configuration, no more.

    :param number: 1 to 9; its address is 127.0.0.1<number>
    :param hosts: the directory of all hosts; its own is named by its address, which is what Nova
        puts into the libvirt URI of a live migration
    :param store: what is mounted on memory_backing_dir; None: a host without file-backed memory
    :param capacity: [libvirt]file_backed_memory, MiB
    :param huge_pages: whether libvirt can give guests the huge pages of this machine
    """

    def __init__(
        self,
        control: ControlPlane,
        hosts: Path,
        number: int,
        name: str,
        *,
        store: Store | None = None,
        capacity: int = 0,
        huge_pages: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.control = control
        self.name = name
        self.address = f'127.0.0.1{number}'
        self.number = number
        self.capacity = capacity
        self._huge_pages = huge_pages
        self.host = LibvirtHost(
            name, hosts / self.address, store=store, cache=cache, libvirtd=False
        )
        self._cleanup = ExitStack()
        self._agent: Daemon | None = None
        self._agent_stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.host)
            self.host.path('/var/lib/nova/instances').mkdir()
            shells = self.host.directory.parent / 'bin'
            self._configure_qemu()
            if self._huge_pages:
                self._mount_huge_pages()
            self.install_hook()
            self.configure = NovaConf(self.host.path(NOVA_CONF), self._sections()).configure
            self.compute = self.host.process(
                [program('nova-compute'), '--config-file', NOVA_CONF],
                self.host.directory / 'nova-compute.log',
                environment=service_environment(PATH=f'{shells}:{os.environ["PATH"]}'),
            )
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._agent_stack.close()
        self._cleanup.close()

    # -- configuration ----------------------------------------------------------------------------

    def _sections(self) -> dict[str, dict[str, object]]:
        sections = self.control.nova_sections(self.name, self.address)
        sections['DEFAULT'] |= {
            'state_path': '/var/lib/nova',
            'compute_driver': 'libvirt.LibvirtDriver',
            'update_resources_interval': 5,
            'sync_power_state_interval': -1,
            # Else Nova makes qcow2 of a raw disk that has moved, and reads it as raw.
            'use_cow_images': False,
            # The guest hears no power button.
            'shutdown_timeout': 1,
            'reserved_host_disk_mb': 0,
            'rootwrap_config': Path(sys.prefix) / 'etc/nova/rootwrap.conf',
        }
        sections['oslo_concurrency'] = {'lock_path': '/var/lib/nova/locks'}
        sections['libvirt'] = {
            'virt_type': 'qemu',
            'cpu_mode': 'none',
            'images_type': 'raw',
            'file_backed_memory': self.capacity,
            'connection_uri': self.uri(self.address),
            'live_migration_uri': self.uri('%s'),
            'live_migration_inbound_addr': self.address,
        }
        for section_name in (
            'nova_sys_admin',
            'privsep_osbrick',
            'vif_plug_ovs_privileged',
            'vif_plug_linux_bridge_privileged',
        ):
            sections[section_name] = {
                'helper_command': f'{program("privsep-helper")} --config-file {NOVA_CONF}'
            }
        sections['file_backed_memory'] = {'interval': 5}
        return sections

    def uri(self, address: str) -> str:
        socket = self.host.directory.with_name(address) / 'run/libvirt/libvirt-sock'
        return f'qemu+unix:///system?socket={socket}'

    def _configure_qemu(self) -> None:
        first = _FIRST_PORT + self.number * _PORTS_EACH
        with self.host.path('/etc/libvirt/qemu.conf').open('a') as file:
            # The hosts share one network; libvirt refuses 127.0.0.1.
            file.write(
                f'migration_address = "{self.address}"\nmigration_host = "{self.address}"\n'
                f'migration_port_min = {first}\nmigration_port_max = {first + _PORTS_EACH - 1}\n'
            )

    def _mount_huge_pages(self) -> None:
        self.host.run('mkdir', HUGE_PAGES)
        self.host.run('mount', '-t', 'hugetlbfs', '-o', 'pagesize=2M', 'huge', HUGE_PAGES)
        with self.host.path('/etc/libvirt/qemu.conf').open('a') as file:
            file.write(f'hugetlbfs_mount = "{HUGE_PAGES}"\n')

    # -- what runs there --------------------------------------------------------------------------

    def wait_for_compute(self) -> None:
        self.compute.wait_for_output(UP, timeout=180)

    def restart_compute(self) -> None:
        self.compute.kill()
        self.compute.start()
        self.wait_for_compute()

    def set_capacity(self, capacity: int) -> None:
        """Edit nova.conf, no more."""
        self.capacity = capacity
        self.configure('libvirt', file_backed_memory=capacity)

    def restart(self) -> None:
        """Restart nova-compute, and with it the agent, whose unit is PartOf nova-compute's."""
        self.restart_compute()
        self.restart_agent()

    def turn(self, capacity: int) -> str:
        """Edit nova.conf and restart what reads it; return the agent's status."""
        self.set_capacity(capacity)
        self.restart()
        return self.agent.pass_now()

    @property
    def agent(self) -> Daemon:
        assert self._agent is not None
        return self._agent

    def start_agent(self, *, wait: bool = True) -> None:
        """Start `fbm-agent` as systemd would; by default return after its first good pass."""
        self._agent = self._agent_stack.enter_context(self.started_agent())
        if wait:
            self.agent.wait_for('READY')

    def overwrites(self) -> list[str]:
        lines = (self.host.directory / 'fbm-agent.log').read_text().splitlines()
        return [line for line in lines if 'was overwritten' in line]

    def restart_agent(self) -> None:
        """Start it again after it was killed, as systemd does."""
        self._agent_stack.close()
        self.start_agent()

    def stop_agent(self) -> None:
        """End it, and take its traits back, as before an uninstallation."""
        self._agent_stack.close()
        self._agent = None
        self.withdraw()
        self.host.run('rm', '-rf', RUN)

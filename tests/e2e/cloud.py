# SPDX-License-Identifier: Apache-2.0
"""A lab's host in a cloud: what Placement holds of it, nova.conf, the agent and libvirt's hook.

Placement, the agent and the hook are real. nova-compute is not there: its requests to Placement
are played (:mod:`tests.services.nova_compute`), and guests are started by libvirt alone.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fbm_placement import names
from fbm_placement.hook import installation
from fbm_placement.host import state_file
from fbm_placement.host.state_file import HostState
from tests.e2e.lab.host import LibvirtHost
from tests.functional.agent_process import Daemon, NotifySocket
from tests.services.nova_compute import NovaCompute
from tests.services.process import child_environment, program
from tests.services.server import write_ini

NOVA_CONF = '/etc/nova/nova.conf'
RUN = '/run/fbm-agent'
STATE_FILE = f'{RUN}/host.json'
HOOKS = '/etc/libvirt/hooks'
HOOK = f'{HOOKS}/qemu.d/{installation.HOOK}'

DRAM_MIB = 65536
"""What nova-compute reports of a host without file-backed memory."""

# A pass comes when a test asks for one; the first wait alone may be shorter.
_INTERVAL = 300


class ComputeHost:
    """A compute host of a cloud.

    :param capacity: [libvirt]file_backed_memory, MiB; 0: disabled
    """

    def __init__(self, host: LibvirtHost, placement_url: str, *, capacity: int = 0) -> None:
        self.host = host
        self.compute = NovaCompute(placement_url, memory_mib=DRAM_MIB).start()
        self._sections: dict[str, dict[str, object]] = {
            'DEFAULT': {
                'state_path': '/var/lib/nova',
                'ram_allocation_ratio': 1.0,
                'reserved_host_memory_mb': 0,
            },
            'libvirt': {'virt_type': 'qemu'},
            'placement': {
                'auth_type': 'admin_token',
                'endpoint': placement_url,
                'token': 'admin',
            },
            'file_backed_memory': {'interval': _INTERVAL},
        }
        self.configure('libvirt', file_backed_memory=capacity)
        host.path('/etc/nova/compute_id').write_text(self.compute.uuid + '\n')

    def install_hook(self) -> None:
        """Install it; libvirtd looks for its first hook when it starts."""
        installation.install(str(self.host.path(HOOKS)))

    def configure(self, section: str, **options: object) -> None:
        """Write nova.conf with these options changed."""
        self._sections[section] = self._sections.get(section, {}) | options
        write_ini(self.host.path(NOVA_CONF), self._sections)

    # -- what runs there --------------------------------------------------------------------------

    @contextmanager
    def agent(self) -> Iterator[Daemon]:
        """Run `fbm-agent` as systemd would, from its first good pass on."""
        with NotifySocket() as notify:
            child = self.host.process(
                [program('fbm-agent'), '--config-file', NOVA_CONF],
                self.host.directory / 'fbm-agent.log',
                environment=child_environment(RUNTIME_DIRECTORY=RUN, NOTIFY_SOCKET=notify.name),
            )
            with child.start():
                daemon = Daemon(child, notify)
                daemon.wait_for('READY')
                yield daemon

    def status(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `fbm-status` to its end."""
        return self.host.run(
            program('fbm-status'), '--config-file', NOVA_CONF, *arguments, check=False
        )

    # -- what is told -----------------------------------------------------------------------------

    def own_traits(self) -> set[str]:
        """Those of the provider's traits that are the agent's."""
        return self.compute.traits() & names.OWN_TRAITS

    def state(self) -> HostState:
        """What the agent tells the hook."""
        return state_file.read(str(self.host.path(STATE_FILE)), state_file.uptime())

    def refusal(self, guest: str, uuid: str, words: str, doing: str = 'start') -> str:
        """The hook's line about a guest."""
        return (
            f'fbm hook on {self.host.name}: guest {guest} ({uuid}) may not {doing} here: {words}'
        )


def passes_until(agent: Daemon, happened: Callable[[str], bool], most: int = 4) -> list[str]:
    """Have the agent make passes until its status is as expected; return each status."""
    seen = [agent.pass_now()]
    while not happened(seen[-1]):
        assert len(seen) < most, seen
        seen.append(agent.pass_now())
    return seen


def well(status: str) -> bool:
    """Whether the agent's status names nothing that keeps instances off."""
    return 'UNHEALTHY' not in status

# SPDX-License-Identifier: Apache-2.0
"""A lab's host in a cloud: what Placement holds of it, nova.conf, the agent and libvirt's hook.

Placement, the agent and the hook are real. nova-compute is not there: its requests to Placement
are played (:mod:`tests.services.nova_compute`), and guests are started by libvirt alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.e2e.host import NOVA_CONF, FbmHost
from tests.e2e.lab.host import LibvirtHost
from tests.services.agent import Daemon
from tests.services.expected import own_traits
from tests.services.nova_compute import NovaCompute
from tests.services.nova_conf import NovaConf, admin_token

DRAM_MIB = 65536
"""What nova-compute reports of a host without file-backed memory."""


class ComputeHost(FbmHost):
    """A compute host of a cloud.

    :param capacity: [libvirt]file_backed_memory, MiB; 0: disabled
    """

    def __init__(self, host: LibvirtHost, placement_url: str, *, capacity: int = 0) -> None:
        self.host = host
        self.compute = NovaCompute(placement_url, memory_mib=DRAM_MIB).start()
        sections: dict[str, Mapping[str, object]] = {
            'DEFAULT': {'state_path': '/var/lib/nova'},
            'libvirt': {'virt_type': 'qemu', 'file_backed_memory': capacity},
            'placement': admin_token(placement_url),
            # A pass comes when a test requests one; the first wait alone may be shorter.
            'file_backed_memory': {'interval': 300},
        }
        self.configure = NovaConf(host.path(NOVA_CONF), sections).configure
        host.path('/etc/nova/compute_id').write_text(self.compute.uuid + '\n')

    @contextmanager
    def agent(self) -> Iterator[Daemon]:
        with self.started_agent() as daemon:
            daemon.wait_for('READY')
            yield daemon

    def own_traits(self) -> set[str]:
        return own_traits(self.compute)

    def refusal(self, guest: str, uuid: str, reason: str, doing: str = 'start') -> str:
        """Return the hook's line; a tenant reads why a boot is refused, so it names no host."""
        where = '' if doing == 'start' else f' on {self.host.name}'
        return f'fbm hook{where}: guest {guest} ({uuid}) may not {doing} here: {reason}'


def passes_until(agent: Daemon, happened: Callable[[str], bool], most: int = 4) -> list[str]:
    """Have the agent make passes until its status is as expected; return each status."""
    seen = [agent.pass_now()]
    while not happened(seen[-1]):
        assert len(seen) < most, seen
        seen.append(agent.pass_now())
    return seen


def healthy(status: str) -> bool:
    """Whether the agent's status names nothing that keeps instances off."""
    return 'UNHEALTHY' not in status

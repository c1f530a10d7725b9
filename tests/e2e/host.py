# SPDX-License-Identifier: Apache-2.0
"""What is ours on a lab's host: the agent, libvirt's hook and what they leave there."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from fbm_placement.hook import install
from fbm_placement.host import state_file
from fbm_placement.host.state_file import HostState
from tests.e2e.lab.host import LibvirtHost
from tests.services.agent import Daemon, NotifySocket
from tests.services.process import child_environment, program

NOVA_CONF = '/etc/nova/nova.conf'
RUN = '/run/fbm-agent'
STATE_FILE = f'{RUN}/host.json'
HOOKS = '/etc/libvirt/hooks'
HOOK = f'{HOOKS}/qemu.d/{install.HOOK}'


class FbmHost:
    """A host where an agent may run, with ``host`` as its :class:`LibvirtHost`."""

    host: LibvirtHost

    def install_hook(self) -> None:
        install.install(str(self.host.path(HOOKS)))

    def remove_hook(self) -> None:
        install.remove(str(self.host.path(HOOKS)))

    @contextmanager
    def started_agent(self) -> Iterator[Daemon]:
        """Run `fbm-agent` as systemd would, until the block ends."""
        with NotifySocket() as notify:
            child = self.host.process(
                [program('fbm-agent'), '--config-file', NOVA_CONF],
                self.host.directory / 'fbm-agent.log',
                environment=child_environment(RUNTIME_DIRECTORY=RUN, NOTIFY_SOCKET=notify.name),
            )
            with child.start():
                yield Daemon(child, notify)

    def withdraw(self) -> subprocess.CompletedProcess[str]:
        return self.host.run(program('fbm-agent'), '--config-file', NOVA_CONF, '--withdraw')

    def status(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.host.run(
            program('fbm-status'), '--config-file', NOVA_CONF, *arguments, check=False
        )

    def state(self) -> HostState:
        return state_file.read(str(self.host.path(STATE_FILE)), state_file.uptime())

# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of our own, with an Erlang port mapper of its own."""

from pathlib import Path

from tests.e2e.openstack.confined import Confined
from tests.services.process import child_environment, free_port

# Debian's wrapper in /usr/sbin would become the user rabbitmq and use its directories.
_PROGRAM = next(Path('/usr/lib/rabbitmq/lib').glob('rabbitmq_server-*/sbin/rabbitmq-server'), None)


class RabbitMQ:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.child = Confined(
            [str(_PROGRAM)],
            directory / 'rabbitmq.log',
            name='RabbitMQ',
            environment=self._environment(directory / 'rabbitmq'),
        )

    @property
    def url(self) -> str:
        return f'rabbit://guest:guest@127.0.0.1:{self.port}/'

    def start(self) -> None:
        home = self.directory / 'rabbitmq'
        home.mkdir(mode=0o700)
        (home / 'enabled_plugins').write_text('[].\n')
        (home / 'rabbitmq.conf').write_text(
            f'listeners.tcp.1 = 127.0.0.1:{self.port}\n'
            # How full this machine's disk and memory are is none of a test's business.
            'disk_free_limit.absolute = 1MB\n'
            'vm_memory_high_watermark.absolute = 1GB\n'
        )
        self.child.start()

    def wait(self) -> None:
        self.child.wait_for_output('Server startup complete', timeout=180)

    def kill(self) -> None:
        """End it at once. Its own way takes seconds, and its data are needed no more."""
        if self.child.running:
            self.child.kill()

    @staticmethod
    def _environment(home: Path) -> dict[str, str]:
        return child_environment(
            HOME=str(home),
            # Makes the script become the broker instead of watching over it.
            RUNNING_UNDER_SYSTEMD='1',
            ERL_EPMD_ADDRESS='127.0.0.1',
            ERL_EPMD_PORT=str(free_port()),
            RABBITMQ_NODENAME='rabbit@localhost',
            RABBITMQ_DIST_PORT=str(free_port()),
            RABBITMQ_CONFIG_FILE=str(home / 'rabbitmq.conf'),
            RABBITMQ_CONF_ENV_FILE='/dev/null',
            RABBITMQ_ENABLED_PLUGINS_FILE=str(home / 'enabled_plugins'),
            RABBITMQ_MNESIA_BASE=str(home / 'mnesia'),
            RABBITMQ_LOG_BASE=str(home),
            RABBITMQ_LOGS='-',
            # Its threads sleep as soon as they have nothing to do.
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=(
                '-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none '
                '+sbwtdio none'
            ),
        )

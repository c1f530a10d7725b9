# SPDX-License-Identifier: Apache-2.0
"""The control plane: what runs once in a cloud."""

import shutil
import sys
from pathlib import Path

from tests.e2e.openstack.broker import RabbitMQ
from tests.e2e.openstack.confined import Confined
from tests.e2e.openstack.database import MariaDB
from tests.services.keystone import Account, KeystoneServer
from tests.services.nova_conf import Sections
from tests.services.process import program, service_environment
from tests.services.server import Server, write_ini

SERVICE_TYPES = {
    'keystone': 'identity',
    'placement': 'placement',
    'glance': 'image',
    'nova': 'compute',
    'network': 'network',
    'shares': 'shared-file-system',
}
TOKEN_SECONDS = 180
"""How long a token holds; clients renew theirs when it has two minutes left."""

OUR_FILTER = 'FileBackedMemoryFilter'
UP = 'Join ServiceGroup membership'
"""In the log of a process of Nova that has its queue and, if a compute, has reported."""

_FILTERS = (
    'ComputeFilter',
    'ComputeCapabilitiesFilter',
    'ImagePropertiesFilter',
    'NUMATopologyFilter',
)


class ControlPlane:
    """Configuration files, and the processes that read them.

    :param password: of every account in it
    """

    def __init__(self, directory: Path, database: MariaDB, password: str) -> None:
        self.directory = directory
        self.database = database
        self.broker = RabbitMQ(directory)
        self.keystone = KeystoneServer(
            directory / 'keystone',
            database=database.url('keystone'),
            password=password,
            token_expiration=TOKEN_SECONDS,
            threads=6,
        )
        self.apis: dict[str, Server] = {'keystone': self.keystone}
        for name in ('placement', 'network', 'shares', 'nova', 'glance'):
            self.apis[name] = Server(name, directory / name, threads=6)
        self.folder = {name: api.directory for name, api in self.apis.items()}
        self.admin = self.keystone.admin
        self.service = Account(self.keystone.url, 'service', 'service', password)
        self.nova_conf = self.folder['nova'] / 'nova.conf'
        self.conductor = self._nova_process('nova-conductor')
        self.scheduler = self._nova_process('nova-scheduler')

    # -- configuration ----------------------------------------------------------------------------

    def configure(self) -> None:
        self.keystone.configure()
        write_ini(
            self.folder['placement'] / 'placement.conf',
            {
                'api': {'auth_strategy': 'keystone'},
                'placement_database': {'connection': self.database.url('placement')},
                'keystone_authtoken': self._auth_token(),
            },
        )
        self._configure_glance()
        self.configure_nova(with_our_filter=True)

    def configure_nova(self, *, with_our_filter: bool) -> None:
        # The wheel puts it under the prefix.
        shutil.copy(Path(sys.prefix) / 'etc/nova/api-paste.ini', self.folder['nova'])
        scheduling: dict[str, object] = {'enabled_filters': ','.join(_FILTERS)}
        if with_our_filter:
            scheduling = {
                # A line each.
                'available_filters': 'nova.scheduler.filters.all_filters\n'
                f'available_filters = fbm_filters.{OUR_FILTER}',
                'enabled_filters': ','.join([*_FILTERS, OUR_FILTER]),
            }
        sections = self.nova_sections('controller', '127.0.0.1')
        sections |= {
            'api_database': {'connection': self.database.url('nova_api')},
            'database': {'connection': self.database.url('nova')},
            'keystone_authtoken': self._auth_token(),
            'filter_scheduler': scheduling,
            'scheduler': {'workers': 1, 'discover_hosts_in_cells_interval': 1},
            'conductor': {'workers': 1},
        }
        write_ini(self.nova_conf, sections)

    def nova_sections(self, host: str, address: str) -> Sections:
        login = {**self.service.options(), 'valid_interfaces': 'internal'}
        return {
            'DEFAULT': {
                'host': host,
                'my_ip': address,
                'transport_url': self.broker.url,
                'state_path': self.folder['nova'],
                'use_stderr': True,
                'rpc_response_timeout': 180,
                'report_interval': 2,
                # A host that is busy for a minute is not down; forced_down is at once.
                'service_down_time': 300,
                'periodic_fuzzy_delay': 0,
                'default_log_levels': 'amqp=WARN,keystoneauth=WARN,oslo.messaging=INFO,'
                'oslo_messaging=INFO,urllib3=WARN,stevedore=WARN,'
                # For UP.
                'nova.service=DEBUG',
            },
            'oslo_concurrency': {'lock_path': self.folder['nova'] / 'locks'},
            'oslo_messaging_notifications': {'driver': 'noop'},
            'placement': dict(login),
            'neutron': dict(login),
            'manila': dict(login),
            'service_user': {**login, 'send_service_user_token': True},
            'glance': {'valid_interfaces': 'internal'},
            'vnc': {'enabled': False},
        }

    def _configure_glance(self) -> None:
        folder = self.folder['glance']
        shutil.copy(Path(sys.prefix) / 'etc/glance/glance-api-paste.ini', folder)
        images = folder / 'images'
        images.mkdir()
        write_ini(
            folder / 'glance-api.conf',
            {
                'DEFAULT': {
                    'enabled_backends': 'files:file',
                    'enabled_import_methods': '[]',
                    'worker_self_reference_url': self.apis['glance'].url,
                },
                'database': {'connection': self.database.url('glance')},
                'glance_store': {'default_backend': 'files'},
                'files': {'filesystem_store_datadir': images},
                'os_glance_staging_store': {'filesystem_store_datadir': folder / 'staging'},
                'os_glance_tasks_store': {'filesystem_store_datadir': folder / 'tasks'},
                'keystone_authtoken': self._auth_token(),
                'paste_deploy': {
                    'flavor': 'keystone',
                    'config_file': folder / 'glance-api-paste.ini',
                },
            },
        )

    def _auth_token(self) -> dict[str, object]:
        return {
            **self.service.options(),
            'www_authenticate_uri': self.keystone.url,
            'service_token_roles_required': True,
            # A cached token would outlive its own end.
            'token_cache_time': -1,
        }

    # -- processes --------------------------------------------------------------------------------

    def move_endpoints(self) -> None:
        """Put today's ports into the catalogue."""
        cases = ' '.join(
            f"WHEN '{SERVICE_TYPES[name]}' THEN '{api.url}'" for name, api in self.apis.items()
        )
        self.database.execute(
            'UPDATE endpoint JOIN service ON endpoint.service_id = service.id '
            f'SET endpoint.url = CASE service.type {cases} END',
            database='keystone',
        )

    def start(self) -> None:
        for api in self.apis.values():
            api.child.start()
        self.conductor.start()
        self.scheduler.start()

    def wait_for(self, *names: str) -> None:
        for name in names:
            self.apis[name].wait()

    def restart_scheduler(self, *, with_our_filter: bool) -> None:
        """Give the scheduler our filter, or take it away."""
        self.configure_nova(with_our_filter=with_our_filter)
        if self.scheduler.running:
            self.scheduler.kill()
        self.scheduler.start()
        self.scheduler.wait_for_output(UP, timeout=180)

    def kill(self) -> None:
        children = [self.conductor, self.scheduler, *(api.child for api in self.apis.values())]
        for child in children:
            if child.running:
                child.kill()
        self.broker.kill()
        self.database.kill()

    def manage(self, command: str) -> list[str]:
        files = {
            'keystone-manage': self.folder['keystone'] / 'keystone.conf',
            'placement-manage': self.folder['placement'] / 'placement.conf',
            'glance-manage': self.folder['glance'] / 'glance-api.conf',
            'nova-manage': self.nova_conf,
        }
        return [program(command), '--config-file', str(files[command])]

    def _nova_process(self, name: str) -> Confined:
        return Confined(
            [program(name), '--config-file', str(self.nova_conf)],
            self.directory / f'{name}.log',
            name=name,
            environment=service_environment(),
        )

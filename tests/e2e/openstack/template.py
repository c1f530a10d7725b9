# SPDX-License-Identifier: Apache-2.0
"""A database directory as after an installation, made once and copied for each cloud.

It is kept in the Python environment that made it, so it goes with that environment's versions.
"""

import fcntl
import hashlib
import importlib.metadata
import secrets
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.openstack.control import SERVICE_TYPES, ControlPlane
from tests.e2e.openstack.database import DATABASES, MariaDB
from tests.services.process import child_environment, run_to_the_end

_DISTRIBUTIONS = ('keystone', 'openstack-placement', 'glance', 'nova')

# Nova puts the parts of [DEFAULT]transport_url and [database]connection in.
_BROKER_URL = '{scheme}://{username}:{password}@{hostname}:{port}/'
_CELL_URL = '{scheme}://{username}:{password}@{hostname}/nova?{query}'
_CELL0_URL = '{scheme}://{username}:{password}@{hostname}/nova_cell0?{query}'


def get() -> Path:
    """Return the template's directory: `data`, `password`, `cache`; make it if need be."""
    home = Path(sys.prefix) / 'var' / 'cloud'
    home.mkdir(parents=True, exist_ok=True)
    template = home / _key()
    with (home / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            # Short: there is a Unix socket in it.
            scratch = Path(tempfile.mkdtemp(prefix='fbm-template-'))
            try:
                _make(scratch)
                half = home / f'{template.name}.half'
                shutil.rmtree(half, ignore_errors=True)
                half.mkdir(mode=0o700)
                for name in ('data', 'password'):
                    shutil.move(scratch / name, half / name)
                (half / 'cache').mkdir()
                half.rename(template)
                _remove_others(template)
            finally:
                shutil.rmtree(scratch)
    return template


def _remove_others(template: Path) -> None:
    for other in template.parent.iterdir():
        if other.is_dir() and other != template:
            shutil.rmtree(other)


def _key() -> str:
    versions = [f'{name} {importlib.metadata.version(name)}' for name in _DISTRIBUTIONS]
    server = subprocess.run(['mariadbd', '--version'], capture_output=True, text=True, check=True)
    ours = [Path(__file__).read_text(), Path(__file__).with_name('database.py').read_text()]
    text = '\n'.join([*versions, server.stdout, str(SERVICE_TYPES), *ours])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _make(scratch: Path) -> None:
    password = secrets.token_hex()
    (scratch / 'password').write_text(password)
    database = MariaDB(scratch, scratch / 'data')
    database.install()
    with database:
        database.execute(*(f'CREATE DATABASE {name} CHARACTER SET utf8' for name in DATABASES))
        control = ControlPlane(scratch, database, password)
        try:
            control.configure()
            _fill(control)
        finally:
            control.keystone.stop()


def _fill(control: ControlPlane) -> None:
    nova, keystone = control.manage('nova-manage'), control.manage('keystone-manage')
    cell0 = [*nova, 'cell_v2', 'map_cell0', '--database_connection', _CELL0_URL]
    cell1 = [*nova, 'cell_v2', 'create_cell', '--name', 'cell1']
    cell1 += ['--database_connection', _CELL_URL, '--transport-url', _BROKER_URL]
    # Each column in its order, the columns side by side.
    _run_columns(
        control.directory,
        [
            [[*nova, 'api_db', 'sync'], cell0, [*nova, 'db', 'sync'], cell1],
            [
                [*keystone, 'db_sync'],
                [*keystone, *control.keystone.bootstrap()],
                [*control.manage('placement-manage'), 'db', 'sync'],
                [*control.manage('glance-manage'), 'db_sync'],
            ],
        ],
    )
    service = control.service
    with control.keystone as server:
        server.create_user(service.username, roles=['service', 'admin'], password=service.password)
        for name, service_type in SERVICE_TYPES.items():
            if name != 'keystone':
                # Another URL for each cloud: ControlPlane.move_endpoints.
                server.set_endpoint(service_type, 'http://127.0.0.1:9/')


def _run_columns(directory: Path, columns: list[list[list[str]]]) -> None:
    def run_column(number: int) -> None:
        for command in columns[number]:
            run_to_the_end(command, directory / f'manage-{number}.log', timeout=300)

    with ThreadPoolExecutor() as pool:
        list(pool.map(run_column, range(len(columns))))


def copy(template: Path, data: Path) -> None:
    subprocess.run(
        ['cp', '-a', '--reflink=auto', '--sparse=auto', str(template / 'data'), str(data)],
        check=True,
        env=child_environment(LC_ALL='C'),
    )
    data.chmod(0o700)

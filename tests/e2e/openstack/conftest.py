# SPDX-License-Identifier: Apache-2.0
"""One cloud for all tests; each has servers of its own, and leaves the hosts as they were."""

import importlib.util
import os
from pathlib import Path
from shutil import which

import pytest

from tests.services.process import REPOSITORY

# The command, and Debian's package.
_COMMANDS = {
    'mariadbd': 'mariadb-server',
    '/usr/lib/rabbitmq/bin/rabbitmq-server': 'rabbitmq-server',
    'qemu-img': 'qemu-utils',
}
_MODULES = ('nova', 'placement', 'keystone', 'glance', 'libvirt', 'pymysql', 'waitress')

_missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
if _missing:
    # The environment of the other end-to-end tests has no Nova; "make e2e" has.
    collect_ignore_glob = ['test_*.py']


@pytest.fixture(scope='session')
def cloud(tmp_path_factory):
    from tests.e2e.openstack.cloud import Cloud  # noqa: PLC0415 - needs what may be missing

    missing = [f'{name} ({package})' for name, package in _COMMANDS.items() if not which(name)]
    if missing:
        pytest.exit(f'not there: {", ".join(missing)}; "make e2e" installs it', returncode=1)
    with Cloud(tmp_path_factory.mktemp('cloud')) as cloud:
        yield cloud


@pytest.fixture
def servers(cloud):
    made = []
    yield made
    for server in made:
        server.delete()


@pytest.fixture
def boot(cloud, servers):
    def start(flavor='plain', *, host=None):
        server = cloud.create(flavor, host=host)
        servers.append(server)
        server.wait_for('ACTIVE')
        server.counting_guest()
        return server

    return start


@pytest.fixture
def create(cloud, servers):
    def ask(flavor='plain', **options):
        server = cloud.create(flavor, **options)
        servers.append(server)
        server.settled()
        return server

    return ask


@pytest.fixture
def ram(cloud):
    """The enabled host with a tmpfs, turned off and on by a test; it is as before then."""
    yield cloud.ram
    if cloud.ram.capacity != 1024:
        cloud.ram.turn(1024)
    cloud.passes_until_open(cloud.ram)


@pytest.fixture(scope='session')
def table_path():
    """Where the table of the same cases with and without our parts goes: $SIDE_BY_SIDE."""
    return Path(os.environ.get('SIDE_BY_SIDE') or REPOSITORY / 'build' / 'side-by-side.rst')

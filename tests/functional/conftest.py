# SPDX-License-Identifier: Apache-2.0
"""Real services, started once and shared; what a test changes is its own provider."""

import importlib.util

import pytest

from fbm_placement.host.processes import running, running_guests
from tests.services.keystone import KeystoneServer
from tests.services.nova_compute import NovaCompute
from tests.services.openstack import OpenStackCommand
from tests.services.placement import PlacementServer

# The whole of Nova in one process has environments of its own (tox -e nova34).
collect_ignore = [] if importlib.util.find_spec('nova') else ['nova']


@pytest.fixture(scope='session', autouse=True)
def own_run(tmp_path_factory):
    """Let no agent in this process write into the machine's /run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('RUNTIME_DIRECTORY', str(tmp_path_factory.mktemp('run')))
        yield


@pytest.fixture(autouse=True)
def alone(request):
    """Nova's processes on this machine would be taken for those of the agents here."""
    if 'nova' in request.path.parent.parts[-1:]:
        return
    found = [f'guest {guest}' for guest in running_guests('instance-%08x') if guest.is_nova]
    found += [f'nova-compute ({pid})' for pid in running(('nova-compute',))]
    if found:
        # No pytest.exit(): under xdist that is an INTERNALERROR, in which this text is lost.
        reason = f'{found[0]} runs on this machine, and the agents here see it'
        pytest.fail(f'{reason}: stop it, or run pytest by "python -m tests.alone"', pytrace=False)


@pytest.fixture(scope='session')
def placement(tmp_path_factory):
    with PlacementServer(tmp_path_factory.mktemp('placement')) as server:
        yield server


@pytest.fixture
def compute(placement):
    return NovaCompute(placement.url).start()


@pytest.fixture(scope='session')
def openstack(placement):
    return OpenStackCommand.with_token(placement.url)


@pytest.fixture(scope='module')
def keystone(tmp_path_factory):
    with KeystoneServer(tmp_path_factory.mktemp('keystone')) as server:
        yield server


@pytest.fixture(scope='module')
def secured_placement(tmp_path_factory, keystone):
    directory = tmp_path_factory.mktemp('secured-placement')
    with PlacementServer(directory, auth='keystone', keystone=keystone) as server:
        yield server


@pytest.fixture
def secured_compute(keystone, secured_placement):
    return NovaCompute(secured_placement.url, keystone.token).start()

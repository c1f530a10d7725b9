# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks measure on: a compute host in a real Placement, and its agent."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fbm_placement import conf as configuration
from fbm_placement.agent.agent import Agent
from fbm_placement.conf import reader
from tests.fitting_host import FittingHost
from tests.services.nova_compute import NovaCompute
from tests.services.nova_conf import NovaConf, admin_token
from tests.services.placement import PlacementServer
from tests.services.store import CAPACITY_MIB, small_store


@contextlib.contextmanager
def placement() -> Iterator[PlacementServer]:
    """A real Placement, for the time of a ``with`` block."""
    with (
        tempfile.TemporaryDirectory(prefix='fbm-benchmarks-') as directory,
        PlacementServer(Path(directory)) as server,
    ):
        # No agent here may write into the machine's /run.
        os.environ['RUNTIME_DIRECTORY'] = f'{directory}/run'
        yield server


def write_nova_conf(server: PlacementServer, compute: NovaCompute, interval: int = 60) -> Path:
    """Write the nova.conf of an enabled host; return its path."""
    nova_conf = NovaConf(
        server.directory / f'{compute.name}.conf',
        {
            'libvirt': {'file_backed_memory': CAPACITY_MIB},
            'placement': admin_token(server.url),
            'file_backed_memory': {
                'resource_provider': compute.uuid,
                'interval': interval,
                'memory_backing_dir': small_store(),
            },
        },
    )
    return nova_conf.path


def settled_host(server: PlacementServer) -> tuple[NovaCompute, Callable[[], object]]:
    """Return a host at which Placement is as it should be, and what makes one pass there."""
    compute = NovaCompute(server.url).start()
    path = write_nova_conf(server, compute)
    conf = configuration.load(['--config-file', str(path)], prog='fbm-agent', description='')
    # The check of the host has a benchmark of its own.
    host = FittingHost()
    agent = Agent(conf, reader.read_settings(conf), reader.read_agent_options(conf), host=host)

    def one_pass() -> None:
        agent.reconcile(agent.observe())

    one_pass()
    return compute, one_pass


def requests_of(server: PlacementServer, work: Callable[[], object]) -> int:
    """Count the requests that Placement answers while ``work`` is done, by its own log."""
    before = len(server.requests())
    work()
    return len(server.requests()) - before

# SPDX-License-Identifier: Apache-2.0
"""How much memory the running agent keeps, compared with the libraries that it is made of.

The floor is what a program has that imports oslo.config, oslo.log and keystoneauth1 as anybody who
uses them does, and then does nothing.
"""

import contextlib
import statistics
import sys
from pathlib import Path

from benchmarks.hosts import placement, write_nova_conf
from benchmarks.measurement import Measurement
from tests.services.nova_compute import NovaCompute
from tests.services.placement import PlacementServer
from tests.services.process import ChildProcess, program

RUNS = 5
PASSES = 3
INTERVAL = 5
"""Seconds between two passes: the least that the option takes."""

FLOOR = """
import time
import oslo_config.cfg
import oslo_log.log
import keystoneauth1.adapter
import keystoneauth1.identity
import keystoneauth1.loading
import keystoneauth1.session
print('imported', flush=True)
time.sleep(600)
"""


def run() -> list[Measurement]:
    """Run the daemon and the floor several times at once, which changes the memory of none."""
    with placement() as server, contextlib.ExitStack() as children:
        computes = [NovaCompute(server.url).start() for _ in range(RUNS)]
        agents = [
            children.enter_context(_agent(server, compute, number))
            for number, compute in enumerate(computes)
        ]
        floors = [
            children.enter_context(_floor(server.directory / f'floor-{number}.log'))
            for number in range(RUNS)
        ]
        for floor in floors:
            floor.wait_for_output('imported')
        for compute, agent in zip(computes, agents, strict=True):
            _wait_for_passes(server, compute, agent)
        measured = statistics.median(_resident_mib(agent.pid) for agent in agents)
        floor_mib = statistics.median(_resident_mib(floor.pid) for floor in floors)
    return [
        Measurement(
            'resident memory of fbm-agent',
            measured,
            floor_mib,
            'oslo.config + oslo.log + keystoneauth1',
            budget=1.2,
            unit='MiB',
        )
    ]


def _agent(server: PlacementServer, compute: NovaCompute, number: int) -> ChildProcess:
    path = write_nova_conf(server, compute, INTERVAL)
    log = server.directory / f'agent-{number}.log'
    return ChildProcess([program('fbm-agent'), '--config-file', str(path)], log)


def _floor(log: Path) -> ChildProcess:
    return ChildProcess([sys.executable, '-c', FLOOR], log)


def _wait_for_passes(server: PlacementServer, compute: NovaCompute, agent: ChildProcess) -> None:
    path = f'/resource_providers/{compute.uuid}/inventories'

    def passed() -> bool:
        # Each pass begins with this request, so one more shows that the others are over.
        begun = [r for r in server.requests() if (r.method, r.path) == ('GET', path)]
        return len(begun) > PASSES

    agent.wait_until(passed, f'{PASSES} passes', timeout=60 + 2 * INTERVAL * PASSES)


def _resident_mib(pid: int) -> float:
    for line in Path(f'/proc/{pid}/status').read_text(encoding='ascii').splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f'/proc/{pid}/status has no VmRSS: has the process ended?')

# SPDX-License-Identifier: Apache-2.0
"""The tour: one compute host, from DRAM to file-backed memory."""

import os
import time
from pathlib import Path

from demo.stage import Row, Stage, Unexpected
from demo.store import PATH, with_store
from fbm_placement.host.processes import running_guests
from tests.services.expected import inventory
from tests.services.nova_compute import ComputeError, Inventory, NovaCompute
from tests.services.nova_conf import NovaConf, admin_token
from tests.services.openstack import OpenStackCommand
from tests.services.placement import PlacementServer
from tests.services.process import ChildProcess, child_environment, program, run

MEMORY = 'MEMORY_MB'
ENABLED = {'CUSTOM_FILE_BACKED_MEMORY'}
WITHOUT_A_STORE = {'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'}
# The least that it takes: a spectator should not wait. In a cloud, a minute and more is right.
INTERVAL_SECONDS = 5
# A pass after the interval at its longest, and a slow machine.
PASS_TIMEOUT = 3 * INTERVAL_SECONDS


def tour(stage: Stage, directory: Path) -> None:
    """Show it all, or raise Unexpected."""
    stage.say(
        'Real here: Placement, the openstack command, fbm-agent. Played: the requests that '
        'nova-compute and the scheduler send to Placement. All of it listens on 127.0.0.1, lives '
        'in a temporary directory, and ends by itself in about half a minute.'
    )
    stage.say()
    if guests := [guest for guest in running_guests('instance-%08x') if guest.is_nova]:
        raise Unexpected(
            'no guests of Nova, which the agent would see: take another machine, or be root',
            guests[0],
        )
    server = PlacementServer(directory / 'placement')
    with stage.waiting('Starting Placement'):
        server.start()
    with server:
        _Tour(stage, directory, server).run()


class _Tour:
    """The steps, and the world that they share."""

    def __init__(self, stage: Stage, directory: Path, server: PlacementServer) -> None:
        self.stage = stage
        self.directory = directory
        self.server = server
        # Of the machine that this runs on: the agent knows that value when it meets it.
        self.dram = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2**20
        self.store = 8 * self.dram
        self.compute = NovaCompute(
            server.url, name='compute-1.example.org', memory_mib=self.dram, memory_ratio=1.5
        )
        self.as_nova_knows_it = self.compute.inventories_to_report()
        self.as_agent_wants_it = self.as_nova_knows_it | {MEMORY: inventory(self.store)}
        self.traits_of_others: set[str] = set()
        self.used = 0
        argv = [program('fbm-agent'), '--config-file', str(directory / 'nova.conf')]
        with_a_store = with_store(argv, self.store + 1)
        self.traits = ENABLED if with_a_store else ENABLED | WITHOUT_A_STORE
        self.dry_run = [*argv, '--dry-run']
        self.agent = ChildProcess(
            with_a_store or argv,
            directory / 'fbm-agent.log',
            environment=child_environment(RUNTIME_DIRECTORY=str(directory / 'run')),
        )
        stage.agent = self.agent

    def run(self) -> None:
        self.a_compute_host()
        self.a_dry_run()
        self.the_agent()
        with self.agent:
            self.the_first_pass()
            self.an_overwrite()
            self.more_than_the_dram()
            self.the_end()

    def a_compute_host(self) -> None:
        self.stage.step(
            'A compute host, as Nova knows it',
            f'nova-compute reports its host: {self.dram} MiB of DRAM, sold one and a half times. '
            'An instance boots. Next: what Placement holds, because that is what the scheduler '
            'believes.',
        )
        self.compute.start()
        self.boot(self.dram // 8)
        self.stage.use(OpenStackCommand.with_token(self.server.url), {'HOST': self.compute.uuid})
        self.stage.expect(self.as_nova_knows_it, self.inventory_list())
        self.is_refused(2 * self.dram, 'no guest may be larger than the DRAM')

    def a_dry_run(self) -> None:
        self.stage.step(
            'nova.conf says that guest memory moves to files',
            f'On an NVMe there is room for {self.store} MiB. The agent reads the nova.conf that '
            'nova-compute reads. The NVMe is not mounted yet. Next: a dry run, what would '
            'change, and what is missing?',
        )
        self.configure()
        self.stage.type('fbm-agent --config-file nova.conf --dry-run')
        done = run(self.dry_run, environment=self.agent.environment)
        unhealthy, *table = done.stdout.splitlines()
        self.stage.expect(True, f'memory_backing_dir {PATH} does not exist' in unhealthy)
        self.stage.quote(self.stage.wrap(unhealthy), '\n'.join(table), done.stderr)
        self.stage.expect('exit code 1: it differs', f'exit code {done.returncode}: it differs')
        self.stage.expect(self.as_nova_knows_it, self.compute.inventories())

    def the_agent(self) -> None:
        self.stage.step(
            'The agent writes it to Placement',
            f'It passes every {INTERVAL_SECONDS} s here. Memory in files cannot be overcommitted, '
            'so the ratio has to become 1.0. Next: the inventory, and the traits that show the '
            'scheduler what kind of host this is.',
        )
        self.stage.say(self.about_the_store())
        self.stage.say()
        self.traits_of_others = self.compute.traits()
        self.stage.type('fbm-agent --config-file nova.conf &')

    def the_first_pass(self) -> None:
        with self.stage.waiting('The first pass'):
            self.agent.wait_until(lambda: self.compute.traits() >= self.traits, 'its traits set')
        self.stage.expect(self.as_agent_wants_it[MEMORY], self.inventory_show())
        rows = self.stage.openstack('resource provider trait list $HOST --sort-column name')
        self.stage.expect(
            sorted(self.traits_of_others | self.traits), sorted(row['name'] for row in rows)
        )
        self.stage.say(
            "The agent's inventory and trait are there, and Nova's own traits are as they were."
        )

    def an_overwrite(self) -> None:
        self.stage.step(
            'Another client overwrites it',
            'A nova-compute whose driver ignores the option puts its own value back within six '
            'minutes. Next: it does so now, right after a pass, and reports DRAM again.',
        )
        with self.stage.waiting('Waiting for a pass of the agent to go by'):
            passed = len(self.server.requests())
            self.agent.wait_until(
                lambda: len(self.server.requests()) > passed, 'in its next pass', PASS_TIMEOUT
            )
            # Its answer has to arrive, and it finds nothing to do.
            time.sleep(0.2)
        self.stage.expect(True, self.compute.rewrite_inventory())
        # Placement's own answer to that write, not what was sent.
        self.stage.expect(self.as_nova_knows_it, self.compute.believes())
        shown = self.inventory_show()
        if shown == self.as_agent_wants_it[MEMORY]:
            self.stage.say('The agent was faster than the openstack command.')
        else:
            self.stage.expect(self.as_nova_knows_it[MEMORY], shown)
            self.stage.say('Next: nothing but to wait, because the next pass comes by itself.')
            self.stage.say()
        with self.stage.waiting('The next pass'):
            self.agent.wait_until(
                lambda: self.compute.inventory() == self.as_agent_wants_it[MEMORY],
                'putting it back',
                PASS_TIMEOUT,
            )
        self.stage.expect(self.as_agent_wants_it[MEMORY], self.inventory_show())
        self.stage.say(
            'It logs once what it found, who wrote it, and what ends the overwrite loop:'
        )
        lines = [line for line in self.agent.output.splitlines() if 'overwritten' in line]
        self.stage.expect(1, len(lines))
        self.stage.quote(self.stage.wrap(lines[0]))

    def more_than_the_dram(self) -> None:
        self.stage.step(
            'Guests larger than the DRAM',
            'The instance that was refused boots now. Next: the whole inventory once more, '
            'because the agent may touch nothing but memory.',
        )
        self.boot(2 * self.dram)
        self.is_refused(self.store - self.used + 1, 'that is 1 MiB more than the store has left')
        self.stage.expect(self.as_agent_wants_it, self.inventory_list())

    def the_end(self) -> None:
        self.stage.step(
            'The agent is stopped',
            'What it wrote stays true without it, so it takes nothing back (fbm-agent --withdraw '
            'does, for uninstalling). Next: SIGTERM, as systemctl stop sends it.',
        )
        self.stage.expect('exit code 0', f'exit code {self.agent.stop()}')
        self.stage.say('It ended with exit code 0.')
        self.stage.expect(self.as_agent_wants_it, self.compute.inventories())

    def about_the_store(self) -> str:
        """Return what stands for the NVMe."""
        if self.traits == ENABLED:
            return (
                'The store is mounted now. In place of an NVMe it is a tmpfs of that size, which '
                'takes no memory until it is written to; only the agent sees it. A tmpfs is no '
                'disk, so CUSTOM_FILE_BACKED_MEMORY_DISK is not set.'
            )
        return (
            'No store can be mounted on this machine, so the agent will report that the host is '
            'unhealthy: no new instance would come.'
        )

    def configure(self) -> None:
        """Write what an operator would, and the identity that nova-compute once wrote."""
        (self.directory / 'compute_id').write_text(self.compute.uuid)
        nova_conf = NovaConf(
            self.directory / 'nova.conf',
            {
                'DEFAULT': {'state_path': self.directory},
                'libvirt': {'virt_type': 'kvm', 'file_backed_memory': self.store},
                'placement': admin_token(self.server.url),
                'file_backed_memory': {
                    'interval': INTERVAL_SECONDS,
                    'memory_backing_dir': PATH,
                },
            },
        )
        self.stage.type('cat nova.conf')
        self.stage.quote(nova_conf.path.read_text())

    def boot(self, mib: int) -> None:
        self.compute.allocate(memory_mib=mib)
        self.used += mib
        self.stage.say(f'An instance of {mib} MiB boots.')

    def is_refused(self, mib: int, why: str) -> None:
        """See that Placement does not let an instance of this size in."""
        try:
            self.compute.allocate(memory_mib=mib)
        except ComputeError as error:
            self.stage.expect(409, error.status)
        else:
            raise Unexpected(f'an instance of {mib} MiB is refused', 'it boots')
        self.stage.say(f'An instance of {mib} MiB is refused: {why}.')

    def inventory_list(self) -> dict[str, Inventory]:
        """Show all inventories; what is used must be what was booted."""
        rows = self.stage.openstack('resource provider inventory list $HOST')
        inventories = {row['resource_class']: _six(row) for row in rows}
        used = {row['resource_class']: row['used'] for row in rows}
        self.stage.expect(str(self.used), used.get(MEMORY))
        return inventories

    def inventory_show(self) -> Inventory:
        return _six(*self.stage.openstack(f'resource provider inventory show $HOST {MEMORY}'))


def _six(row: Row) -> Inventory:
    """Return the fields of an inventory in a printed table as numbers."""
    return {
        name: float(value) if name == 'allocation_ratio' else int(value)
        for name, value in row.items()
        if name not in ('resource_class', 'used')
    }

# SPDX-License-Identifier: Apache-2.0
"""The overwrite loop of the agent and a nova-compute that reports DRAM: its cost and its end.

Real: nova-compute's periodic task with its report client, Placement, the agent. Fake: the clock,
so that two hours take seconds; every period is the default of its owner.
"""

import types

import fixtures
from oslo_log import log as logging

from fbm_placement import model
from fbm_placement.agent.agent import Agent
from tests.fitting_host import FittingHost
from tests.functional.nova import costs, fleet

OFFERED_MIB = 65536
PERIODIC = 60
"""nova-compute's update_resources_interval, seconds: the default of periodic tasks."""
REFRESH = 300
"""[compute]resource_provider_association_refresh, seconds."""
INTERVAL = 60
"""[file_backed_memory]interval, seconds."""
HOUR = 3600

_REPORTING = (
    '_get_guest_memory_backing_config',
    'check_can_live_migrate_destination',
    'update_provider_tree',
    'get_available_resource',
)


class OverwriteLoopTest(fleet.FleetTestCase):
    def setUp(self):
        super().setUp()
        self.now = 1_000_000.0
        clock = types.SimpleNamespace(time=lambda: self.now)
        self.useFixture(fixtures.MockPatch('nova.scheduler.client.report.time', clock))
        # Nova's test cases let nothing read /sys.
        for module in ('messages', 'current'):
            self.useFixture(fixtures.MockPatch(f'fbm_placement.agent.{module}.dram_mib', int))
        self.log = self.useFixture(fixtures.FakeLogger('fbm_placement', level=logging.WARNING))
        self.assertEqual(
            REFRESH, fleet.nova.conf.CONF.compute.resource_provider_association_refresh
        )

    def an_agent(self):
        asked = []
        agent = Agent(
            self.conf_for_the_agent(),
            model.Settings(OFFERED_MIB, 0, 'kvm', 1.0),
            model.AgentOptions(self.compute_rp_uuids['host'], INTERVAL),
            host=FittingHost(),
            wait=lambda _seconds: None,
            before_request=lambda: asked.append(self.now),
            clock=lambda: self.now,
        )
        return agent, asked

    def an_hour(self, agent, between):
        """Let an hour pass, the agent so many seconds behind nova-compute.

        Return for how many seconds the inventory was wrong, and how often it was overwritten.
        """
        wrong, overwrites = 0, 0
        manager = self.computes['host'].manager
        for _ in range(HOUR // PERIODIC):
            manager.update_available_resource(self.context)
            was_right = self.is_right()
            overwrites += not was_right
            self.now += between
            agent.reconcile(agent.observe())
            wrong += 0 if was_right else between
            self.assertTrue(self.is_right())
            self.now += PERIODIC - between
        return wrong, overwrites

    def is_right(self):
        return self.inventory('host')['total'] == OFFERED_MIB

    def fix(self):
        self.memory_of['host'] = OFFERED_MIB
        driver = self.computes['host'].driver
        for name in _REPORTING:
            unaware = getattr(driver, name).__wrapped__
            setattr(driver, name, fleet._on_host(OFFERED_MIB, unaware))
        # A new process has an empty cache.
        self.computes['host'].manager.reportclient.clear_provider_cache()

    def test_at_its_best(self):
        self.check(between=1)

    def test_at_its_worst(self):
        self.check(between=59)

    def check(self, between):
        self.context = fleet.nova.context.get_admin_context()
        self.start_host('host')
        agent, asked = self.an_agent()
        novas = self.useFixture(costs.Counter()).sent
        agent.reconcile(agent.observe())
        asked.clear()

        wrong, overwrites = self.an_hour(agent, between)
        print(f'{overwrites} overwrites, {wrong} s wrong, {len(asked)} + {len(novas)} requests')
        # Where the cache is stale at the first periodic run after 300 s, and again after its own
        # write; and only until the agent's next pass.
        self.assertIn(overwrites, range(8, 13))
        # Of the agent: one request for each pass, four more for each repair.
        self.assertLessEqual(len(asked), HOUR // INTERVAL + 4 * overwrites)
        # Of nova-compute: one for each time that it put its own value back.
        written = [sent for sent in novas if sent.startswith('put') and 'inventories' in sent]
        self.assertEqual(overwrites, len(written))
        lines = [line for line in self.log.output.splitlines() if 'was overwritten' in line]
        times = [int(line.split('(overwrite ')[1].split()[0]) for line in lines[1:]]
        self.assertEqual([2, 4, 8], times)
        self.assertIn('Likely by nova-compute', lines[0])
        self.assertIn(f'[libvirt]file_backed_memory = {OFFERED_MIB}', lines[0])

        self.fix()
        asked.clear()
        while_looping = len(novas)
        novas.clear()
        wrong, overwrites = self.an_hour(agent, between)
        print(f'fixed: {overwrites} overwrites, {len(asked)} + {len(novas)} requests')
        self.assertEqual((0, 0), (wrong, overwrites))
        # One more for each write, about; what else it asks in an hour varies by a few.
        self.assertIn(while_looping - len(novas), range(1, 13))
        self.assertLessEqual(len(asked), HOUR // INTERVAL + 3 * HOUR // 600)

# SPDX-License-Identifier: Apache-2.0
"""Live migration: libvirt changes no running guest's kind of memory, so it stays with its kind."""

import pytest
from nova.tests.functional.api import client

from tests.functional.nova import cloud, harness

ROOMY = 4 * cloud.OFFERED_MIB
"""Nova prefers the host with the most free memory: one of this size, if it may."""


class LiveMigrationTest(cloud.CloudTestCase):
    """With the pre-filter: refused early, with what to change."""

    def refused(self, server, host, *words):
        """A refusal costs a failed migration and nothing else; an administrator reads why."""
        before = self.host_of(server)
        self.live_migrate(server, host, status='error')
        self.assertEqual(before, self.host_of(server))
        self.assertFalse(getattr(self, 'migrate_stub_ran', False))
        reported = self.events(server)
        for word in words:
            self.assertIn(word, reported)

    def test_the_scheduler_chooses(self):
        """A host of the same kind, however much emptier the others are."""
        self.start('disk', 'tmpfs')
        self.start('plain', dram_mib=ROOMY)
        self.start('plain-2', dram_mib=cloud.OFFERED_MIB // 4)
        for source, target in (('disk', 'tmpfs'), ('tmpfs', 'disk'), ('plain', 'plain-2')):
            server = self.guest('plain', host=source)
            self.live_migrate(server)
            self.assertEqual(target, self.host_of(server))

    def test_no_host_of_its_kind(self):
        """A host of the other kind is none."""
        self.start('disk', 'sick')
        self.start('plain', dram_mib=ROOMY)
        self.refused(self.guest('plain', host='disk'), None)
        self.refused(self.guest('plain', host='plain'), None)

    def test_a_named_host_that_does_not_fit(self):
        """The reason has the rule, and what to change; the names are in the scheduler's log."""
        self.start('disk', 'tmpfs', 'plain')
        server = self.guest('plain', host='disk')
        self.refused(
            server,
            'plain',
            'File-backed memory: name another host, or none: the host that was named is a host '
            'without file-backed memory, but the guest on its present host needs a host with',
        )
        self.assertIn(f'Instance {server["id"]} (disk to plain): ', self.stdlog.logger.output)
        # Nothing stands in the way of the next one.
        self.live_migrate(server, 'tmpfs')
        self.assertEqual('tmpfs', self.host_of(server))

        server = self.guest('plain', host='plain')
        self.migrate_stub_ran = False
        self.refused(
            server,
            'disk',
            'the host that was named is a host with file-backed memory, but the guest on its '
            'present host needs a host without file-backed memory',
        )

    def test_the_answer_below_2_34(self):
        """It comes at once: what ``nova live-migration`` and older clients show."""
        self.start('disk', 'plain')
        server = self.guest('plain', host='disk')
        action = {'os-migrateLive': {'host': 'plain', 'block_migration': 'auto'}}
        with self.speaking('2.30'), pytest.raises(client.OpenStackApiException) as refused:
            self.admin_api.post_server_action(server['id'], action)
        self.assertEqual(400, refused.value.response.status_code)
        self.assert_reported(
            'name another host, or none: the host that was named is a host without file-backed',
            str(refused.value),
        )
        self.wait_for(server, 'ACTIVE')

    def assert_reported(self, words, text):
        self.assertIn(words, text)

    def test_forced(self):
        """It meets neither pre-filter nor filter, and fails late, as libvirt does."""
        self.start('disk', 'plain')
        server = self.guest('plain', host='disk')
        # Nova 32.2 began to wait for the end of a migration, and so to see that it failed.
        waits = harness.NOVA_RELEASE >= (32, 2)
        status, state = ('error', 'ERROR') if waits else ('failed', 'ACTIVE')
        with self.speaking('2.60'):
            self.live_migrate(server, 'plain', status=status, state=state, force=True)
        self.assertIn(
            "Target memoryBacking source 'none' doesn't match", self.stdlog.logger.output
        )
        self.assertEqual('disk', self.host_of(server))

    def test_unhealthy(self):
        """Such a host takes no guest, but gives one away."""
        self.start('disk', 'sick')
        server = self.guest('plain', host='disk')
        self.refused(server, 'sick', 'is an unhealthy host', 'every instance needs a healthy host')
        self.start('tmpfs')
        self.let_agent_pass('disk', healthy=False)
        self.live_migrate(server)
        self.assertEqual('tmpfs', self.host_of(server))

    def test_guests_with_needs(self):
        """The source's kind of memory and the guest's needs together."""
        self.start('disk', 'tmpfs', 'tmpfs-2', 'plain', 'plain-2')
        for guest, source, target in (
            ('small pages', 'plain', 'plain-2'),
            ('realtime', 'plain', 'plain-2'),
            ('realtime', 'tmpfs', 'tmpfs-2'),
        ):
            server = self.guest(guest, host=source)
            self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
            self.live_migrate(server)
            self.assertEqual(target, self.host_of(server), guest)
        self.migrate_stub_ran = False
        self.refused(server, 'disk', 'named is a host whose store is a disk', 'realtime')


class LiveMigrationByTheFilterAloneTest(LiveMigrationTest):
    """With ``prefilter = false``: the same hosts; the reason is in the scheduler's log only."""

    PREFILTER = False
    # It never meets the filter.
    test_forced = None  # type: ignore[assignment]

    def refused(self, server, host, *words):
        """Refused all the same."""
        super().refused(server, host)
        self.assertNotIn('File-backed memory', self.events(server))

    def assert_reported(self, words, text):
        self.assertIn('No valid host was found', text)
        self.assertNotIn('File-backed memory', text)


class DefaultPolicyTest(cloud.CloudTestCase):
    """``default_policy = forbidden``."""

    DEFAULT_POLICY = 'forbidden'

    def test_the_trait_of_nova_counts_as_ours(self):
        """A flavor may name that of nova-compute, which is 31's; ours is required with it."""
        if harness.NOVA_RELEASE < (31,):
            self.skipTest('no nova-compute has that trait')
        self.start('disk', 'plain')
        server = self.guest('trait of Nova')
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        self.assertEqual('disk', self.host_of(server))

    def test_it_traps_no_guest(self):
        """A guest from before it was set moves among enabled hosts; new ones stay off."""
        self.start('disk', 'tmpfs', passes=False)
        server = self.guest_from_before('plain', 'disk')
        for host in ('disk', 'tmpfs'):
            self.let_agent_pass(host)
        self.assertEqual('ERROR', self.guest('plain')['status'])
        self.live_migrate(server)
        self.assertEqual('tmpfs', self.host_of(server))
        self.live_migrate(server, 'disk')
        self.assertEqual('disk', self.host_of(server))


class DefaultPolicyByTheFilterAloneTest(DefaultPolicyTest):
    PREFILTER = False

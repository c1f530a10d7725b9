# SPDX-License-Identifier: Apache-2.0
"""Boot, forced boot, resize, cold migration, evacuation, unshelve, rebuild: where each may go."""

import contextlib

from tests.functional.nova import cloud

# A guest may boot on these. Nova itself refuses any page size where file_backed_memory is set.
MAY_BOOT_ON = {
    'plain': {'disk', 'tmpfs', 'plain'},
    'required': {'disk', 'tmpfs'},
    'forbidden': {'plain'},
    'small pages': {'plain'},
    'large pages': {'plain'},
    'realtime': {'tmpfs', 'plain'},
    'passthrough': {'tmpfs', 'plain'},
}


class ArrivalTest(cloud.CloudTestCase):
    """With the pre-filter: Placement leaves out what does not fit."""

    def test_boot(self):
        self.start('disk', 'tmpfs', 'plain', 'sick')
        for guest, hosts in MAY_BOOT_ON.items():
            for host in (None, *cloud.HOSTS):
                server = self.guest(guest, host=host)
                wanted = 'ACTIVE' if host in {None, *hosts} else 'ERROR'
                self.assertEqual(wanted, server['status'], (guest, host, self.fault_of(server)))
                if wanted == 'ACTIVE':
                    self.assertIn(self.host_of(server), {host} if host else hosts)
                self.api.delete_server(server['id'])

    def refused_at_boot(self, kind, **where):
        with self.speaking('2.60') if 'az' in where else contextlib.nullcontext():
            server = self.guest(kind, **where)
        self.assertEqual('ERROR', server['status'])
        return self.fault_of(server)

    def assert_reported(self, words, text):
        self.assertIn(words, text)

    def test_boot_forced_to_a_host(self):
        self.start('disk', 'plain')
        self.refused_at_boot('small pages', az='nova:disk')
        with self.speaking('2.60'):
            server = self.guest('small pages', az='nova:plain')
        self.assertEqual('ACTIVE', server['status'])

    def test_a_named_host_that_does_not_fit(self):
        """However it is named. The reason is Nova's own; the scheduler's log has the rule."""
        self.start('disk', 'plain', 'sick')
        for named in ({'host': 'disk'}, {'az': 'nova:disk'}, {'az': 'nova:disk:disk'}):
            fault = self.refused_at_boot('small pages', **named)
            self.assertIn('No valid host was found', fault)
            self.assertNotIn('disk', fault)
        self.refused_at_boot('forbidden', node='disk')
        self.refused_at_boot('plain', host='sick')
        log = self.stdlog.logger.output
        self.assertIn('a memory page size (hw:mem_page_size) needs a host without', log)
        self.assertIn('trait:CUSTOM_FILE_BACKED_MEMORY=forbidden needs a host without', log)

    def test_a_contradiction(self):
        """A user reads both sides, within what Nova keeps of it."""
        self.start('disk')
        server = self.guest('of both kinds')
        self.assertEqual('ERROR', server['status'])
        for words in (
            'trait:CUSTOM_FILE_BACKED_MEMORY=required',
            'hw:mem_page_size',
            'change one',
        ):
            self.assert_reported(words, self.fault_of(server))

    def test_cold_migration_and_resize(self):
        """Across kinds it is an arrival like any other: the guest is started again there."""
        self.start('disk', 'plain', 'sick')
        server = self._migrate_server(self.guest('plain', host='disk'))
        self.assertEqual('plain', self.host_of(server))
        server = self._confirm_resize(server)
        flavor = self._create_flavor(
            memory_mb=1024, vcpu=2, disk=1, ephemeral=0, extra_spec=cloud.GUESTS['required']
        )
        server = self._resize_server(server, flavor)
        self.assertEqual('disk', self.host_of(server))

    def test_evacuation(self):
        """The guest is started again, but not where it may not be."""
        self.start('disk', 'tmpfs', 'sick')
        server = self.guest('required', host='disk')
        self.force_down('disk')
        self._evacuate_server(server, expected_state='ACTIVE')
        self.assertEqual('tmpfs', self.host_of(server))

    def test_evacuation_with_no_host_that_fits(self):
        """It stays where it was."""
        self.start('disk', 'plain', 'sick')
        server = self.guest('required', host='disk')
        self.force_down('disk')
        for where, count in (({'host': 'sick'}, 1), ({}, 2)):
            self.admin_api.post_server_action(server['id'], {'evacuate': where})
            self.eventually(
                lambda: [m['status'] for m in self.migrations(server)],
                lambda found, count=count: found == ['error'] * count,
            )
            self.assertEqual('disk', self.host_of(server))

    def test_unshelve(self):
        """A forbidden guest comes back on a plain host, though an enabled one is as empty."""
        self.start('disk', 'plain')
        server = self.guest('forbidden')
        server = self._shelve_server(server, expected_state='SHELVED_OFFLOADED')
        self._unshelve_server(server)
        self.assertEqual('plain', self.host_of(server))

    def test_rebuild_is_left_to_nova(self):
        self.start('disk')
        server = self.guest('plain')
        self.let_agent_pass('disk', healthy=False)
        self._rebuild_server(server, 'a2459075-d96c-40d5-893e-577ff92e721c')
        self.assertEqual('disk', self.host_of(server))
        self.assertEqual('ERROR', self.guest('plain')['status'])


class ArrivalByTheFilterAloneTest(ArrivalTest):
    """With ``prefilter = false``: the same hosts; the reason is in the scheduler's log only."""

    PREFILTER = False

    def test_boot_forced_to_a_host(self):
        self.start('disk')
        self.refused_at_boot('small pages', az='nova:disk')

    def test_a_named_host_that_does_not_fit(self):
        """Refused all the same."""
        self.start('disk')
        self.refused_at_boot('small pages', host='disk')
        self.assert_reported('file-backed memory rejected 1 hosts (disk) because', '')

    def assert_reported(self, words, text):
        self.assertIn(words, self.stdlog.logger.output)

# SPDX-License-Identifier: Apache-2.0
"""Boot, forced boot, resize, cold migration, evacuation, unshelve, rebuild: where each may go."""

import contextlib

from tests.functional.nova import cloud, harness

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


class DefaultPolicyTest(cloud.CloudTestCase):
    """``default_policy = forbidden``, and a guest that is on an enabled host already."""

    DEFAULT_POLICY = 'forbidden'

    def test_it_needs_a_plain_host_to_start_again(self):
        """The log of a request that finds none names the option."""
        self.start('disk', 'tmpfs')
        server = self.guest_from_before('plain', 'disk')
        option = 'because [file_backed_memory]default_policy = forbidden needs a host without'
        shelved = self.guest_from_before('plain', 'disk')
        shelved = self._shelve_server(shelved, expected_state='SHELVED_OFFLOADED')
        self.assertNotIn(option, self.stdlog.logger.output)
        self.admin_api.post_server_action(
            server['id'], {'migrate': None}, check_response_status=[202]
        )
        self.eventually(
            lambda: [m['status'] for m in self.migrations(server)], lambda all_: 'error' in all_
        )
        self.assertIn(option, self.stdlog.logger.output)
        self.assertEqual('disk', self.host_of(server))

        self.start('plain')
        self.assertEqual('plain', self.host_of(self._migrate_server(server)))
        self.assertEqual('plain', self.host_of(self._unshelve_server(shelved)))

    def test_a_resize_keeps_it_on_enabled_hosts(self):
        self.start('disk', 'tmpfs', 'plain')
        flavor = self._create_flavor(
            memory_mb=512, vcpu=2, disk=1, ephemeral=0, extra_spec=cloud.GUESTS['required']
        )
        server = self._resize_server(self.guest_from_before('plain', 'disk'), flavor)
        self.assertEqual('tmpfs', self.host_of(server))


class IncompatibleTest(cloud.CloudTestCase):
    """Needs that are taken off the list."""

    INCOMPATIBLE = frozenset({'vdpa'})

    def test_page_sizes_and_realtime(self):
        """Nova does not start a guest with a page size there; a realtime guest starts."""
        self.start('disk')
        for guest in ('small pages', 'large pages'):
            server = self.guest(guest, host='disk')
            self.assertEqual('ERROR', server['status'], guest)
        self.assertIn('incompatible with huge pages', self.stdlog.logger.output)
        server = self.guest('realtime', host='disk')
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))


class NovasOwnMeansTest(cloud.CloudTestCase):
    """Nova options and traits that change where guests go."""

    def test_isolated_aggregates(self):
        """A flavor must name the very trait of the aggregate."""
        self.flags(enable_isolated_aggregate_filtering=True, group='scheduler')
        self.start('disk')
        body = {'aggregate': {'name': 'enabled', 'availability_zone': None}}
        aggregate = self.admin_api.post_aggregate(body)['id']
        self.admin_api.add_host_to_aggregate(aggregate, 'disk')
        metadata = {'trait:CUSTOM_FILE_BACKED_MEMORY': 'required'}
        self.admin_api.post_aggregate_action(aggregate, {'set_metadata': {'metadata': metadata}})
        for guest, status in (('required', 'ACTIVE'), ('plain', 'ERROR')):
            server = self.guest(guest)
            self.assertEqual(status, server['status'], self.fault_of(server))
        if harness.NOVA_RELEASE >= (31,):
            self.assertEqual('ERROR', self.guest('trait of Nova')['status'])

    def test_a_reload_of_nova_scheduler(self):
        """SIGHUP changes no option of the filter: a restart does."""
        self.start('disk')
        self.scheduler_flags(default_policy='forbidden')
        self.scheduler.manager.reset()
        server = self.guest('plain')
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))

    def test_several_instances_at_once(self):
        """The line in the log has the first one and the number of the others."""
        self.start('plain')
        flavor = self._create_flavor(
            memory_mb=64, vcpu=1, disk=0, ephemeral=0, extra_spec=cloud.GUESTS['small pages']
        )
        body = self._build_server(flavor_id=flavor, networks='none')
        self.api.post_server({'server': {**body, 'min_count': 3}})
        servers = [self.settled(server) for server in self.api.get_servers()]
        self.assertEqual(['ACTIVE'] * 3, [server['status'] for server in servers])
        self.assertIn(' and 2 more: required [], forbidden [', self.stdlog.logger.output)

    def test_a_host_whose_agent_does_not_run_yet(self):
        """nova-compute reports its own trait: nothing that needs a plain host goes there."""
        if harness.NOVA_RELEASE < (31,):
            self.skipTest('no nova-compute has that trait')
        self.start('disk', passes=False)
        for guest in ('small pages', 'forbidden'):
            self.assertEqual('ERROR', self.guest(guest)['status'])
        self.assertNotIn('incompatible with huge pages', self.stdlog.logger.output)

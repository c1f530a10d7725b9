# SPDX-License-Identifier: Apache-2.0
"""Placement or a database away, half-made or wrong: who goes on, and who is stopped.

A request that has nothing to do with file-backed memory goes on; one that has is refused.
"""

from unittest import mock

import fixtures
from keystoneauth1 import exceptions as ksa_exceptions
from nova import context as nova_context
from nova import exception, objects
from nova.compute import task_states
from nova.scheduler.client import report
from oslo_db import exception as db_exception

from fbm_filters import decision, moves, rules
from fbm_placement import constants
from tests.functional.nova import cloud

NOT_KNOWN = 'File-backed memory: where this instance may go could not be determined'


class FailureTestCase(cloud.CloudTestCase):
    def placement_is_away(self):
        """Let the requests fail that only this project sends."""
        self.away = True
        paths = ('/traits', '/resource_providers?required=')

        def breaking(original):
            def method(client, url, *args, **kwargs):
                if self.away and (url.startswith(paths) or url.endswith('/traits')):
                    raise ksa_exceptions.ConnectFailure('Unable to establish connection')
                return original(client, url, *args, **kwargs)

            return method

        for name in ('get', 'put'):
            method = breaking(getattr(report.SchedulerReportClient, name))
            self.useFixture(
                fixtures.MockPatchObject(report.SchedulerReportClient, name, new=method)
            )

    def own_traits(self):
        found = self.placement.get(
            '/traits?name=startswith:CUSTOM_FILE_BACKED_MEMORY', version='1.39'
        )
        return set(found.body['traits'])

    def assert_reported(self, words, text):
        if self.PREFILTER:
            self.assertIn(words, text)
        else:
            self.assertIn('No valid host', text)

    def assert_refused(self, server, words, host=None):
        """A live migration costs a failed migration and nothing else."""
        self.live_migrate(server, host, status='error')
        self.assert_reported(words, self.events(server))


class NewCloudTest(FailureTestCase):
    """No agent has run yet, or someone has cleaned up too much."""

    REFRESH_INTERVAL = 1

    def test_no_trait_exists(self):
        """A query that names one would stop every boot in the cloud: they are created first.

        One that is deleted is created again, after no more than the refresh interval.
        """
        self.start('plain', passes=False)
        for again in (False, True):
            if again:
                for trait in constants.OWN_TRAITS:
                    self.placement.delete(f'/traits/{trait}', version='1.39')
                self.outdate()
            self.assertEqual(set(), self.own_traits())
            for guest in ('plain', 'small pages'):
                server = self.guest(guest)
                self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
            self.assertEqual(constants.OWN_TRAITS, self.own_traits())

    def test_a_provider_without_any_trait(self):
        """Its host is a plain one."""
        self.start('plain', 'plain-2', 'disk')
        server = self.guest('plain', host='plain')
        url = f'/resource_providers/{self.compute_rp_uuids["plain"]}/traits'
        seen = self.placement.get(url, version='1.39').body
        self.placement.put(url, {**seen, 'traits': []}, version='1.39')
        self.live_migrate(server)
        self.assertEqual('plain-2', self.host_of(server))


class NewCloudByTheFilterAloneTest(NewCloudTest):
    PREFILTER = False


class PlacementAwayTest(FailureTestCase):
    """Placement answers what Nova asks, but not what this project does."""

    REFRESH_INTERVAL = 1

    def test_it_is_away(self):
        """What depends on the answer is refused, and nothing else."""
        self.start('plain', 'plain-2')
        self.placement_is_away()
        server = self.guest('small pages')
        self.assertEqual('ERROR', server['status'])
        self.assert_reported('needs a host without file-backed memory, but', self.fault_of(server))
        self.assert_reported('Placement does not answer', self.fault_of(server))
        server = self.guest('plain', host='plain')
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        for host in (None, 'plain-2'):
            self.assert_refused(server, NOT_KNOWN, host)
        self.away = False
        self.outdate()
        self.live_migrate(server)
        self.assertEqual('plain-2', self.host_of(server))


class PlacementAwayByTheFilterAloneTest(PlacementAwayTest):
    PREFILTER = False


class DatabaseFailureTest(FailureTestCase):
    """What the cell's database knows distinguishes a live migration from other moves."""

    def failing(self, **methods):
        """Let moves.py, and nothing else, read this from the database."""
        fake = mock.Mock()
        for name, result in methods.items():
            is_error = isinstance(result, Exception)
            getattr(fake, name).get_by_uuid = mock.Mock(
                **{'side_effect' if is_error else 'return_value': result}
            )
            fake.ComputeNode.get_by_host_and_nodename = mock.Mock(
                side_effect=exception.ComputeHostNotFound(host='disk')
            )
        return mock.patch.object(moves, 'objects', fake)

    def test_live_migration(self):
        """Refused while the database is away, or knows no such instance or compute node."""
        self.start('disk', 'tmpfs')
        server = self.guest('plain', host='disk')
        for result in (
            db_exception.DBConnectionError(),
            exception.InstanceNotFound(instance_id=server['id']),
            mock.Mock(
                task_state=task_states.MIGRATING, host='disk', node='disk', pci_requests=None
            ),
        ):
            with self.failing(Instance=result):
                self.assert_refused(server, NOT_KNOWN)
                self.assert_refused(server, NOT_KNOWN, host='tmpfs')
                self.assertEqual('ACTIVE', self.guest('plain', host='disk')['status'])
        self.live_migrate(server)
        self.assertEqual('tmpfs', self.host_of(server))

    def test_stale_migration_records(self):
        """They make no cold migration a live one, which could not go to the other kind."""
        self.start('disk', 'plain')
        server = self.guest('plain', host='disk')
        admin = nova_context.get_admin_context()
        with nova_context.target_cell(admin, self.cell_mappings['cell1']) as cell:
            for status in ('accepted', 'running', 'error'):
                objects.Migration(
                    cell,
                    instance_uuid=server['id'],
                    status=status,
                    migration_type='live-migration',
                    source_compute='disk',
                ).create()
        self.admin_api.post_server_action(server['id'], {'migrate': None})
        self.wait_for(server, 'VERIFY_RESIZE')
        self.assertEqual('plain', self.host_of(server))


class DatabaseFailureByTheFilterAloneTest(DatabaseFailureTest):
    PREFILTER = False
    test_stale_migration_records = None  # type: ignore[assignment]


class BugTest(FailureTestCase):
    """A bug of this project's own: any other exception would leave servers in ERROR."""

    def test_in_the_rules(self):
        """Plain guests boot; page sizes and live migrations are refused, without harm."""
        self.start('disk', 'plain')

        def buggy(facts, policy):
            if facts != rules.RequestFacts():
                raise KeyError('a bug')
            return rules.decide(facts, policy)

        with mock.patch.object(decision, 'decide', buggy):
            server = self.guest('plain', host='disk')
            self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
            refused = self.guest('small pages')
            self.assertEqual('ERROR', refused['status'])
            self.assert_reported(NOT_KNOWN, self.fault_of(refused))
            self.assert_refused(server, NOT_KNOWN)

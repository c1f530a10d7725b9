# SPDX-License-Identifier: Apache-2.0
"""Placement or a database away, half-made or wrong: who goes on, and who is stopped.

A request that has nothing to do with file-backed memory goes on; one that has is refused.
"""

import json
from unittest import mock

import fixtures
import nova.conf
import requests
import testtools
from keystoneauth1 import exceptions as ksa_exceptions
from nova import context as nova_context
from nova import exception, objects
from nova.compute import task_states
from nova.scheduler import request_filter
from nova.scheduler.client import report
from oslo_config import cfg
from oslo_db import exception as db_exception

import fbm_filters
from fbm_filters import decision, live_migration, prefilter, rules
from fbm_placement import names
from tests.functional.nova import cloud

AWAY = ksa_exceptions.ConnectFailure('Unable to establish connection to http://placement')


def _response(status, text):
    response = requests.Response()
    response.status_code = status
    response._content = text.encode()
    return response


class TroubleTestCase(cloud.CloudTestCase):
    """Helpers."""

    def placement_says(self, what):
        """Let what only this project asks of Placement end thus: an exception or a response."""
        self.broken = True
        asked = ('/traits', '/resource_providers?required=')

        def breaking(original):
            def method(client, url, *args, **kwargs):
                ours = url.startswith(asked) or url.endswith('/traits')
                if not (self.broken and ours):
                    return original(client, url, *args, **kwargs)
                if isinstance(what, Exception):
                    raise what
                return what

            return method

        for name in ('get', 'put'):
            method = breaking(getattr(report.SchedulerReportClient, name))
            self.useFixture(
                fixtures.MockPatchObject(report.SchedulerReportClient, name, new=method)
            )

    def own_traits(self):
        """Return those of the three traits that exist."""
        found = self.placement.get(
            '/traits?name=startswith:CUSTOM_FILE_BACKED_MEMORY', version='1.39'
        )
        return set(found.body['traits'])

    def assert_told(self, words, text):
        """A user reads these words, where there is a pre-filter to say them."""
        if self.PREFILTER:
            self.assertIn(words, text)
        else:
            self.assertIn('No valid host', text)

    def assert_refused(self, server, words, host=None):
        """A live migration costs a failed migration and nothing else."""
        self.live_migrate(server, host, status='error')
        self.assert_told(words, self.told(server))


class NewCloudTest(TroubleTestCase):
    """No agent has run yet, or someone has cleaned up too much."""

    REFRESH_INTERVAL = 1

    def test_no_trait_exists(self):
        """To name one would stop every boot in the cloud: they are created first."""
        self.start('plain', passes=False)
        self.assertEqual(set(), self.own_traits())
        for guest in ('plain', 'small pages'):
            server = self.guest(guest)
            self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        self.assertEqual(names.OWN_TRAITS, self.own_traits())

    def test_a_trait_is_deleted(self):
        """It is created again, after no more than the refresh interval."""
        self.start('plain', passes=False)
        self.guest('plain')
        for trait in names.OWN_TRAITS:
            self.placement.delete(f'/traits/{trait}', version='1.39')
        self.assertEqual(set(), self.own_traits())
        self.outdate()
        for guest in ('plain', 'small pages'):
            server = self.guest(guest)
            self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        self.assertEqual(names.OWN_TRAITS, self.own_traits())

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
    """With ``prefilter = false``."""

    PREFILTER = False


class PlacementTroubleTest(TroubleTestCase):
    """Placement answers what Nova asks, but not what this project does."""

    REFRESH_INTERVAL = 1

    def check(self, answer, words):
        """Refuse what depends on the answer, and nothing else."""
        self.start('plain', 'plain-2')
        self.placement_says(answer)
        server = self.guest('small pages')
        self.assertEqual('ERROR', server['status'])
        self.assert_told('needs a host without file-backed memory, but', self.fault_of(server))
        self.assert_told(words, self.fault_of(server))
        server = self.guest('plain', host='plain')
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        self.assert_refused(
            server, 'File-backed memory: where this instance may go could not be found out'
        )
        self.assert_refused(
            server, 'File-backed memory: where this instance may go', host='plain-2'
        )
        self.broken = False
        self.outdate()
        self.live_migrate(server)
        self.assertEqual('plain-2', self.host_of(server))

    def test_it_is_away(self):
        """No connection."""
        self.check(AWAY, 'Placement does not answer')

    def test_it_fails(self):
        """500."""
        self.check(
            _response(500, 'The server has <b>either</b> erred'), 'Placement does not answer'
        )

    def test_it_answers_with_a_page(self):
        """200 from something else, say a proxy."""
        self.check(_response(200, '<html>Welcome!</html>'), 'Placement does not answer')

    def test_it_answers_with_something_else(self):
        """200 and JSON that is not Placement's."""
        self.check(_response(200, json.dumps({'hello': 'world'})), 'Placement does not answer')


class PlacementTroubleByTheFilterAloneTest(PlacementTroubleTest):
    """With ``prefilter = false``."""

    PREFILTER = False
    test_it_fails = None
    test_it_answers_with_a_page = None


class DatabaseTroubleTest(TroubleTestCase):
    """What the cell's database knows is needed to tell a live migration from other moves."""

    def failing(self, **methods):
        """Let live_migration.py, and nothing else, read this from the database."""
        fake = mock.Mock()
        for name, result in methods.items():
            is_error = isinstance(result, Exception)
            getattr(fake, name).get_by_uuid = mock.Mock(
                **{'side_effect' if is_error else 'return_value': result}
            )
            fake.ComputeNode.get_by_host_and_nodename = mock.Mock(
                side_effect=exception.ComputeHostNotFound(host='disk')
            )
        return mock.patch.object(live_migration, 'objects', fake)

    def test_live_migration(self):
        """Refused while the database is away, or knows no such instance or compute node."""
        self.start('disk', 'tmpfs')
        server = self.guest('plain', host='disk')
        cannot_tell = 'File-backed memory: where this instance may go could not be found out'
        for result in (
            db_exception.DBConnectionError(),
            exception.InstanceNotFound(instance_id=server['id']),
            mock.Mock(task_state=task_states.MIGRATING, host='disk', node='disk'),
        ):
            with self.failing(Instance=result):
                self.assert_refused(server, cannot_tell)
                self.assert_refused(server, cannot_tell, host='tmpfs')
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


class DatabaseTroubleByTheFilterAloneTest(DatabaseTroubleTest):
    """With ``prefilter = false``."""

    PREFILTER = False
    test_stale_migration_records = None


class BugTest(TroubleTestCase):
    """A bug of this project's own: any other exception would leave servers in ERROR."""

    def test_in_the_facts(self):
        """The names that a request mentions decide."""
        self.start('disk', 'plain')
        with mock.patch.object(decision.facts, 'read', side_effect=KeyError('a bug')):
            self.check()

    def test_in_the_rules(self):
        """They are asked once more, as for a request without any facts."""
        self.start('disk', 'plain')

        def buggy(facts, policy):
            if facts != rules.RequestFacts():
                raise KeyError('a bug')
            return rules.decide(facts, policy)

        with mock.patch.object(decision, 'decide', buggy):
            self.check()

    def check(self):
        """Plain guests boot; page sizes and live migrations are refused, without harm."""
        server = self.guest('plain', host='disk')
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        refused = self.guest('small pages')
        self.assertEqual('ERROR', refused['status'])
        self.assert_told('File-backed memory: where this instance may go', self.fault_of(refused))
        self.assert_refused(server, 'File-backed memory: where this instance may go')

    def test_in_the_traits(self):
        """Even there the pre-filter raises nothing but what Nova expects."""
        (ours,) = (
            f for f in request_filter.ALL_REQUEST_FILTERS if isinstance(f, prefilter.PreFilter)
        )
        self.start('disk', 'plain')
        with mock.patch.object(ours._traits, 'ensure', side_effect=KeyError('a bug')):
            server = self.guest('plain', host='disk')
            self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
            server = self.guest('small pages')
        self.assertEqual('ERROR', server['status'])
        self.assertIn('File-backed memory: ', self.fault_of(server))


class WrongOptionTest(testtools.TestCase):
    """A scheduler that can't know what is wanted doesn't start."""

    def setUp(self):
        """Take back what a filter registers."""
        super().setUp()
        before = list(request_filter.ALL_REQUEST_FILTERS)
        self.addCleanup(request_filter.ALL_REQUEST_FILTERS.__setitem__, slice(None), before)

    def filter_with(self, setting):
        """Make the filter as nova-scheduler does at its start."""
        path = self.useFixture(fixtures.TempDir()).join('nova.conf')
        with open(path, 'w', encoding='utf-8') as out:
            out.write(f'[file_backed_memory]\n{setting}\n')
        conf = cfg.ConfigOpts()
        conf([], project='nova', default_config_files=[path], default_config_dirs=[])
        with mock.patch.object(nova.conf, 'CONF', conf):
            return fbm_filters.FileBackedMemoryFilter()

    def test_wrong_values(self):
        """The message names option, file and what is wrong."""
        for option, value, wrong in (
            ('default_policy', 'maybe', "Valid values are [any, forbidden], but found 'maybe'"),
            ('incompatible', 'foo', "but found 'foo'"),
            ('incompatible', 'page_size,foo', "but found 'foo'"),
            ('prefilter', 'perhaps', "Unexpected boolean value 'perhaps'"),
            ('refresh_interval', '0', 'Should be greater than or equal to 1'),
            ('refresh_interval', 'soon', "'soon'"),
        ):
            try:
                self.filter_with(f'{option} = {value}')
            except cfg.ConfigFileValueError as error:
                for word in (option, 'nova.conf', wrong):
                    self.assertIn(word, str(error))
            else:
                self.fail(f'{option} = {value} was taken')

    def test_right_values(self):
        """An empty list is one."""
        self.filter_with('default_policy = forbidden\nincompatible =')

# SPDX-License-Identifier: Apache-2.0
"""Placement or a database away, half-made or wrong: who goes on, and who is stopped.

A request that has nothing to do with file-backed memory goes on; one that has is refused.
"""

import threading
import time
from unittest import mock

import fixtures
from keystoneauth1 import exceptions as ksa_exceptions
from nova import context as nova_context
from nova import exception, objects
from nova.compute import task_states
from nova.scheduler.client import report
from nova.virt import hardware
from oslo_db import exception as db_exception
from oslo_utils import uuidutils

from fbm_filters import decision, moves, rules
from fbm_placement import constants
from tests.functional.nova import cloud, costs

NOT_KNOWN = 'File-backed memory: where this instance may go could not be determined'


class FailureTestCase(cloud.CloudTestCase):
    def setUp(self):
        super().setUp()
        self.is_back()
        paths = ('/traits', '/resource_providers?required=')

        def disturbed(original):
            def method(client, url, *args, **kwargs):
                if url.startswith(paths) or url.endswith('/traits'):
                    self.disturb()
                return original(client, url, *args, **kwargs)

            return method

        for name in ('get', 'put'):
            method = disturbed(getattr(report.SchedulerReportClient, name))
            self.useFixture(
                fixtures.MockPatchObject(report.SchedulerReportClient, name, new=method)
            )

    # What Placement does with the requests that only this project sends.

    def is_back(self):
        def disturb():
            pass

        self.disturb = disturb

    def is_away(self):
        def disturb():
            raise ksa_exceptions.ConnectFailure('Unable to establish connection')

        self.disturb = disturb

    def is_slow(self):
        def disturb():
            time.sleep(2)

        self.disturb = disturb

    def hangs(self):
        over = threading.Event()
        self.addCleanup(over.set)

        def disturb():
            over.wait()

        self.disturb = disturb

    def scheduler_knows_nothing(self):
        """As if it had just been started."""
        self.cache.close()

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

    def test_no_trait_exists(self):
        """No query names one, so none stops a boot; the scheduler's thread creates them again."""
        self.start('plain', passes=False)
        self.assertEqual(set(), self.own_traits())
        self.boots_go_on()
        self.let_scheduler_read()
        self.assertEqual(constants.OWN_TRAITS, self.own_traits())
        for trait in constants.OWN_TRAITS:
            self.placement.delete(f'/traits/{trait}', version='1.39')
        self.assertEqual(set(), self.own_traits())
        self.boots_go_on()
        self.assertNotIn('Got 400', self.stdlog.logger.output)
        self.let_scheduler_read()
        self.assertEqual(constants.OWN_TRAITS, self.own_traits())

    def boots_go_on(self):
        for guest in ('plain', 'small pages'):
            server = self.guest(guest)
            self.assertEqual('ACTIVE', server['status'], self.fault_of(server))

    def test_the_last_unhealthy_host_recovers(self):
        """Only then can the trait be deleted."""
        url = '/traits/CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'
        self.start('plain', 'sick')
        self.assertEqual(409, self.placement.delete(url, version='1.39').status)
        self.let_agent_pass('sick', healthy=True)
        self.assertEqual(204, self.placement.delete(url, version='1.39').status)
        self.boots_go_on()
        self.let_agent_pass('sick', healthy=False)
        self.assertEqual('ERROR', self.guest('required')['status'])

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

    # Five of them are enough for a boot on a busy machine.
    REFRESH_INTERVAL = 4

    def test_nothing_is_known(self):
        """What depends on the answer is refused, and nothing else."""
        self.start('plain', 'plain-2')
        self.scheduler_knows_nothing()
        self.is_away()
        server = self.guest('small pages')
        self.assertEqual('ERROR', server['status'])
        self.assert_reported('needs a host without file-backed memory, but', self.fault_of(server))
        self.assert_reported('Placement does not answer', self.fault_of(server))
        server = self.guest('plain', host='plain')
        self.assertEqual('ACTIVE', server['status'], self.fault_of(server))
        for host in (None, 'plain-2'):
            self.assert_refused(server, NOT_KNOWN, host)
        self.is_back()
        self.let_scheduler_read()
        self.live_migrate(server)
        self.assertEqual('plain-2', self.host_of(server))

    def test_what_was_known_is_too_old(self):
        """After five intervals it is as if nothing was known."""
        self.start('disk', 'plain')
        self.is_away()
        self.assertEqual('ACTIVE', self.guest('small pages')['status'])
        time.sleep(6 * self.REFRESH_INTERVAL)
        self.assertEqual('ERROR', self.guest('small pages')['status'])
        self.assertEqual('ACTIVE', self.guest('plain')['status'])


class PlacementAwayByTheFilterAloneTest(PlacementAwayTest):
    PREFILTER = False


MAY_GO_TO = {'plain': {'disk', 'plain', 'plain-2'}, 'small pages': {'plain', 'plain-2'}}
"""Hosts, by the kind of the guest."""


class BadMinuteTest(FailureTestCase):
    """Fifty boots at once while Placement hangs, fails, is slow, and is back again."""

    AT_ONCE = 50

    def setUp(self):
        super().setUp()
        self.flags(initial_cpu_allocation_ratio=32.0)  # four processors, for half of them

    def test_boots(self):
        """None takes noticeably longer, and none goes where it must not."""
        self.start('disk', 'plain', 'plain-2', 'sick')
        admin = nova_context.get_admin_context()
        self.flavors = {
            kind: objects.Flavor.get_by_flavor_id(
                admin,
                self._create_flavor(
                    memory_mb=64, vcpu=1, disk=0, ephemeral=0, extra_spec=cloud.GUESTS[kind]
                ),
            )
            for kind in MAY_GO_TO
        }
        self.schedule(2)  # what is imported and cached at the first time
        for disturbed in (self.hangs, self.is_away, self.is_slow, self.is_back):
            disturbed()
            self.let_thread_meet_it()
            spent = self.schedule(self.AT_ONCE)
            print(f'{disturbed.__name__}: {spent.ours:.3f} s of {spent.whole:.3f} s')
            self.assertLess(spent.ours, 0.05 * (spent.whole - spent.ours))

    def let_thread_meet_it(self):
        asking = threading.Thread(target=self._knows, args=(self.cache.now(),), daemon=True)
        asking.start()
        asking.join(0.2)

    def schedule(self, count):
        """Send so many requests to the scheduler at once, as the conductor does for boots."""
        kinds = [sorted(MAY_GO_TO)[number % 2] for number in range(count)]
        specs = [self.request(self.flavors[kind]) for kind in kinds]
        hosts = ['none'] * count

        def boot(number):
            uuids = [specs[number].instance_uuid]
            admin = nova_context.get_admin_context()
            try:
                [[selected]] = self.scheduler.manager.select_destinations(
                    admin, spec_obj=specs[number], instance_uuids=uuids, return_objects=True
                )
                hosts[number] = selected.service_host
            except Exception as exc:  # noqa: BLE001 - asserted below
                hosts[number] = repr(exc)

        with costs.Spent() as spent:
            threads = [threading.Thread(target=boot, args=(number,)) for number in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        for kind, asked, host in zip(kinds, specs, hosts, strict=True):
            self.assertIn(host, MAY_GO_TO[kind])
            self.placement.delete(f'/allocations/{asked.instance_uuid}', version='1.39')
        self.assertEqual(count, spent.calls)
        return spent

    def request(self, flavor):
        image = objects.ImageMeta(properties=objects.ImageMetaProps())
        made = objects.RequestSpec.from_components(
            nova_context.RequestContext('user', 'project'),
            uuidutils.generate_uuid(),
            image,
            flavor,
            hardware.numa_get_constraints(flavor, image),
            objects.InstancePCIRequests(requests=[]),
            {},
            None,
            None,
        )
        made.is_bfv = False
        return made


class BadMinuteByTheFilterAloneTest(BadMinuteTest):
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

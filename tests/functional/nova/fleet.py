# SPDX-License-Identifier: Apache-2.0
"""A fleet of libvirt computes in one process, each with its own [libvirt]file_backed_memory."""

import contextlib
import contextvars
import functools
import time
import urllib.parse

import fixtures
import nova.conf
from lxml import etree
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional import integrated_helpers
from nova.tests.functional.libvirt import base

from fbm_filters import options as scheduler_options
from fbm_placement import conf as configuration
from fbm_placement import constants, model
from fbm_placement.agent import reconcile
from fbm_placement.model import Problem, Provider
from fbm_placement.placement import session
from fbm_placement.rules import publish

_here = contextvars.ContextVar('file_backed_memory_here', default=None)


class _View:
    """Reads like the object behind it, except for the names in ``answers``."""

    def __init__(self, behind, **answers):
        self._behind = behind
        self._answers = answers

    def __getattr__(self, name):
        if name in self._answers:
            return self._answers[name]()
        return getattr(self._behind, name)


class PerHostOption(fixtures.Fixture):
    """Lets nova.virt.libvirt read [libvirt]file_backed_memory of the host whose code runs."""

    starting = 0  # the host that is being started: its threads know no better

    def _setUp(self):
        from nova.virt.libvirt import driver, host

        for module in (driver, host):
            conf = module.CONF

            def libvirt(conf=conf):
                mine = self.starting if _here.get() is None else _here.get()
                return _View(conf.libvirt, file_backed_memory=lambda: mine)

            self.useFixture(fixtures.MockPatchObject(module, 'CONF', _View(conf, libvirt=libvirt)))


@contextlib.contextmanager
def host_has(megabytes):
    token = _here.set(megabytes)
    try:
        yield
    finally:
        _here.reset(token)


def _on_host(megabytes, method):
    @functools.wraps(method)
    def wrapper(*args, **kwargs):
        with host_has(megabytes):
            return method(*args, **kwargs)

    return wrapper


def _memory_source(xml):
    source = etree.fromstring(xml).find('memoryBacking/source')
    return 'none' if source is None else source.get('type')


def _noting_memory_source(method):
    """Keep what a guest was started with: the fixture's Domain forgets <memoryBacking>."""

    @functools.wraps(method)
    def wrapper(xml, *args, **kwargs):
        domain = method(xml, *args, **kwargs)
        domain.memory_source = _memory_source(xml)
        return domain

    return wrapper


def _with_a_fresh_job(connection, method):
    """Forget how the last migration ended: the fixture's Domain would report it for the next."""

    @functools.wraps(method)
    def wrapper(context, instance, *args, **kwargs):
        connection.lookupByUUIDString(
            instance.uuid
        )._job_type = fakelibvirt.VIR_DOMAIN_JOB_UNBOUNDED
        return method(context, instance, *args, **kwargs)

    return wrapper


def _info_in_mebibytes(connection):
    """Return mebibytes, as libvirt-python does; the fixture returns its kibibytes."""
    info = connection.host_info
    return [
        info.arch,
        info.kB_mem // 1024,
        info.cpus,
        info.cpu_mhz,
        info.cpu_nodes,
        info.cpu_sockets,
        info.cpu_cores,
        info.cpu_threads,
    ]


class FleetTestCase(
    base.LibvirtMigrationMixin, base.ServersTestBase, integrated_helpers.InstanceHelperMixin
):
    microversion = '2.88'
    ADMIN_API = True
    CAST_AS_CALL = False
    AVAILABLE_FILTERS: tuple[str, ...] = ('nova.scheduler.filters.all_filters',)

    def setUp(self):
        self.memory_of = {}  # host name -> [libvirt]file_backed_memory
        self.per_host = self.useFixture(PerHostOption())
        super().setUp()
        # Options of nova-compute that FBM demands; other hosts live with them too.
        self.flags(ram_allocation_ratio=1.0, reserved_host_memory_mb=0)
        self.flags(shelved_offload_time=0)
        self.useFixture(
            fixtures.MockPatch(
                'nova.virt.libvirt.LibvirtDriver.migrate_disk_and_power_off', return_value='{}'
            )
        )
        self.useFixture(fixtures.MockPatch('nova.virt.libvirt.LibvirtDriver.snapshot'))
        self.useFixture(
            fixtures.MonkeyPatch(
                'nova.tests.fixtures.libvirt.Connection.getInfo', _info_in_mebibytes
            )
        )

    def _setup_scheduler_service(self):
        self.flags(available_filters=list(self.AVAILABLE_FILTERS), group='filter_scheduler')
        return super()._setup_scheduler_service()

    # the hosts

    def start_host(self, name, file_backed_memory=0, **kwargs):
        self.per_host.starting = file_backed_memory
        self.start_compute(name, **kwargs)
        self.memory_of[name] = file_backed_memory
        driver = self.computes[name].driver
        for owner, method in (
            (driver, '_get_guest_memory_backing_config'),
            (driver, 'check_can_live_migrate_destination'),
            (driver, 'update_provider_tree'),
            (driver, 'get_available_resource'),
        ):
            setattr(owner, method, _on_host(file_backed_memory, getattr(owner, method)))
        connection = driver._host.get_connection()
        driver.live_migration = _with_a_fresh_job(connection, driver.live_migration)
        for method in ('defineXML', 'createXML'):
            setattr(connection, method, _noting_memory_source(getattr(connection, method)))
        return name

    # libvirt

    def _migrate_stub(self, domain, destination, params, flags):
        """Migrate between any two hosts, and refuse what libvirt refuses (DESIGN F17)."""
        wanted = _memory_source(params['destination_xml'])
        if wanted != domain.memory_source:
            domain.fail_job()  # the monitor of older releases would wait indefinitely
            raise fakelibvirt.make_libvirtError(
                fakelibvirt.libvirtError,
                "Target memoryBacking source '%s' doesn't match source memoryBacking source '%s'"
                % (wanted, domain.memory_source),
                error_code=fakelibvirt.VIR_ERR_INTERNAL_ERROR,
                error_domain=fakelibvirt.VIR_FROM_QEMU,
            )
        # [libvirt]live_migration_uri becomes qemu+tcp://HOST/system
        target = urllib.parse.urlsplit(destination).hostname
        self.computes[target].driver._host.get_connection().createXML(params['destination_xml'], 0)
        domain.complete_job()
        self.migrate_stub_ran = True

    # Placement

    def conf_for_the_agent(self):
        """Return the configuration that the agent reads in a nova.conf of its own."""
        path = self.useFixture(fixtures.TempDir()).join('nova.conf')
        with open(path, 'w', encoding='utf-8') as out:
            out.write(
                '[placement]\nauth_type = admin_token\n'
                f'endpoint = {self.placement.fixture.endpoint}\n'
                f'token = {self.placement.fixture.token}\n'
            )
        return configuration.load(['--config-file', path], prog='fbm-agent', description='')

    def agent_pass(self, name, *, on_disk=True, healthy=True):
        placement = session.connect(self.conf_for_the_agent())
        placement.create_missing_traits(constants.OWN_TRAITS)
        offered = model.Settings(self.memory_of[name], 0, 'kvm', 1.0)
        goal = publish.target(
            offered,
            model.HostFacts(
                store_is_disk=on_disk,
                unhealthy=() if healthy else (Problem('test', 'set by a test'),),
            ),
        )
        provider = Provider(self.compute_rp_uuids[name], name, is_root=True)
        return reconcile.Reconciler(placement, provider).run_pass(goal)

    def inventory(self, name):
        url = f'/resource_providers/{self.compute_rp_uuids[name]}/inventories'
        return self.placement.get(url, version='1.39').body['inventories']['MEMORY_MB']

    # operations

    def host_of(self, server):
        return self.admin_api.get_server(server['id'])['OS-EXT-SRV-ATTR:host']

    def eventually(self, read, is_right, seconds=20):
        until = time.monotonic() + seconds
        while not is_right(found := read()):
            if time.monotonic() > until:
                self.fail(f'still, after {seconds} s: {found}')
            time.sleep(0.1)
        return found

    def live_migrate(self, server, host=None, status='completed', state='ACTIVE', **body):
        before = len(self.migrations(server))
        action = {'os-migrateLive': {'host': host, 'block_migration': 'auto', **body}}
        self.admin_api.post_server_action(server['id'], action)
        self.eventually(
            lambda: [m['status'] for m in self.migrations(server)[before:]],
            lambda found: found == [status],
        )
        return self.wait_for(server, status=state)

    def migrations(self, server):
        found = self.admin_api.api_get(f'/os-migrations?instance_uuid={server["id"]}')
        return sorted(found.body['migrations'], key=lambda migration: migration['id'])

    def events(self, server):
        action = self.admin_api.get_instance_actions(server['id'])[0]
        found = self.eventually(
            lambda: self.admin_api.get_instance_action_details(server['id'], action['request_id'])[
                'events'
            ],
            lambda events: events and all(event['finish_time'] for event in events),
        )
        return ' '.join(event.get('details') or '' for event in found)

    def wait_for(self, server, status, task_state=None):
        """Like Nova's own, whose signatures differ from release to release."""
        return self.eventually(
            lambda: self.admin_api.get_server(server['id']),
            lambda now: (now['status'], now['OS-EXT-STS:task_state']) == (status, task_state),
        )

    def settled(self, server):
        return self.eventually(
            lambda: self.admin_api.get_server(server['id']),
            lambda now: now['status'] != 'BUILD' and now['OS-EXT-STS:task_state'] is None,
        )

    def scheduler_flags(self, **options):
        """Set options in [file_backed_memory], which the filter registers when it is loaded."""
        scheduler_options.register_opts(nova.conf.CONF)
        self.flags(**options, group='file_backed_memory')

    def force_down(self, name):
        self.computes[name].stop()
        service = self.admin_api.get_services(binary='nova-compute', host=name)[0]
        self.admin_api.put_service_force_down(service['id'], True)

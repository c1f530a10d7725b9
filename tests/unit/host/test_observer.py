# SPDX-License-Identifier: Apache-2.0
"""One check after the other: guests in a /proc of the test's own, a store as the test says."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fbm_placement.hook import install
from fbm_placement.host import mounts, observer
from fbm_placement.host.observer import HostObserver, HostView
from fbm_placement.host.probe import Probe
from fbm_placement.host.publisher import StatePublisher
from fbm_placement.model import AgentOptions, Directory, HostFacts, Mount, Settings, Store
from fbm_placement.notices import Notices

ON = Settings(capacity_mib=1000, reserved_mib=100, virt_type='kvm', ram_allocation_ratio=1.0)
OFF = replace(ON, capacity_mib=0)
OPTIONS = AgentOptions(resource_provider=None, interval=60)
RECORDED = Path(__file__).parent / 'command_lines'
HUGE_UUID = 'd53de14c-1f58-47f3-9c80-b2fa2b2b1db2'
DRAM_UUID = '9ab4427a-ae99-4aa5-af53-9c86e36cb79a'


class World:
    def __init__(self, path):
        self.proc, self.hooks, self.run_time_xml = (path / n for n in ('proc', 'hooks', 'xml'))
        for directory in (self.proc, self.hooks, self.run_time_xml):
            directory.mkdir()
        self.qemu_conf = path / 'qemu.conf'
        self.qemu_conf.write_text('memory_backing_dir = "/srv/fbm"\n')
        self.store = Store(
            '/srv/fbm',
            mount=Mount('/srv/fbm', 'xfs', '/dev/nvme0n1'),
            directories=(Directory('/srv/fbm/libvirt/qemu', 0o755, 0),),
            size_bytes=1000 * 2**20,
            free_bytes=900 * 2**20,
            expected_mount='/srv/fbm',
        )
        self.asked = []
        self.waited = []
        self.after_wait = None
        """The store after the observer has waited."""
        self.restart()

    def restart(self):
        self.host = HostObserver(
            proc=str(self.proc),
            qemu_conf=str(self.qemu_conf),
            hooks_dir=str(self.hooks),
            run_time_xml=str(self.run_time_xml),
            wait=self.wait,
        )

    def wait(self, seconds):
        self.waited.append(seconds)
        self.store = self.after_wait or self.store

    def observe_store(self, path, guests, probe):
        self.asked.append((path, *(guest.name for guest in guests)))
        return replace(self.store, path=path)

    def run(self, pid, recorded):
        directory = self.proc / str(pid)
        directory.mkdir()
        line = (RECORDED / f'{recorded}.txt').read_bytes().replace(b'\n', b'\0')
        (directory / 'cmdline').write_bytes(line)

    def end(self, pid):
        (self.proc / str(pid) / 'cmdline').unlink()
        (self.proc / str(pid)).rmdir()

    def view(self, settings=ON, options=OPTIONS):
        return self.host.observe(settings, options)

    def facts(self, settings=ON):
        return self.view(settings).facts

    def problems(self, settings=ON):
        return [problem.text for problem in self.facts(settings).unhealthy]


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path)
    monkeypatch.setattr(observer, 'observe_store', made.observe_store)
    return made


def test_a_host_without_a_problem(world):
    world.run(7, 'file-backed-shared')
    assert world.view() == HostView(
        HostFacts(guests_enabled=True), world.store, draining_uuids=(), warning=None
    )
    assert world.asked == [('/srv/fbm', 'fb')]
    world.store = replace(world.store, mount=Mount('/srv/fbm', 'tmpfs', 'tmpfs'))
    assert not world.facts().store_is_disk


def test_a_store_that_is_mounted_late_is_healthy_with_the_first_check(world):
    """Until then its kind is not known: what is there is another filesystem, or none."""
    good = world.store
    for store in (
        Store('/srv/fbm', expected_mount='/srv/fbm'),
        replace(good, mount=Mount('/', 'ext4', 'sda1')),
        replace(good, error='it does not answer'),
    ):
        world.store = store
        facts = world.facts()
        assert (facts.settling, facts.store_is_disk, len(facts.unhealthy)) == (True, None, 1)
    world.store = good
    assert world.facts() == HostFacts()


@pytest.mark.parametrize('directory', ['/tmp/ram', '/var/tmp/a/b'])
def test_a_directory_for_temporary_files_is_no_store(world, directory):
    """By its path: a service sees another directory there, and the doctor none of its own."""
    facts = world.view(options=replace(OPTIONS, memory_backing_dir=directory)).facts
    assert facts.unhealthy[0].text.startswith(
        f'the store {directory} is in a directory for temporary files, from which systemd-tmpfiles'
    )
    assert world.asked == []
    world.view(options=replace(OPTIONS, memory_backing_dir='/srv/tmp/ram'))
    assert world.asked == [('/srv/tmp/ram',)]


def test_half_a_hook_closes_an_enabled_host(world):
    """It would refuse what comes; and three checks without that open the host again."""
    install.install(str(world.hooks))
    assert world.problems() == []
    program = world.hooks / 'qemu.d' / install.PROGRAM
    program.unlink()
    (problem,) = world.problems()
    assert f'{program} is missing' in problem
    assert world.problems(OFF) == []
    install.install(str(world.hooks))
    assert [bool(world.problems()) for _ in range(4)] == [True, True, False, False]


def test_the_store_need_not_hold_the_reserve(world):
    """Placement lets no client allocate it: 1000 less 100 fits into 900 exactly."""
    assert world.problems() == []
    world.store = replace(world.store, free_bytes=899 * 2**20)
    assert '900 MiB, of which running guests hold 0, and 899' in world.problems()[0]


def test_a_disabled_host_without_guests_is_so_at_once(world):
    world.store = replace(world.store, mount=None)
    assert world.view(OFF) == HostView(HostFacts())
    assert world.asked == []


def test_a_host_turned_on_with_dram_guests_drains_until_the_last_has_gone(world):
    world.run(7, 'dram')
    world.run(8, 'huge')
    world.run(9, 'file-backed-shared')
    facts = world.facts()
    assert (facts.draining, facts.guests_enabled) == (True, None)
    assert '2 running guests are not file-backed' in facts.unhealthy[0].text
    world.end(9)
    assert world.facts().guests_enabled is False
    world.end(8)
    assert '1 running guest is' in world.problems()[0]
    # A guest that restarts has no process for a moment, and may start again.
    for _ in range(2):
        world.end(7)
        view = world.view()
        assert (view.facts.draining, view.facts.unhealthy[0].recovering) == (True, True)
        assert set(view.draining_uuids) == {DRAM_UUID, HUGE_UUID}
        world.run(7, 'dram')
        assert '1 running guest is' in world.problems()[0]
    world.end(7)
    assert [world.facts().draining for _ in range(2)] == [True, False]
    assert world.view() == HostView(HostFacts(), world.store)


def test_a_host_turned_off_with_file_backed_guests_drains(world):
    world.run(7, 'file-backed-shared')
    world.run(8, 'file-backed-shared-not-nova')
    view = world.view(OFF)
    assert view.facts.draining
    assert '1 running guest is still file-backed: fb' in view.facts.unhealthy[0].text
    assert view.draining_uuids == ('eacecd40-fdfb-459b-99f3-9f40681ac112',)


def test_without_qemu_conf_the_store_is_known_from_the_option_only(world):
    """A store that can't be found is unfit, and counts as disk."""
    world.qemu_conf.unlink()
    world.qemu_conf.mkdir()
    view = world.view()
    assert 'expected to read memory_backing_dir' in view.facts.unhealthy[0].text
    assert view.facts.store_is_disk
    assert (view.store, world.asked) == (None, [])
    options = replace(OPTIONS, memory_backing_dir='/mnt/ram')
    assert world.view(options=options).store is not None
    assert world.asked == [('/mnt/ram',)]


def test_a_store_that_was_unmounted_is_missed_also_by_the_next_process(world):
    """Its directory is still there; host.json has the mount, what was wrong, and how far it is."""
    good = world.store = replace(world.store, expected_mount=None)
    publisher = StatePublisher(Notices(time.monotonic))
    world.view()
    world.store = replace(good, mount=Mount('/srv', 'xfs', '/dev/sda1'))
    for _ in range(2):
        view = world.view()
        assert '/srv/fbm is on /srv, expected on /srv/fbm' in view.facts.unhealthy[0].text
        publisher.publish(view, ON, OPTIONS)
        world.restart()
    world.store = good
    for _ in range(2):
        view = world.view()
        assert view.facts.unhealthy[0].recovering
        publisher.publish(view, ON, OPTIONS)
        world.restart()
    assert world.problems() == []


def test_the_root_filesystem_is_not_expected_again(world):
    world.store = replace(world.store, mount=Mount('/', 'ext4', 'sda1'), expected_mount=None)
    assert [world.view().store.expected_mount for _ in range(2)] == [None, None]


def test_a_guest_that_is_just_going_makes_no_store_too_small(world):
    """Its file goes a moment after its process."""
    good, small = world.store, replace(world.store, free_bytes=0)
    world.store, world.after_wait = small, good
    assert world.problems() == []
    world.store = world.after_wait = small
    assert 'free: 900 MiB too little' in world.problems()[0]
    assert world.waited == [1.0, 1.0]
    # Once it is known, it isn't waited for any more.
    world.problems()
    assert (len(world.waited), len(world.asked)) == (2, 5)


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a process to another user')
def test_a_guest_of_any_user_counts(world):
    """In containers QEMU has a user id that this host gives no user, as Kolla's 42427."""
    world.run(7, 'centos-guest-of-uid-42436')
    os.chown(world.proc / '7', 42436, -1)
    world.qemu_conf.write_text('user = "+64055"\n')
    assert '1 running guest is not file-backed: instance-00000001' in world.problems()[0]


def test_a_guest_of_another_architecture_is_known_by_its_name_or_libvirts_xml(world):
    world.run(7, 'aarch64-instance-name-is-a-uuid')
    assert not world.facts(OFF).draining
    assert world.facts(replace(OFF, instance_name_template='instance-%(uuid)s')).draining
    world.end(7)
    for _ in range(4):
        world.view(OFF)
    world.run(7, 'aarch64-instance-name-is-a-uuid')
    uuid = '00000000-1111-4222-8333-444444444444'
    (world.run_time_xml / f'instance-{uuid}.xml').write_text(
        f'<uuid>{uuid}</uuid><n:instance xmlns:n="http://openstack.org/xmlns/libvirt/nova/1.1"/>'
    )
    assert world.facts(OFF).draining


def test_memory_given_by_a_path_is_of_huge_pages_where_the_guest_sees_them(world):
    world.run(7, 'mem-path')
    assert world.facts(OFF).draining
    mounts_of_guest = '9 1 0:8 / /srv/store rw - hugetlbfs none rw\n'
    (world.proc / '7/mountinfo').write_text(mounts_of_guest)
    assert [world.facts(OFF).draining for _ in range(4)][-1] is False
    assert 'huge pages' in world.problems()[0]


@pytest.mark.parametrize('settings', [ON, OFF])
def test_where_guests_cannot_be_seen_the_published_state_stays(world, monkeypatch, settings):
    """An enabled host is closed; with gid= of a group of the agent's, or as root, it sees them."""
    hiding = Mount(str(world.proc), 'proc', 'proc', options=frozenset({'rw', 'hidepid=invisible'}))
    monkeypatch.setattr(mounts, 'read_mounts', lambda: (hiding,))
    view = world.view(settings)
    assert (view.facts.draining, view.facts.guests_seen) == (True, False)
    closed = [problem.text for problem in view.facts.unhealthy]
    (reason,) = closed if settings.enabled else (view.warning,)
    assert 'mounted with hidepid=invisible' in reason
    assert (view.warning is None, len(closed)) == ((True, 1) if settings.enabled else (False, 0))
    assert (view.store is not None) is settings.enabled
    world.run(1, 'file-backed-shared-not-nova')
    assert (world.problems(settings), world.view(settings).warning) == ([], None)


def test_a_guest_that_hangs_does_not_hang_the_check(world, monkeypatch):
    """Its command line is read from its memory, whose lock it may hold indefinitely."""
    monkeypatch.setattr(observer.processes, 'running_guests', lambda *_: time.sleep(60))
    world.host._guest_probe = Probe(seconds=0.2)
    view = world.view()
    assert 'reading their command lines gave no answer' in view.facts.unhealthy[0].text
    assert view.facts.draining


def test_the_machines_own_processes_can_be_read():
    """Whatever runs here: no process, and no end of one in between, is an error."""
    assert isinstance(observer.processes.running_guests('instance-%08x'), tuple)

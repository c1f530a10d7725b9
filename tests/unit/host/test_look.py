# SPDX-License-Identifier: Apache-2.0
"""One look after the other: guests in a /proc of the test's own, a store as the test says."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fbm_placement.hook import installation
from fbm_placement.host import health, look, mounts
from fbm_placement.host.announce import state_of
from fbm_placement.host.look import HostObserver
from fbm_placement.host.mounts import Mount
from fbm_placement.host.probe import Probe
from fbm_placement.host.store import Directory, Store
from fbm_placement.settings import AgentOptions, Settings

ON = Settings(capacity_mib=1000, reserved_mib=100, virt_type='kvm', ram_allocation_ratio=1.0)
OFF = replace(ON, capacity_mib=0)
OPTIONS = AgentOptions(resource_provider=None, interval=60)
RECORDED = Path(__file__).parent / 'command_lines'
HUGE_UUID = 'd53de14c-1f58-47f3-9c80-b2fa2b2b1db2'
DRAM_UUID = '9ab4427a-ae99-4aa5-af53-9c86e36cb79a'


class World:
    """A host that a test changes between two looks."""

    def __init__(self, path):
        self.proc = path / 'proc'
        self.proc.mkdir()
        self.qemu_conf = path / 'qemu.conf'
        self.qemu_conf.write_text('memory_backing_dir = "/srv/fbm"\n')
        self.store = Store(
            '/srv/fbm',
            mount=Mount('/srv/fbm', 'xfs', '/dev/nvme0n1'),
            directories=(Directory('/srv/fbm/libvirt/qemu', 0o755, 0),),
            size_bytes=1000 * health.MIB,
            free_bytes=900 * health.MIB,
        )
        self.asked = []
        self.going = []
        """What is seen of the store in its next looks."""
        self.hooks = path / 'hooks'
        self.hooks.mkdir()
        self.host = HostObserver(
            proc=str(self.proc), qemu_conf=str(self.qemu_conf), hooks_dir=str(self.hooks)
        )

    def observe_store(self, path, ram_files, probe, others_files):
        self.asked.append((path, *ram_files))
        if self.going:
            self.store = self.going.pop(0)
        return replace(self.store, path=path)

    def run(self, pid, recorded):
        directory = self.proc / str(pid)
        directory.mkdir()
        line = (RECORDED / f'{recorded}.txt').read_bytes().replace(b'\n', b'\0')
        (directory / 'cmdline').write_bytes(line)

    def end(self, pid):
        (self.proc / str(pid) / 'cmdline').unlink()
        (self.proc / str(pid)).rmdir()

    def look(self, settings=ON, options=OPTIONS):
        return self.host.observe(settings, options)


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path)
    monkeypatch.setattr(look, 'observe_store', made.observe_store)
    monkeypatch.setattr(look, 'GOING_SECONDS', 0.0)
    return made


def test_half_a_hook_closes_an_enabled_host(world):
    """It would refuse what comes; and three looks without that open the host again."""
    installation.install(str(world.hooks))
    assert world.look().facts.unhealthy == ()
    program = world.hooks / 'qemu.d' / installation.PROGRAM
    program.unlink()
    (reason,) = world.look().facts.unhealthy
    assert f'{program} is missing' in reason.text
    assert world.look(OFF).facts.unhealthy == ()
    installation.install(str(world.hooks))
    assert [bool(world.look().facts.unhealthy) for _ in range(3)] == [True, True, False]


def test_a_host_on_which_nothing_is_wrong(world):
    world.run(7, 'file-backed-shared')
    view = world.look()
    assert (view.facts.draining, view.facts.unhealthy) == (False, ())
    assert view.facts.store_is_disk
    assert view.draining_uuids == ()
    assert world.asked == [('/srv/fbm', '/var/lib/nova/ram/libvirt/qemu/1-fb/pc.ram')]


def test_a_tmpfs_is_no_disk(world):
    world.store = replace(world.store, mount=Mount('/srv/fbm', 'tmpfs', 'tmpfs'))
    assert not world.look().facts.store_is_disk


def test_the_reserve_is_not_promised(world):
    """Placement lets nobody allocate it: 1000 less 100 fits into 900 exactly."""
    assert world.look().facts.unhealthy == ()
    world.store = replace(world.store, free_bytes=899 * health.MIB)
    assert (
        '900 MiB, of which running guests hold 0, and 899' in world.look().facts.unhealthy[0].text
    )


def test_on_a_disabled_host_nobody_looks_at_a_store(world):
    world.store = replace(world.store, mount=None)
    view = world.look(OFF)
    assert (view.facts.unhealthy, view.store, world.asked) == ((), None, [])


def test_turned_on_with_dram_guests_it_drains_until_the_last_has_gone(world):
    world.run(7, 'dram')
    world.run(8, 'huge')
    world.run(9, 'file-backed-shared')
    view = world.look()
    assert view.facts.draining
    assert '2 running guests are not file-backed' in view.facts.unhealthy[0].text
    assert DRAM_UUID in view.draining_uuids
    assert view.facts.guests_enabled is None
    world.end(9)
    assert world.look().facts.guests_enabled is False
    world.end(8)
    assert '1 running guest is' in world.look().facts.unhealthy[0].text
    world.end(7)
    # A guest that restarts has no process for a moment.
    view = world.look()
    assert view.facts.draining
    # Nor is it gone from those that may start again: the others' end is no end of its own.
    assert set(view.draining_uuids) == {DRAM_UUID, HUGE_UUID}
    assert view.facts.unhealthy[0].text.startswith('seen well 1 of 2 times')
    view = world.look()
    assert (view.facts.draining, view.facts.unhealthy, view.draining_uuids) == (False, (), ())


def test_a_guest_that_restarts_at_that_moment_drains_on(world):
    world.run(7, 'dram')
    world.look()
    world.end(7)
    world.look()
    world.run(7, 'dram')
    assert '1 running guest is' in world.look().facts.unhealthy[0].text
    world.end(7)
    assert world.look().facts.draining
    assert not world.look().facts.draining


def test_turned_off_with_file_backed_guests_it_drains(world):
    world.run(7, 'file-backed-shared')
    world.run(8, 'file-backed-shared-not-nova')
    view = world.look(OFF)
    assert view.facts.draining
    assert '1 running guest is still file-backed: fb' in view.facts.unhealthy[0].text
    assert view.draining_uuids == ('eacecd40-fdfb-459b-99f3-9f40681ac112',)


def test_a_host_without_guests_is_what_nova_conf_says_at_once(world):
    assert not world.look().facts.draining
    assert not world.look(OFF).facts.draining


def test_an_option_says_where_the_store_is(world):
    options = replace(OPTIONS, memory_backing_dir='/mnt/ram')
    world.look(options=options)
    assert world.asked == [('/mnt/ram',)]


def test_qemu_conf_that_cannot_be_read_makes_it_unhealthy_and_disk(world):
    """Nobody can promise what is in a store that he can't find."""
    world.qemu_conf.unlink()
    world.qemu_conf.mkdir()
    view = world.look()
    assert 'expected to read memory_backing_dir' in view.facts.unhealthy[0].text
    assert view.facts.store_is_disk
    assert view.store is None
    options = replace(OPTIONS, memory_backing_dir='/srv/fbm')
    assert world.look(options=options).store is not None


def test_a_store_that_was_unmounted_is_missed(world):
    """Its directory is still there, on a filesystem that would do otherwise."""
    world.look()
    world.store = replace(world.store, mount=Mount('/srv', 'xfs', '/dev/sda1'))
    for _ in range(2):
        (reason,) = world.look().facts.unhealthy
        assert '/srv/fbm is on /srv, expected on /srv/fbm' in reason.text


def test_a_restart_of_the_agent_heals_nothing(world):
    """What the last agent knew is in the state file: the mount, and what was wrong."""
    world.look()
    world.store = replace(world.store, mount=Mount('/srv', 'xfs', '/dev/sda1'))
    state = state_of(world.look(), ON, OPTIONS)
    again = HostObserver(proc=str(world.proc), qemu_conf=str(world.qemu_conf))
    again.restore(state)
    view = again.observe(ON, OPTIONS)
    assert 'expected on /srv/fbm' in view.facts.unhealthy[0].text
    world.store = replace(world.store, mount=Mount('/srv/fbm', 'xfs', '/dev/nvme0n1'))
    once_more = HostObserver(proc=str(world.proc), qemu_conf=str(world.qemu_conf))
    once_more.restore(state_of(view, ON, OPTIONS))
    assert once_more.observe(ON, OPTIONS).facts.unhealthy[0].text.startswith('seen well 1 of 3')


def test_an_ailment_ends_after_three_good_looks(world):
    good, world.store = world.store, replace(world.store, mount=None)
    world.look()
    world.store = good
    seen = [bool(world.look().facts.unhealthy) for _ in range(4)]
    assert seen == [True, True, False, False]


def test_a_guest_that_is_just_going_makes_no_store_too_small(world):
    """Its file goes a moment after its process."""
    good, small = world.store, replace(world.store, free_bytes=0)
    world.going = [small, good]
    assert world.look().facts.unhealthy == ()
    world.going = [small, small]
    assert 'cannot hold what is promised' in world.look().facts.unhealthy[0].text
    # Once it is known, it isn't waited for any more.
    world.asked.clear()
    world.look()
    assert len(world.asked) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a process to another user')
def test_whose_process_a_guest_is_counts(world):
    """Anybody can run a program under QEMU's name; qemu.conf says whom QEMU runs as."""
    world.run(7, 'dram')
    os.chown(world.proc / '7', 4242, -1)
    world.qemu_conf.write_text('user = "+64055"\n')
    assert not world.look().facts.draining
    os.chown(world.proc / '7', 64055, -1)
    assert world.look().facts.draining


@pytest.fixture
def hidden(monkeypatch):
    """Mount /proc so that a user sees its own processes only."""
    hiding = Mount('/proc', 'proc', 'proc', options=frozenset({'rw', 'hidepid=invisible'}))
    monkeypatch.setattr(mounts, 'read_mounts', lambda: (hiding,))
    monkeypatch.setattr(look.processes, '_can_read', lambda path: False)


def test_where_guests_cannot_be_seen_the_published_state_stays(world, hidden, monkeypatch):
    view = world.look()
    assert view.facts.draining
    assert not view.facts.guests_seen
    assert 'mounted with hidepid=invisible' in view.facts.unhealthy[0].text
    assert view.store is not None
    # With gid= of a group of the agent's, or as root, they are seen.
    monkeypatch.setattr(look.processes, '_can_read', lambda path: True)
    assert world.look().facts.unhealthy == ()


def test_where_guests_cannot_be_seen_a_disabled_host_is_not_closed(world, hidden):
    view = world.look(OFF)
    assert view.facts.unhealthy == ()
    assert not view.facts.guests_seen
    assert 'hidepid' in view.warning


def test_a_guest_that_hangs_does_not_hang_the_look(world, monkeypatch):
    """Its command line is read from its memory, whose lock it may hold for ever."""
    monkeypatch.setattr(look.processes, 'running_guests', lambda *_: time.sleep(60))
    world.host._guest_probe = Probe(seconds=0.2)
    view = world.look()
    assert 'reading their command lines gave no answer' in view.facts.unhealthy[0].text
    assert view.facts.draining


def test_the_machines_own_processes_can_be_read():
    """Whatever runs here: no process, and no end of one in between, is an error."""
    assert isinstance(look.processes.running_guests(), tuple)

# SPDX-License-Identifier: Apache-2.0
"""What the agent publishes of a host is what its guests are."""

from tests.e2e.cloud import DRAM_MIB, healthy, passes_until
from tests.e2e.lab.domain import DRAM, FILE_BACKED, Domain
from tests.e2e.lab.host import MEMORY_BACKING_DIR
from tests.e2e.lab.store import Tmpfs
from tests.services.expected import ENABLED_TRAIT, UNHEALTHY_TRAIT, inventory

ENABLED = {ENABLED_TRAIT}
CLOSED = {UNHEALTHY_TRAIT}


def assert_whole(guest, counted):
    assert guest.counter() >= counted
    assert guest.counts()
    assert guest.has_pattern()


def test_an_enabled_host(boot, fbm):
    boot(fbm.host, Domain(backing=FILE_BACKED))
    assert fbm.own_traits() == ENABLED
    assert fbm.compute.inventory() == inventory(512)
    state = fbm.state()
    assert (state.host, state.configured, state.hook_mode) == ('fbm', 'enabled', 'enforce')
    assert (state.may_restart, state.unhealthy) == ((), ())
    assert state.store.path == state.store.mount_point == MEMORY_BACKING_DIR
    assert state.store.filesystem == 'tmpfs'


def test_a_disabled_host(boot, dram):
    boot(dram.host, Domain())
    assert dram.own_traits() == set()
    assert dram.compute.inventory()['total'] == DRAM_MIB
    assert dram.state().configured == 'disabled'
    assert dram.state().store is None


def test_withdrawn_with_guests(boot, make_compute):
    """They stay, and a warning names them and what they can no longer do."""
    own = make_compute(store=Tmpfs(128))
    own.configure('libvirt', file_backed_memory=64)
    with own.agent():
        guest = boot(own.host, Domain(backing=FILE_BACKED, memory=32))
    done = own.withdraw()
    assert own.own_traits() == set()
    assert done.stdout.startswith('withdrawn: the traits of ')
    assert f'1 Nova guest is still file-backed here ({guest.name} ' in done.stderr
    assert 'live migrations from it fail' in done.stderr
    assert guest.counts()


def test_turned_on(boot, make_compute, dram):
    """The enabled trait comes when the last old Nova guest has gone; nothing new comes before."""
    own = make_compute(store=Tmpfs(128))
    guests = [boot(own.host, Domain()) for _ in range(2)]
    boot(own.host, Domain(nova=False, name='not-of-nova'))
    with own.agent():
        assert own.own_traits() == set()
    own.configure('libvirt', file_backed_memory=64)
    with own.agent() as agent:
        assert own.own_traits() == CLOSED
        (line,) = agent.log_lines('takes no new instance')
        assert '2 running guests are not file-backed' in line
        for guest in guests:
            assert f'{guest.name} ({guest.domain.uuid}) DRAM' in line
        assert 'not-of-nova' not in line
        assert set(own.state().may_restart) == {guest.domain.uuid for guest in guests}

        first, last = guests
        counted = first.counter()
        done = first.migrate(dram.host, backing=DRAM)
        assert not done.returncode, done.stderr
        assert_whole(first.on(dram.host), counted)
        status = agent.pass_now()
        assert f'1 running guest is not file-backed: {last.name} ({last.domain.uuid})' in status
        assert own.own_traits() == CLOSED
        # One between stop and start is not gone: all that were seen may, until none is left.
        assert set(own.state().may_restart) == {guest.domain.uuid for guest in guests}

        counted = last.counter()
        done = last.migrate(dram.host, p2p=False, backing=DRAM)
        assert not done.returncode, done.stderr
        assert_whole(last.on(dram.host), counted)
        passes_until(agent, healthy, most=2)
        assert own.own_traits() == ENABLED
        assert own.compute.inventory()['total'] == 64
        assert own.state().may_restart == ()
        assert agent.log_lines('takes new instances again')


def test_turned_off(boot, make_compute, fbm):
    own = make_compute(capacity=64, store=Tmpfs(128))
    guest = boot(own.host, Domain(backing=FILE_BACKED))
    boot(own.host, Domain(backing=FILE_BACKED, nova=False, name='not-of-nova'))
    with own.agent():
        assert own.own_traits() == ENABLED
    own.configure('libvirt', file_backed_memory=0)
    # nova-compute, restarted with it, reports DRAM, and that stays.
    assert own.compute.rewrite_inventory()
    with own.agent() as agent:
        assert own.own_traits() == ENABLED | CLOSED
        (line,) = agent.log_lines('takes no new instance')
        assert (
            '1 running guest is still file-backed: '
            f'{guest.name} ({guest.domain.uuid}) file, shared; migrate'
        ) in line
        agent.pass_now()
        assert own.compute.inventory()['total'] == DRAM_MIB
        assert own.own_traits() == ENABLED | CLOSED

        counted = guest.counter()
        done = guest.migrate(fbm.host, backing=FILE_BACKED)
        assert not done.returncode, done.stderr
        assert_whole(guest.on(fbm.host), counted)
        passes_until(agent, healthy, most=2)
        assert own.own_traits() == set()
        assert own.compute.inventory()['total'] == DRAM_MIB


def test_a_restart_on_a_turned_on_host(boot, make_compute):
    """Stopped and started with the XML that the host now gives it, a guest fits where it is."""
    own = make_compute(store=Tmpfs(128))
    old = boot(own.host, Domain())
    own.configure('libvirt', file_backed_memory=64)
    with own.agent() as agent:
        assert own.own_traits() == CLOSED
        old.destroy()
        new = boot(own.host, Domain(old.name, backing=FILE_BACKED, uuid=old.domain.uuid))
        passes_until(agent, healthy, most=2)
        assert own.own_traits() == ENABLED
        assert new.counts()

# SPDX-License-Identifier: Apache-2.0
"""Health: what is wrong with the store is a trait in Placement, for as long as it is."""

import time

import pytest

from fbm_placement import names
from tests.e2e.cloud import passes_until, well
from tests.e2e.lab.domain import FILE_BACKED, Domain
from tests.e2e.lab.host import MEMORY_BACKING_DIR
from tests.e2e.lab.store import Disk, Tmpfs, hung

ENABLED = {names.TRAIT_ENABLED}
CLOSED = {names.TRAIT_UNHEALTHY}
ON_DISK = {names.TRAIT_DISK}

GOOD_LOOKS = 3


def assert_clears(agent, own):
    """The trait stays for two good looks and goes with the third."""
    seen = passes_until(agent, well)
    assert len(seen) == GOOD_LOOKS
    assert 'recovering: 2 of 3 successful checks' in seen[-2]
    assert own.own_traits() == ENABLED
    assert own.state().unhealthy == ()


@pytest.mark.parametrize(
    ('store', 'traits'),
    [
        (Tmpfs(96), ENABLED),
        (Disk(160, 'ext4'), ENABLED | ON_DISK),
        (Disk(400, 'xfs'), ENABLED | ON_DISK),
    ],
    ids=['tmpfs', 'ext4', 'xfs'],
)
def test_the_kind_of_store(make_compute, store, traits):
    """A trait tells where memory is on a disk."""
    own = make_compute(capacity=64, store=store)
    with own.agent():
        assert own.own_traits() == traits


def test_lost_and_mounted_again(boot, make_compute):
    """Unmounted, mounted anew without libvirtd knowing, and then put right."""
    own = make_compute(capacity=64, store=Tmpfs(96))
    guest = boot(own.host, Domain(backing=FILE_BACKED))
    with own.agent() as agent:
        assert own.own_traits() == ENABLED
        own.host.unmount()
        assert 'the store is not mounted' in agent.pass_now()
        assert own.own_traits() >= ENABLED | CLOSED
        (line,) = agent.log_lines('takes no new instance')
        assert f'expected on {MEMORY_BACKING_DIR}' in line
        assert f'mount {MEMORY_BACKING_DIR}, then restart libvirtd' in line

        own.host.mount(Tmpfs(96))
        status = agent.pass_now()
        assert f'{MEMORY_BACKING_DIR}/libvirt/qemu is missing' in status
        assert 'the store was mounted after that' in status
        assert own.own_traits() == ENABLED | CLOSED

        own.host.stop_libvirtd()
        own.host.start_libvirtd()
        assert_clears(agent, own)
        assert guest.counts()


def test_full(boot, make_compute):
    """Files of others in the store are room that the promise lacks; numbers say how much."""
    own = make_compute(capacity=64, store=Tmpfs(96))
    boot(own.host, Domain(backing=FILE_BACKED))
    with own.agent() as agent:
        assert own.own_traits() == ENABLED
        filler = own.host.store_path / 'filler'
        own.host.run('fallocate', '--length', '48MiB', f'{MEMORY_BACKING_DIR}/filler')
        status = agent.pass_now()
        assert (
            '64 MiB, of which running guests hold 32, and 16 MiB are free: 16 MiB too little'
        ) in status
        assert own.own_traits() == ENABLED | CLOSED
        # What is allocated or free of the guests' own makes no difference.
        boot(own.host, Domain(memory=16, backing=FILE_BACKED))
        assert 'hold 48, and 0 MiB are free: 16 MiB too little' in agent.pass_now()
        filler.unlink()
        assert_clears(agent, own)


def test_hung(boot, make_compute):
    """While the filesystem answers nobody, the agent tells so in time, and ends when asked."""
    own = make_compute(capacity=64, store=Tmpfs(96))
    guest = boot(own.host, Domain(backing=FILE_BACKED))
    with own.agent() as agent:
        assert own.own_traits() == ENABLED
        with hung(own.host.namespaces, MEMORY_BACKING_DIR, own.host.directory):
            began = time.monotonic()
            assert 'it does not answer' in agent.pass_now()
            assert time.monotonic() - began < 10
            assert own.own_traits() >= ENABLED | CLOSED
            assert guest.counts()
        assert_clears(agent, own)
        with hung(own.host.namespaces, MEMORY_BACKING_DIR, own.host.directory):
            agent.wait_for('READY', after=agent.hang_up())
            # In the middle of a pass, which then is the last.
            time.sleep(0.5)
            status, seconds = agent.terminate()
            assert status == 0
            assert seconds < 8

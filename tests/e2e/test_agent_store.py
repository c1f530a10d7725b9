# SPDX-License-Identifier: Apache-2.0
"""Health: what is wrong with the store is a trait in Placement, for as long as it is."""

import time

import pytest

from tests.e2e.cloud import healthy, passes_until
from tests.e2e.lab.domain import FILE_BACKED, Domain
from tests.e2e.lab.host import MEMORY_BACKING_DIR
from tests.e2e.lab.store import Disk, Tmpfs, hung
from tests.services.expected import DISK_TRAIT, ENABLED_TRAIT, UNHEALTHY_TRAIT

ENABLED = {ENABLED_TRAIT}
CLOSED = {UNHEALTHY_TRAIT}
ON_DISK = {DISK_TRAIT}


def assert_clears(agent, own):
    """The trait stays for two good passes and goes with the third."""
    seen = passes_until(agent, healthy)
    assert len(seen) == 3
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
    """A trait marks the hosts whose memory is on a disk."""
    own = make_compute(capacity=64, store=store)
    with own.agent():
        assert own.own_traits() == traits


def test_lost_and_mounted_again(boot, make_compute):
    """Unmounted, mounted again while libvirtd runs, and then set right by its restart."""
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
        assert 'the store was mounted later' in status
        assert own.own_traits() == ENABLED | CLOSED

        own.host.stop_libvirtd()
        own.host.start_libvirtd()
        assert_clears(agent, own)
        assert guest.counts()


def test_full(boot, make_compute):
    """Other files in the store take room from the capacity; the reason has the numbers."""
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
    """While the filesystem does not answer, the agent reports that, and SIGTERM ends it."""
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
            agent.wait_for('READY', after=agent.reload())
            # In the middle of a pass, which then is the last.
            time.sleep(0.5)
            status, seconds = agent.terminate()
            assert status == 0
            assert seconds < 8

# SPDX-License-Identifier: Apache-2.0
"""`fbm-status guests`: what runs, how it is backed, and RAM files that nobody has any more."""

import json

import pytest

from tests.e2e.lab.domain import FILE_BACKED, Domain, MemoryBacking
from tests.e2e.lab.store import Disk


def report(compute, *flags):
    """Ask for it; return the exit status and what it says."""
    done = compute.status('guests', '--format', 'json', *flags)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def crashed(boot, make_compute):
    """A host that went down with a guest and is up again, with another guest."""
    own = make_compute('crashed', capacity=128, store=Disk(200))
    lost = boot(own.host, Domain(backing=FILE_BACKED))
    (orphan,) = lost.ram_files()
    own.host.kill_libvirtd()
    lost.kill()
    own.host.run('rm', '-r', '/run/libvirt')
    own.host.start_libvirtd()
    assert orphan.exists()
    return own, orphan, boot(own.host, Domain(backing=FILE_BACKED))


def test_orphans(crashed):
    """They are listed, and removed on demand, once they are old; a guest's file never is."""
    own, orphan, guest = crashed
    (in_use,) = guest.ram_files()
    with own.agent():
        status, seen = report(own, '--remove-orphans', '--yes')
        assert status == 1
        (listed,) = seen['orphans']
        assert listed['path'].endswith(f'{orphan.parent.name}/{orphan.name}')
        # A minute must have gone by: it might be a guest's that is just arriving.
        assert orphan.exists()
        for file in (orphan, in_use):
            own.host.run('touch', '--date', '-2 minutes', str(file).split('/root', 1)[1])

        status, seen = report(own)
        assert (status, len(seen['orphans'])) == (1, 1)
        assert orphan.exists()
        # Nobody is there to be asked.
        assert own.status('guests', '--remove-orphans').returncode == 1
        assert orphan.exists()

        # In a container, as this is one, libvirtd is what shows that all guests can be seen.
        own.host.kill_libvirtd()
        status, seen = report(own, '--remove-orphans', '--yes')
        assert (status, seen['orphans']) == (1, None)
        assert 'no libvirtd or virtqemud runs in it' in seen['trouble'][0]
        assert orphan.exists()
        own.host.start_libvirtd()

        report(own, '--remove-orphans', '--yes')
        assert not orphan.exists()
        assert in_use.exists()
        assert guest.counts()
        assert guest.has_pattern_in(in_use)
        status, seen = report(own)
        assert (status, seen['orphans']) == (0, [])

        # A guest that libvirt has forgotten is still one that runs.
        own.host.kill_libvirtd()
        own.host.run('rm', '-r', '/run/libvirt')
        own.host.start_libvirtd()
        status, seen = report(own, '--remove-orphans', '--yes')
        assert (status, seen['orphans']) == (0, [])
        counted = guest.counter_in(in_use)
        guest.wait_until(lambda: guest.counter_in(in_use) > counted, 'counting in its file')


def test_how_guests_are_backed(boot, make_compute):
    """The table tells by their mappings, and counts those that aren't as the host."""
    own = make_compute('mixed', capacity=128, store=Disk(250))
    guests = {
        'file, shared': boot(own.host, Domain(backing=FILE_BACKED)),
        'file, private': boot(own.host, Domain(backing=MemoryBacking(source='file'))),
        'anonymous': boot(own.host, Domain()),
    }
    boot(own.host, Domain(memory=64, cells=(32, 32), backing=FILE_BACKED))
    with own.agent():
        done = own.status('guests')
        assert done.returncode == 1
        rows = done.stdout.splitlines()
        for words, guest in guests.items():
            (row,) = [row for row in rows if f'| {guest.name} ' in row]
            assert f'| {words} ' in row
            assert ('not as on a host that is enabled' in row) == (words != 'file, shared')
        for node in ('ram-node0', 'ram-node1'):
            assert sum(f'/{node} ' in row for row in rows) == 1

# SPDX-License-Identifier: Apache-2.0
"""`fbm-status guests`: which guests run, how they are backed, and RAM files of no guest."""

import json
import sys
import time

import pytest

from fbm_placement.guests import orphans
from tests.e2e.host import NOVA_CONF
from tests.e2e.lab.domain import FILE_BACKED, Domain, MemoryBacking
from tests.e2e.lab.store import Disk, Tmpfs
from tests.services.process import program, wait_until

# How a process uses a file; the descriptor of a mapping is closed.
USES = {
    'opened to read': 'f = open(path, "rb")',
    'opened to write': 'f = open(path, "r+b")',
    'mapped': 'f = open(path, "r+b"); m = mmap.mmap(f.fileno(), 0); f.close()',
    'mapped to read': 'f = open(path, "rb"); '
    'm = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ); f.close()',
    'mapped privately': 'f = open(path, "rb"); '
    'm = mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE); f.close()',
}
# In a mount and a process namespace of its own, through another mount that is read-only.
ELSEWHERE = 'mount --bind "$0" /mnt && mount -o remount,ro,bind /mnt && cd /mnt && "$@"'


@pytest.mark.parametrize(
    'store',
    [Tmpfs(64), Disk(64, 'ext4'), Disk(400, 'xfs'), Disk(200, 'btrfs')],
    ids=['tmpfs', 'ext4', 'xfs', 'btrfs'],
)
def test_the_kernel_knows_which_files_are_in_use(make_host, store):
    """On each filesystem that a store may be on, in whatever namespace the process is."""
    host = make_host(store=store, libvirtd=False)
    directory = host.store_path / 'libvirt/qemu/1-guest'
    directory.mkdir(parents=True)
    (directory / 'pc.ram').write_bytes(b'x' * 2**20)
    inside = f'{host.memory_backing_dir}/libvirt/qemu/1-guest'

    def found():
        return [one.name for one in orphans.find(str(host.store_path), (), time.time())]

    wait_until(found, 'unused')
    for use, code in USES.items():
        whole = f'import mmap, time; path = "pc.ram"; {code}; print("used", flush=True)'
        argv = [sys.executable, '-I', '-S', '-c', f'{whole}; time.sleep(60)']
        ways = [['env', '-C', inside, *argv]]
        if 'r+b' not in code:
            ways.append(['unshare', '-mpf', '--kill-child', 'sh', '-c', ELSEWHERE, inside, *argv])
        for number, way in enumerate(ways):
            with host.process(way, host.directory / f'{use} {number}.log') as process:
                process.wait_for_output('used')
                assert found() == [], (use, way)
                process.kill()
            # The end of a process is reported a moment before its files are closed.
            wait_until(found, 'unused')


def report(compute, *flags, within=()):
    argv = [*within, program('fbm-status'), '--config-file', NOVA_CONF, 'guests', '-f', 'json']
    done = compute.host.run(*argv, *flags, check=False)
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
    """They are listed, and removed on demand if they are old; a guest's file is not."""
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
        # There is no terminal to ask on.
        assert own.status('guests', '--remove-orphans').returncode == 1
        assert orphan.exists()

        # In a container that shows no process of the host the guest's file is still in use.
        container = ('unshare', '--pid', '--fork', '--kill-child', '--mount-proc')
        status, seen = report(own, '--remove-orphans', '--yes', within=container)
        assert (status, seen['guests']) == (1, [])
        assert 'guests may run that cannot be seen here' in seen['trouble'][0]
        (removed,) = seen['orphans']
        assert removed['path'].endswith(f'{orphan.parent.name}/{orphan.name}')
        assert removed['removed']
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
    """The table shows it from their mappings, and which aren't as the host."""
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
        for kind, guest in guests.items():
            (row,) = [row for row in rows if f'| {guest.name} ' in row]
            assert f'| {kind} ' in row
            assert ('not as on a host that is enabled' in row) == (kind != 'file, shared')
        for node in ('ram-node0', 'ram-node1'):
            assert sum(f'/{node} ' in row for row in rows) == 1

# SPDX-License-Identifier: Apache-2.0
"""What libvirt makes of a hook."""

import signal

import pytest

from tests.e2e.lab.domain import FILE_BACKED, Domain
from tests.e2e.lab.guest import Guest, create
from tests.e2e.lab.store import Tmpfs

# Logs its operations, and refuses the one that a file names.
HOOK = """#!/bin/sh
echo "$1 $2 $3 $4" >> /var/log/libvirt/hook.log
cat > /dev/null
if [ -e "/run/refuse-$2" ]; then
    echo "the first line, refusing $2" >&2
    echo 'the second line' >&2
    exit 1
fi
"""

both_ways = pytest.mark.parametrize('p2p', [True, False], ids=['peer-to-peer', 'direct'])


@pytest.fixture
def make_hooked(make_host):
    def make(name, *refused):
        host = make_host(name, store=Tmpfs(128), libvirtd=False)
        host.install_hook('50-test', HOOK)
        refuse(host, *refused)
        host.start_libvirtd()
        return host

    return make


def refuse(host, *operations):
    for operation in operations:
        host.path(f'/run/refuse-{operation}').touch()


def calls(host):
    """What the hook was called for, and forget it."""
    log = host.path('/var/log/libvirt/hook.log')
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line.split()[1] for line in lines]


@pytest.mark.parametrize('operation', ['prepare', 'start'])
def test_refused_start(make_hooked, operation):
    host = make_hooked('refusing', operation)
    domain = Domain(backing=FILE_BACKED)
    done = create(host, domain)
    assert done.returncode
    assert 'Hook script execution failed' in done.stderr
    assert f'the first line, refusing {operation}\nthe second line' in done.stderr
    assert host.virsh('list', '--all', '--name').stdout.split() == []
    assert not Guest(host, domain).ram_files()


@both_ways
@pytest.mark.parametrize('operation', ['migrate', 'prepare'])
def test_refused_arrival(boot, make_hooked, operation, p2p):
    """A guest that is refused by its destination keeps running, and virsh shows why."""
    source, target = make_hooked('source'), make_hooked('target', operation)
    guest = boot(source, Domain(backing=FILE_BACKED))
    counted = guest.counter()
    done = guest.migrate(target, p2p=p2p, backing=FILE_BACKED)
    assert done.returncode
    assert f'the first line, refusing {operation}\nthe second line' in done.stderr
    assert guest.running
    assert guest.counter() >= counted
    assert guest.counts()
    assert not guest.on(target).ram_files()


def test_the_hook_of_the_source_is_not_called(boot, make_hooked):
    source, target = make_hooked('source', 'migrate'), make_hooked('target')
    guest = boot(source, Domain(backing=FILE_BACKED))
    assert calls(source) == ['prepare', 'start', 'started']
    done = guest.migrate(target)
    assert not done.returncode, done.stderr
    assert calls(target) == ['migrate', 'prepare', 'start', 'started']
    assert calls(source) == ['stopped', 'release']


def test_start_from_a_managed_save_is_a_restore(boot, make_hooked):
    """A guest that was saved comes back by way of "restore", with its memory."""
    host = make_hooked('saving')
    guest = boot(host, Domain(backing=FILE_BACKED))
    host.virsh('define', '/dev/stdin', stdin=guest.domain.xml())
    counted = guest.counter()
    host.virsh('managedsave', guest.name)
    assert not guest.ram_files()
    calls(host)
    host.virsh('start', guest.name)
    assert calls(host) == ['restore', 'prepare', 'start', 'started']
    assert guest.counter() >= counted
    assert guest.has_pattern()


def test_the_first_script_needs_a_signal(make_host):
    """The daemon sees the first script after SIGHUP, and then each change in it at once."""
    host = make_host(store=Tmpfs(64))
    host.install_hook('50-test', '#!/bin/sh\necho one >&2; exit 1\n')
    assert not _stderr(host, Domain(backing=FILE_BACKED))
    host.libvirtd.send_signal(signal.SIGHUP)
    refused = Domain(backing=FILE_BACKED)
    Guest(host, refused).wait_until(lambda: 'one' in _stderr(host, refused), 'refused')
    host.install_hook('50-test', '#!/bin/sh\necho two >&2; exit 1\n')
    assert 'two' in _stderr(host, refused)


def _stderr(host, domain):
    done = create(host, domain)
    if not done.returncode:
        Guest(host, domain).destroy()
    return done.stderr


def test_a_failing_reconnect_kills(boot, make_hooked):
    """A hook that fails when libvirtd starts again kills the guest."""
    host = make_hooked('reconnecting')
    guest = boot(host, Domain(backing=FILE_BACKED))
    process = guest.process
    refuse(host, 'reconnect')
    host.stop_libvirtd()
    assert process.exists()
    host.start_libvirtd()
    guest.wait_until(lambda: not process.exists(), 'killed')

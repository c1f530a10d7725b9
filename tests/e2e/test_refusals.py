# SPDX-License-Identifier: Apache-2.0
"""What the hook refuses, and with which message the caller of libvirt sees it."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import healthy, passes_until
from tests.e2e.host import STATE_FILE
from tests.e2e.lab.domain import DRAM, FILE_BACKED, Domain, MemoryBacking
from tests.e2e.lab.host import MEMORY_BACKING_DIR
from tests.e2e.lab.store import Tmpfs, hung

REDEFINE = 'or hard reboot the instance, which redefines it'
EDITED = 'if nova.conf has changed, restart fbm-agent first'
PRIVATE = (
    'file-backed but private, so what it writes would be in DRAM; '
    f"define it with <access mode='shared'/> and no memAccess, {REDEFINE}"
)
NOT_FILE_BACKED = (
    'its memory is not file-backed, and file-backed memory is enabled on this host; '
    f'choose a host where it is disabled, {REDEFINE}; {EDITED}'
)
FILE_BACKED_HERE = (
    'its memory is file-backed, and file-backed memory is disabled on this host; '
    f'choose a host where it is enabled, {REDEFINE}; {EDITED}'
)
HUGE_PAGES = (
    'it asks for huge pages, which libvirt would use instead of the store; choose a host where '
    'file-backed memory is disabled ("openstack server migrate"), or resize it to a flavor '
    'without hw:mem_page_size'
)

# What doesn't fit an enabled host: the guest, a host where it can run, the reason.
MISFITS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    'dram': ({}, 'disabled', NOT_FILE_BACKED),
    'private cell': (
        {'memory': 64, 'cells': (32, 32), 'cell_access': 'private', 'backing': FILE_BACKED},
        'enabled',
        f'its NUMA cell 0 is {PRIVATE}',
    ),
    # Without the hook, libvirt would take both, and use the huge pages.
    'huge pages': (
        {'backing': MemoryBacking(source='file', access='shared', huge_pages=2048)},
        None,
        HUGE_PAGES,
    ),
}
COMES_FROM = {name: source for name, (_, source, _) in MISFITS.items() if source}

STORE = f'the store {MEMORY_BACKING_DIR}'


def assert_refuses_to_start(attempt, compute, domain, reason):
    done = attempt(compute.host, domain)
    assert done.returncode
    line = compute.refusal(domain.name, domain.uuid, reason)
    assert re.search(
        r'error: Hook script execution failed: internal error: Child process \(.*'
        rf'/etc/libvirt/hooks/qemu\.d/50-file-backed-memory {domain.name} prepare begin -\) '
        rf'unexpected exit status 1: {re.escape(line)}\s*$',
        done.stderr,
    ), done.stderr
    assert domain.name not in compute.host.virsh('list', '--all', '--name').stdout.split()


def assert_refuses_to_arrive(guest, compute, reason):
    """Each way of moving fails with the hook's line, and leaves the guest as it was."""
    mapped = [(mapping.permissions, mapping.size) for mapping in guest.mappings()]
    for p2p in (True, False):
        counted = guest.counter()
        done = guest.migrate(compute.host, p2p=p2p)
        assert done.returncode
        line = compute.refusal(guest.name, guest.domain.uuid, reason, 'migrate')
        assert 'error: Hook script execution failed: internal error: Child process' in done.stderr
        assert done.stderr.rstrip().endswith(f'unexpected exit status 1: {line}'), done.stderr
        assert guest.running
        assert guest.counter() >= counted
        assert guest.counts()
        assert guest.has_pattern()
        assert [(mapping.permissions, mapping.size) for mapping in guest.mappings()] == mapped
        assert not guest.on(compute.host).running
        assert not guest.on(compute.host).ram_files()


@pytest.mark.parametrize('misfit', MISFITS)
def test_enabled_refuses_a_start(attempt, fbm, misfit):
    options, _, reason = MISFITS[misfit]
    assert_refuses_to_start(attempt, fbm, Domain(**options), reason)


@pytest.mark.parametrize('misfit', COMES_FROM)
def test_enabled_refuses_an_arrival(boot, request, fbm, misfit):
    options, source, reason = MISFITS[misfit]
    guest = boot(request.getfixturevalue(source), Domain(**options))
    assert_refuses_to_arrive(guest, fbm, reason)


def test_enabled_takes_what_fits(boot, fbm, enabled):
    boot(fbm.host, Domain(memory=64, cells=(32, 32), backing=FILE_BACKED))
    guest = boot(enabled, Domain(backing=FILE_BACKED))
    counted = guest.counter()
    done = guest.migrate(fbm.host, p2p=False, backing=FILE_BACKED)
    assert not done.returncode, done.stderr
    assert guest.on(fbm.host).counter() >= counted
    assert guest.on(fbm.host).has_pattern()


def test_disabled_refuses_what_is_file_backed(attempt, boot, dram, enabled):
    """Its RAM would be on the root disk."""
    assert_refuses_to_start(attempt, dram, Domain(backing=FILE_BACKED), FILE_BACKED_HERE)
    guest = boot(enabled, Domain(backing=FILE_BACKED))
    assert_refuses_to_arrive(guest, dram, FILE_BACKED_HERE)


def test_guests_that_nova_did_not_make_pass(boot, fbm, dram, disabled, enabled):
    boot(fbm.host, Domain(nova=False))
    boot(dram.host, Domain(nova=False, backing=FILE_BACKED))
    for source, target, backing in (
        (disabled, fbm.host, DRAM),
        (enabled, dram.host, FILE_BACKED),
    ):
        guest = boot(source, Domain(nova=False, backing=backing))
        done = guest.migrate(target)
        assert not done.returncode, done.stderr
        assert guest.on(target).has_pattern()


def test_lost_and_mounted_late(attempt, boot, make_compute, enabled):
    own = make_compute('storeless', capacity=64, store=Tmpfs(96))
    guest = boot(enabled, Domain(backing=FILE_BACKED))
    with own.agent():
        own.host.unmount()
        below = sorted(own.host.store_path.rglob('*'))
        # The agent has made no pass since: the hook sees it by itself.
        reason = (
            f'{STORE} is not mounted: it is on /var/lib/nova, expected on '
            f'{MEMORY_BACKING_DIR}; mount it, then restart libvirtd'
        )
        assert_refuses_to_start(attempt, own, Domain(backing=FILE_BACKED), reason)
        assert_refuses_to_arrive(guest, own, reason)
        assert sorted(own.host.store_path.rglob('*')) == below

        own.host.mount(Tmpfs(96))
        reason = (
            f'{STORE} has no directory libvirt/qemu, so it was mounted after libvirtd had '
            'started; restart libvirtd'
        )
        assert_refuses_to_start(attempt, own, Domain(backing=FILE_BACKED), reason)
        assert_refuses_to_arrive(guest, own, reason)
        # A try that libvirt itself refuses would leave a directory that no restart repairs.
        assert not list(own.host.store_path.iterdir())

        own.host.stop_libvirtd()
        own.host.start_libvirtd()
        boot(own.host, Domain(backing=FILE_BACKED))
        done = guest.migrate(own.host)
        assert not done.returncode, done.stderr


def test_full(attempt, boot, make_compute, enabled):
    own = make_compute('full', capacity=64, store=Tmpfs(64))
    boot(own.host, Domain(backing=FILE_BACKED))
    with own.agent():
        own.host.run('fallocate', '--length', '8MiB', f'{MEMORY_BACKING_DIR}/filler')
        reason = (
            f'{STORE} has 24 MiB free, the guest needs 32 MiB; move guests away, or delete files '
            'there that belong to no running guest'
        )
        assert_refuses_to_start(attempt, own, Domain(backing=FILE_BACKED), reason)
        guest = boot(enabled, Domain(backing=FILE_BACKED))
        assert_refuses_to_arrive(guest, own, reason)
        # What is just enough is enough.
        boot(own.host, Domain(memory=24, backing=FILE_BACKED))


def test_hung(boot, make_compute):
    """A store that doesn't respond is reported in time, also while libvirt itself hangs in it."""
    own = make_compute('stuck', capacity=64, store=Tmpfs(96))
    neighbour = boot(own.host, Domain(backing=FILE_BACKED))
    reason = f'{STORE} does not respond (no answer in 3 s); check its device'
    started = Domain(backing=FILE_BACKED)
    own.host.path('/run/started.xml').write_text(started.xml())
    starting = own.host.process(
        ['virsh', '-c', 'qemu:///system', 'create', '/run/started.xml'],
        own.host.directory / 'create.log',
    )
    line = own.refusal(started.name, started.uuid, reason)
    with own.agent():
        with hung(own.host.namespaces, MEMORY_BACKING_DIR, own.host.directory):
            starting.start()
            own.host.libvirtd.wait_for_output(line)
            # libvirt then looks for the guest's file, to remove it, and hangs there.
            assert neighbour.process.exists()
        assert starting.wait() == 1
        assert starting.output.rstrip().endswith(line)
    assert neighbour.counts()


@pytest.fixture(scope='module')
def shared_spare(make_shared_compute):
    with make_shared_compute('spare', store=Tmpfs(128)) as compute:
        yield compute


@pytest.fixture
def spare(shared_spare, _names):
    """The same, enabled, without an agent or what one has left."""
    shared_spare.configure('libvirt', file_backed_memory=64)
    shared_spare.configure('file_backed_memory', hook_mode='enforce')
    shared_spare.host.path(STATE_FILE).unlink(missing_ok=True)
    return shared_spare


@pytest.mark.parametrize('mode', ['warn', 'off'])
def test_without_enforcement_all_pass(boot, spare, disabled, mode):
    spare.configure('file_backed_memory', hook_mode=mode)
    with spare.agent():
        boot(spare.host, Domain())
        moved = boot(disabled, Domain())
        done = moved.migrate(spare.host)
        assert not done.returncode, done.stderr
        assert moved.on(spare.host).has_pattern()


@pytest.fixture
def system_log():
    """The end of syslog(3) that a daemon has; this machine must have none of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind('/dev/log')
        log.settimeout(10)
        try:
            yield log
        finally:
            Path('/dev/log').unlink()


@pytest.mark.skipif(Path('/dev/log').exists(), reason='a system log runs here')
def test_warnings_are_logged(boot, spare, system_log):
    """Libvirt drops the stderr of a hook that lets a guest pass; the system's log has it."""
    spare.configure('file_backed_memory', hook_mode='warn')
    with spare.agent():
        guest = boot(spare.host, Domain())
    line = system_log.recv(4096).decode()
    assert 'fbm-hook: warning: fbm hook on' in line
    assert f'guest {guest.name} ({guest.domain.uuid}) starts here anyway' in line


@pytest.mark.skipif(Path('/dev/log').exists(), reason='a system log runs here')
def test_refusals_are_logged(attempt, spare, system_log):
    """Of a forced move that fails the API shows no reason, but the log of the host has it."""
    refused = Domain()
    with spare.agent():
        assert attempt(spare.host, refused).returncode
    line = system_log.recv(4096).decode()
    refusal = spare.refusal(refused.name, refused.uuid, NOT_FILE_BACKED)
    named = refusal.replace('fbm hook', f'fbm hook on {spare.host.name}')
    assert line.endswith(f'fbm-hook: {named}')


def test_the_mode_follows_the_file(boot, attempt, spare):
    """A changed hook_mode holds from the agent's next pass on, without a restart."""
    with spare.agent() as agent:
        assert attempt(spare.host, Domain()).returncode
        spare.configure('file_backed_memory', hook_mode='warn')
        agent.pass_now()
        guest = boot(spare.host, Domain())
        spare.configure('file_backed_memory', hook_mode='enforce')
        agent.pass_now()
        assert attempt(spare.host, Domain()).returncode
        guest.destroy()
        passes_until(agent, healthy)


def test_draining(boot, attempt, spare):
    spare.configure('libvirt', file_backed_memory=0)
    with spare.agent():
        old = boot(spare.host, Domain())
    spare.configure('libvirt', file_backed_memory=64)
    with spare.agent() as agent:
        assert_refuses_to_start(attempt, spare, Domain(), NOT_FILE_BACKED)
        old.destroy()
        # A pass in between, which does not see it.
        agent.pass_now()
        restarted = boot(spare.host, old.domain)
        agent.pass_now()
        assert_refuses_to_start(attempt, spare, Domain(), NOT_FILE_BACKED)
        boot(spare.host, Domain(memory=16, backing=FILE_BACKED))
        restarted.destroy()
        passes_until(agent, healthy)
        assert_refuses_to_start(attempt, spare, old.domain, NOT_FILE_BACKED)


def test_rescue_while_draining(boot, attempt, spare):
    """A rescue is of the host's kind; the instance's old XML may then come back."""
    spare.configure('libvirt', file_backed_memory=0)
    with spare.agent():
        old = boot(spare.host, Domain())
    spare.configure('libvirt', file_backed_memory=64)
    with spare.agent() as agent:
        old.destroy()
        rescue = Domain(old.name, memory=48, backing=FILE_BACKED, uuid=old.domain.uuid)
        rescued = boot(spare.host, rescue)
        agent.pass_now()
        rescued.destroy()
        assert boot(spare.host, old.domain).has_pattern()
        old.destroy()
        boot(spare.host, rescue)
        passes_until(agent, healthy)
        rescued.destroy()
        # Now the host has no guest of the old kind any more.
        assert_refuses_to_start(attempt, spare, old.domain, NOT_FILE_BACKED)


def test_restored(boot, spare):
    guest = boot(spare.host, Domain())
    spare.host.virsh('define', '/dev/stdin', stdin=guest.domain.xml())
    counted = guest.counter()
    spare.host.virsh('managedsave', guest.name)
    with spare.agent() as agent:
        assert agent.notified('STATUS')
        spare.host.virsh('start', guest.name)
        assert guest.counter() >= counted
        assert guest.counts()
        assert guest.has_pattern()
        # With one that the agent saw, the host drains.
        assert '1 running guest is not file-backed' in agent.pass_now()
    guest.destroy()
    spare.host.virsh('undefine', guest.name)


def test_a_restore_opens_no_door(boot, attempt, spare):
    """What was let in as a saved guest is not let in again as a new one."""
    guest = boot(spare.host, Domain())
    saved = '/var/lib/libvirt/qemu/save/by-hand'
    spare.host.virsh('save', guest.name, saved)
    with spare.agent():
        spare.host.virsh('restore', saved)
        assert guest.has_pattern()
        guest.destroy()
        assert_refuses_to_start(attempt, spare, guest.domain, NOT_FILE_BACKED)

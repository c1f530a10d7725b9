# SPDX-License-Identifier: Apache-2.0
"""What outlives libvirtd, and what a broken hook does to the guests that run: nothing."""

from contextlib import contextmanager

import pytest

from tests.e2e.cloud import healthy, passes_until
from tests.e2e.host import HOOK, RUN
from tests.e2e.lab.domain import FILE_BACKED, Domain
from tests.e2e.lab.store import Tmpfs
from tests.services.expected import ENABLED_TRAIT, UNHEALTHY_TRAIT

PYTHON = '/usr/bin/python3'


@pytest.fixture(scope='module')
def sturdy(make_shared_compute):
    options = {'capacity': 128, 'store': Tmpfs(128)}
    with make_shared_compute('sturdy', **options) as compute, compute.agent():
        yield compute


@contextmanager
def nothing_broken(_compute):
    yield


@contextmanager
def no_interpreter(compute):
    """/usr/bin/python3 cannot be run; the agent has another one."""
    compute.host.run('mount', '--bind', '/dev/null', PYTHON)
    try:
        yield
    finally:
        compute.host.run('umount', PYTHON)


@contextmanager
def no_program(compute):
    program = compute.host.path(f'{HOOK}.py')
    text = program.read_bytes()
    program.unlink()
    try:
        yield
    finally:
        compute.install_hook()
        assert program.read_bytes() == text


@pytest.mark.parametrize(
    ('end', 'broken'),
    [
        ('stop', nothing_broken),
        ('kill', nothing_broken),
        ('stop', no_interpreter),
        ('kill', no_program),
    ],
)
def test_the_daemon_comes_back(boot, sturdy, end, broken):
    """A libvirtd that was restarted, or killed, finds its guests alive, and they stay so."""
    guests = [
        boot(sturdy.host, Domain(backing=FILE_BACKED)),
        boot(sturdy.host, Domain(backing=FILE_BACKED, nova=False)),
    ]
    processes = [guest.process for guest in guests]
    with broken(sturdy):
        counted = [guest.counter() for guest in guests]
        getattr(sturdy.host, f'{end}_libvirtd')()
        assert all(process.exists() for process in processes)
        sturdy.host.start_libvirtd()
        for guest, before in zip(guests, counted, strict=True):
            assert guest.running
            assert guest.counts(since=before)
            assert guest.has_pattern()
            assert guest.has_pattern_in(guest.ram_files()[0])
    assert [guest.process for guest in guests] == processes


@pytest.mark.parametrize('broken', [no_interpreter, no_program])
def test_a_broken_hook(boot, attempt, enabled, sturdy, broken):
    """It reports that; no Nova guest enters an enabled host, others do, and any may leave."""
    leaving = boot(sturdy.host, Domain(backing=FILE_BACKED))
    coming = boot(enabled, Domain(backing=FILE_BACKED))
    with broken(sturdy):
        refused = Domain(backing=FILE_BACKED)
        done = attempt(sturdy.host, refused)
        reason = (
            'guest {} may not run here, where file-backed memory is enabled: '
            f'the hook itself is broken: {PYTHON} -IS {HOOK}.py ended with status 127; '
            'run "fbm-status hook check"'
        )
        line = f'fbm hook: {reason.format(refused.name)}'
        assert done.returncode
        assert done.stderr.rstrip().endswith(line), done.stderr

        counted = coming.counter()
        done = coming.migrate(sturdy.host)
        line = f'fbm hook on sturdy: {reason.format(coming.name)}'
        assert done.returncode
        assert done.stderr.rstrip().endswith(line), done.stderr
        assert coming.counts(since=counted)
        assert coming.has_pattern()

        boot(sturdy.host, Domain(nova=False))
        done = leaving.migrate(enabled)
        assert not done.returncode, done.stderr
        assert leaving.on(enabled).has_pattern()
    # The restored hook lets guests in again.
    boot(sturdy.host, Domain(memory=16, backing=FILE_BACKED))


def test_soft_reboot_and_rescue(boot, sturdy):
    """Nova ends the guest and starts its XML again, or another one of the same UUID."""
    guest = boot(sturdy.host, Domain(backing=FILE_BACKED))
    guest.destroy()
    again = boot(sturdy.host, guest.domain)
    (first,) = again.ram_files()
    again.destroy()
    rescue = Domain(guest.name, memory=48, backing=FILE_BACKED, uuid=guest.domain.uuid)
    rescued = boot(sturdy.host, rescue)
    (second,) = rescued.ram_files()
    assert second != first
    rescued.destroy()
    assert boot(sturdy.host, guest.domain).has_pattern()


def test_boot_of_the_host(boot, make_compute):
    """Guests that start before the agent does are let in; then it logs which don't fit."""
    own = make_compute(store=Tmpfs(128))
    with own.agent():
        old = boot(own.host, Domain())
    own.configure('libvirt', file_backed_memory=64)
    # The host goes down: with it its processes and /run.
    own.host.kill_libvirtd()
    old.kill()
    own.host.run('rm', '-r', '/run/libvirt', RUN)
    own.host.start_libvirtd()
    resumed = boot(own.host, old.domain)
    fitting = boot(own.host, Domain(backing=FILE_BACKED))
    with own.agent() as agent:
        assert own.own_traits() == {UNHEALTHY_TRAIT}
        assert own.state().may_restart == (resumed.domain.uuid,)
        resumed.destroy()
        passes_until(agent, healthy, most=2)
        assert own.own_traits() == {ENABLED_TRAIT}
    assert fitting.counts()

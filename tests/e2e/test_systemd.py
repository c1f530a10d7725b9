# SPDX-License-Identifier: Apache-2.0
"""The agent under a real systemd: installed, run, upgraded and removed as the guide says."""

import json
import time

import pytest

from tests.e2e.lab.domain import FILE_BACKED, Domain
from tests.e2e.lab.guest import create
from tests.e2e.systemd_compute import FSTAB, NEW, SystemdCompute, build
from tests.services.documents import commands
from tests.services.expected import ENABLED_TRAIT, UNHEALTHY_TRAIT, own_traits
from tests.services.placement import PlacementServer
from tests.services.process import wait_until

pytestmark = pytest.mark.timeout(240)

INSTALL = 'doc/source/admin/install.rst'
STORE = 'doc/source/admin/store.rst'
CHECK = 'doc/source/admin/check.rst'
AGENT = 'fbm-agent'


@pytest.fixture(scope='module')
def releases(tmp_path_factory):
    return build(tmp_path_factory.mktemp('releases'))


@pytest.fixture(scope='module')
def placement(tmp_path_factory):
    """One that a test may stop."""
    with PlacementServer(tmp_path_factory.mktemp('placement')) as server:
        yield server


@pytest.fixture(scope='module')
def make_host(tmp_path_factory, placement, releases):
    def make(name):
        return SystemdCompute(tmp_path_factory.mktemp(name), placement.url, releases)

    return make


@pytest.fixture(scope='module')
def host(make_host):
    """Installed with the system's pip, and booted once since."""
    with make_host('host') as own:
        own.furnish()
        own.packaged_python_is_ours()
        for command in commands(INSTALL, 'Install the agents'):
            own.type(command, good=(0, 1, 2) if 'upgrade check' in command else (0,))
        for command in commands(INSTALL, 'Install the hook'):
            own.type(command)
        own.reboot()
        own.wait_for(AGENT, 'ActiveState', 'active')
        yield own


@pytest.fixture
def running(host, placement):
    """The host in order; it is put in order again after the test."""
    yield host
    placement.child.running or placement.start()
    host.type('rm -rf /etc/systemd/system/*.service.d; systemctl daemon-reload')
    host.type('systemctl reset-failed')
    if host.path('/etc/fstab').read_text() != FSTAB:
        host.write('/etc/fstab', FSTAB)
        host.reboot()
    # Stopped, so that the next agent knows of no problem before.
    host.type('systemctl stop nova-compute; systemctl start nova-compute')
    host.wait_for(AGENT, 'ActiveState', 'active')


def levels(host, since, text):
    """Return the priorities of the agent's lines that have this text."""
    return {priority for priority, line in host.journal(AGENT, since=since) if text in line}


def test_it_starts_with_the_host(host):
    """Nothing failed, nothing is still starting, and the store is found in its place."""
    wait_until(lambda: host.state() == 'running', 'the host has booted', 10.0)
    assert own_traits(host.compute) == {ENABLED_TRAIT}
    assert host.compute.inventory()['total'] == 128
    assert 'offers 128 MiB' in host.show(AGENT, 'StatusText')
    assert host.show(AGENT, 'NRestarts') == '0'
    assert levels(host, '', '') == {6}
    assert 'installed, and it works; to see ' in host.type('fbm-status hook check')


def test_a_refusal_is_in_the_journal(host):
    """Also that of a forced move, of which the API shows no reason."""
    refused = Domain()
    host.write('/run/refused.xml', refused.xml())
    host.type('virsh create /run/refused.xml', good=(1,))
    (command,) = commands('doc/source/admin/hook.rst', 'Read a refusal')
    printed = host.type(command)
    assert f'guest {refused.name} ({refused.uuid}) may not start here: its memory is' in printed


def test_reload(running):
    since, pid = running.cursor(), running.show(AGENT, 'MainPID')
    running.configure('file_backed_memory', interval=200)
    running.type('systemctl reload fbm-agent')
    running.wait_for(AGENT, 'ActiveState', 'active')
    assert running.show(AGENT, 'MainPID') == pid
    assert levels(running, since, 'interval=200') == {6}


def test_stopped_with_nova_compute(running):
    """It leaves neither a status nor its directory behind, and starts with nova-compute."""
    running.type('systemctl stop nova-compute')
    assert running.show(AGENT, 'ActiveState') == 'inactive'
    assert running.show(AGENT, 'StatusText') == ''
    assert running.show(AGENT, 'Result') == 'success'
    assert not running.path('/run/fbm-agent').exists()
    assert own_traits(running.compute) == {ENABLED_TRAIT}
    running.type('systemctl start nova-compute')
    running.wait_for(AGENT, 'ActiveState', 'active')


def test_restarted_with_nova_compute(running):
    pid = running.show(AGENT, 'MainPID')
    running.type('systemctl restart nova-compute')
    running.wait_for(AGENT, 'ActiveState', 'active')
    assert running.show(AGENT, 'MainPID') != pid
    assert running.path('/run/fbm-agent/host.json').exists()


def test_masked(running):
    """Nothing starts it, and nova-compute runs all the same."""
    running.type('systemctl mask --now fbm-agent')
    running.type('systemctl restart nova-compute')
    assert running.show('nova-compute', 'ActiveState') == 'active'
    assert running.show(AGENT, 'ActiveState') == 'inactive'
    running.type('systemctl unmask fbm-agent')


def drop_in(host, *lines):
    host.write('/etc/systemd/system/fbm-agent.service.d/test.conf', '\n'.join(lines) + '\n')
    host.type('systemctl daemon-reload && systemctl restart fbm-agent')


def test_crashes(running):
    """However often: the agent runs again, and the hook never stops to enforce."""
    drop_in(running, '[Service]', 'RestartSec=100ms')
    for number in range(1, 7):
        running.wait_for(AGENT, 'ActiveState', 'active')
        running.type('systemctl kill -s KILL fbm-agent')
        running.wait_for(AGENT, 'NRestarts', str(number))
        assert running.path('/run/fbm-agent/host.json').exists()
    running.wait_for(AGENT, 'ActiveState', 'active')


def test_watchdog(running):
    """An agent that hangs is ended and started again."""
    drop_in(running, '[Service]', 'RestartSec=100ms', 'WatchdogSec=2', 'TimeoutAbortSec=1')
    time.sleep(3)
    assert running.show(AGENT, 'NRestarts') == '0'
    running.type('systemctl kill -s STOP fbm-agent')
    running.wait_for(AGENT, 'NRestarts', '1')
    running.wait_for(AGENT, 'ActiveState', 'active')


def test_a_forbidden_configuration(running):
    """It ends once, with the reason, and the next start of nova-compute tries it again."""
    since = running.cursor()
    running.configure(ram_allocation_ratio=1.5)
    running.type('systemctl restart nova-compute')
    running.wait_for(AGENT, 'ActiveState', 'failed')
    assert running.show(AGENT, 'ExecMainStatus') == '2'
    assert running.show(AGENT, 'StatusText') == ''
    assert levels(running, since, 'ram_allocation_ratio') == {3}
    running.configure(ram_allocation_ratio=1.0)
    running.type('systemctl restart nova-compute')
    running.wait_for(AGENT, 'ActiveState', 'active')


# The boot


def test_placement_down_at_boot(running, placement):
    """The boot ends all the same, and what the guide advises meanwhile does not wait."""
    placement.stop()
    running.reboot()
    assert running.state() == 'starting'
    running.wait_for('nova-compute', 'ActiveState', 'active')
    running.wait_for(AGENT, 'ActiveState', 'activating')
    # The agent runs, or SIGHUP would end it, and systemd start it again.
    wait_until(lambda: 'failed' in running.show(AGENT, 'StatusText'), 'a failed pass')
    since = running.cursor()
    running.type('systemctl kill --kill-who=main --signal=HUP fbm-agent', timeout=5)
    wait_until(lambda: levels(running, since, 'reloaded') == {6}, 'reloaded while it is starting')
    wait_until(lambda: running.state() == 'running', 'the boot has ended', 60)
    assert running.show(AGENT, 'ActiveState') == 'active'
    assert 'failed' in running.show(AGENT, 'StatusText')
    assert levels(running, '', '(try 1; next in') >= {3}
    running.type('systemctl reload fbm-agent', timeout=5)
    placement.start()
    running.type('systemctl restart fbm-agent', timeout=30)
    assert 'offers 128 MiB' in running.show(AGENT, 'StatusText')


def test_a_store_that_is_mounted_late(running):
    """Closed for as long as it is not there, and no disk."""
    running.fstab('ram /srv/fbm tmpfs size=128m,mode=0711,noauto 0 0')
    running.reboot()
    running.wait_for(AGENT, 'ActiveState', 'active')
    assert 'the store is not mounted' in running.show(AGENT, 'StatusText')
    assert levels(running, '', 'takes no new instance: the store is not mounted') == {3}
    assert own_traits(running.compute) == {ENABLED_TRAIT, UNHEALTHY_TRAIT}
    running.type('rm -r /srv/fbm/libvirt')
    running.type('systemctl start srv-fbm.mount && systemctl restart libvirtd')
    wait_until(lambda: own_traits(running.compute) == {ENABLED_TRAIT}, 'open', 30.0)


@pytest.mark.parametrize('where', ['/dev/ram', '/tmp/ram'])
def test_agent_and_doctor_see_the_same_store(running, where):
    """Also one that is mounted after the agent's start, where services see other directories."""
    running.type(f'mkdir {where} && mount -t tmpfs -o size=128m,mode=0711 ram {where}')
    running.type(f'mkdir -p {where}/libvirt/qemu')
    try:
        running.configure('file_backed_memory', memory_backing_dir=where)
        running.type('systemctl reload fbm-agent')
        wait_until(lambda: 'reloaded' not in running.show(AGENT, 'StatusText'), 'a pass', 10.0)
        status = running.show(AGENT, 'StatusText')
        printed = running.type('fbm-status upgrade check --json', good=(0, 1, 2))
        (store,) = (one for one in json.loads(printed)['checks'] if one['check'] == 'Store')
        refusal = 'is in a directory for temporary files'
        refused = where == '/tmp/ram'
        assert (refusal in status, refusal in (store['details'] or '')) == (refused, refused)
        assert ('UNHEALTHY' in status, store['result'] == 2) == (refused, refused)
    finally:
        running.configure('file_backed_memory', memory_backing_dir=None)
        running.type(f'umount {where}')


def test_a_store_whose_device_fails(running):
    """By the guide's line the host boots, closed; without nofail there is only its console."""
    (line,) = (one for one in commands(STORE) if '/etc/fstab' in one)
    for command in commands(STORE)[3:5]:
        running.type(command)
    running.write('/etc/fstab', '')
    running.type(
        line.replace('/dev/nvme0n1', 'ram').replace('xfs', 'tmpfs').replace('noatime', 'size=x')
    )
    running.reboot()
    wait_until(lambda: running.state() == 'degraded', 'the boot has ended', 10.0)
    assert running.show('multi-user.target', 'ActiveState') == 'active'
    assert running.show('libvirtd', 'ActiveState') == 'inactive'
    assert 'the store is not mounted' in running.show(AGENT, 'StatusText')
    assert not running.path('/srv/fbm/libvirt').exists()
    running.fstab('ram /srv/fbm tmpfs size=x 0 0')
    running.reboot()
    wait_until(lambda: running.state() == 'maintenance', 'in emergency mode', 10.0)
    # How long it waits for a device: only where /sys is not read-only, as in a container.
    running.fstab('')
    running.type(line)
    running.type('mount -o remount,rw /sys && systemctl daemon-reload')
    assert running.show('dev-nvme0n1.device', 'JobRunningTimeoutUSec') == '30s'


# libvirtd


def test_a_libvirtd_that_stops_when_idle(running):
    """Its next start, by a client, makes the store's directory and runs the hook."""
    running.write('/etc/default/libvirtd', 'LIBVIRTD_ARGS="--timeout 1"\n')
    running.type('systemctl restart libvirtd')
    running.wait_for('libvirtd', 'ActiveState', 'inactive')
    running.type('umount /srv/fbm && mount /srv/fbm')
    refused = create(running, Domain())
    assert 'its memory is not file-backed' in refused.stderr
    assert running.show('libvirtd', 'ActiveState') == 'active'
    guest = Domain(backing=FILE_BACKED)
    done = create(running, guest)
    assert done.returncode == 0, done.stderr
    running.type(f'virsh -c qemu:///system destroy {guest.name}; rm /etc/default/libvirtd')


def test_a_stopped_mount(running):
    """It stops libvirtd, but no guest, which keeps the store; libvirtd's start mounts it."""
    for command in commands(STORE)[3:5]:
        running.type(command)
    running.type('systemctl daemon-reload; systemctl restart libvirtd')
    guest = Domain(backing=FILE_BACKED)
    assert create(running, guest).returncode == 0
    running.type('systemctl stop srv-fbm.mount', good=(1,))
    assert running.show('libvirtd', 'ActiveState') == 'inactive'
    running.type('findmnt /srv/fbm')
    running.type('systemctl start libvirtd')
    # libvirt reports a guest that is destroyed while libvirtd finds it again as not found.
    time.sleep(1)
    running.type(f'virsh -c qemu:///system destroy {guest.name}')
    running.type('systemctl stop srv-fbm.mount')
    running.type('findmnt /srv/fbm', good=(1,))
    running.type('systemctl start libvirtd')
    running.type('findmnt /srv/fbm')
    running.type('umount /srv/fbm')
    assert running.show('libvirtd', 'ActiveState') == 'active'
    running.type('mount /srv/fbm && systemctl restart libvirtd')


# The check before nova-compute


def test_nova_compute_waits_for_the_check(running):
    for command in commands(CHECK, 'Check nova.conf before nova-compute starts')[:2]:
        running.type(command)
    running.type('systemctl restart nova-compute')
    assert running.show('nova-compute', 'ActiveState') == 'active'
    running.configure(ram_allocation_ratio=1.5)
    running.type('systemctl restart nova-compute', good=(1,))
    assert running.show('nova-compute', 'ActiveState') == 'inactive'
    assert 'ram_allocation_ratio' in running.type(
        'systemctl status --no-pager fbm-check', good=(3,)
    )
    time.sleep(1)
    assert running.show('nova-compute', 'ActiveState') == 'inactive'
    running.configure(ram_allocation_ratio=1.0)
    for command in commands(CHECK, 'Check nova.conf before nova-compute starts')[2:]:
        running.type(command)
    running.wait_for(AGENT, 'ActiveState', 'active')
    # As after an uninstallation in the wrong order.
    unit = '/usr/local/lib/systemd/system/fbm-check.service'
    running.type(f'mv {unit} {unit}.away && systemctl daemon-reload')
    running.type('systemctl stop nova-compute')
    running.type('systemctl start nova-compute', good=(5,))
    for command in commands(CHECK, 'Turn it off'):
        running.type(command)
    running.type('systemctl start nova-compute')
    assert not running.path('/etc/systemd/system/nova-compute.service.d').exists()
    running.type(f'mv {unit}.away {unit} && systemctl daemon-reload')


# Upgrade, uninstall


def test_upgrade(running):
    running.release(NEW)
    install, reload, *rest = commands(INSTALL, 'Upgrade')
    running.type(install)
    assert not running.show(AGENT, 'Description').startswith(NEW)
    running.type(reload)
    assert running.show(AGENT, 'Description').startswith(NEW)
    assert levels(running, '', f'fbm-agent {NEW}') == {6}
    for command in rest:
        running.type(command)
    assert 'installed, and it works' in running.type('fbm-status hook check')


def uninstall(host, blocks):
    """Type the guide's commands; nothing may be left, and nova-compute runs on."""
    for command in blocks:
        host.type(command)
    assert host.named_as_ours() - host.before == set()
    assert not host.path('/run/fbm-agent').exists()
    assert not host.path('/etc/libvirt/hooks').exists()
    assert host.show('nova-compute', 'ActiveState') == 'active'
    assert host.show(AGENT, 'LoadState') == 'not-found'
    assert own_traits(host.compute) == set()


def test_uninstall(host):
    uninstall(host, commands(INSTALL, 'Roll back and uninstall')[:6])


def test_a_virtual_environment(make_host):
    """Its commands and units are found by the shell and by systemd, also at the next boot."""
    with make_host('venv') as own:
        own.furnish()
        for command in commands(INSTALL, 'In a virtual environment'):
            own.type(command)
        own.type(commands(INSTALL, 'Install the agents')[-1])
        own.type('fbm-status hook install')
        own.reboot()
        own.wait_for(AGENT, 'ActiveState', 'active')
        assert own_traits(own.compute) == {ENABLED_TRAIT}
        own.type('systemctl disable --now fbm-agent && systemctl mask fbm-agent')
        own.type('systemctl unmask fbm-agent && systemctl enable --now fbm-agent')
        own.release(NEW)
        own.type(f'/opt/fbm-placement/bin/{commands(INSTALL, "Upgrade")[0]}')
        own.type(commands(INSTALL, 'Upgrade')[1])
        assert own.show(AGENT, 'Description').startswith(NEW)
        blocks = commands(INSTALL, 'Roll back and uninstall')
        withdrawn, venv = blocks[:3], blocks[6:]
        uninstall(own, [*withdrawn, *venv, 'systemctl daemon-reload'])

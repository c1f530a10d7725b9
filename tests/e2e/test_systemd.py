# SPDX-License-Identifier: Apache-2.0
"""The agent under a real systemd: installed, run, upgraded and removed as the guide says."""

import time

import pytest

from tests.e2e.lab.domain import Domain
from tests.e2e.systemd_compute import SystemdCompute, build
from tests.services.documents import commands
from tests.services.expected import ENABLED_TRAIT, own_traits
from tests.services.placement import PlacementServer
from tests.services.process import wait_until

pytestmark = pytest.mark.timeout(240)

INSTALL = 'doc/source/admin/install.rst'
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
    host.type('systemctl revert fbm-agent; systemctl reset-failed; systemctl restart nova-compute')
    host.wait_for(AGENT, 'ActiveState', 'active')


def priorities(host, since=''):
    return {priority for priority, _ in host.journal(AGENT, since=since)}


def test_it_starts_with_the_host(host):
    """Nothing failed, nothing is still starting, and the store is found in its place."""
    wait_until(lambda: host.state() == 'running', 'the host has booted', 10.0)
    assert own_traits(host.compute) == {ENABLED_TRAIT}
    assert host.compute.inventory()['total'] == 128
    assert 'offers 128 MiB' in host.show(AGENT, 'StatusText')
    assert host.show(AGENT, 'NRestarts') == '0'
    assert priorities(host) == {6}
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
    assert any('interval=200' in text for _, text in running.journal(AGENT, since=since))


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
    assert any('ram_allocation_ratio' in text for _, text in running.journal(AGENT, since=since))
    running.configure(ram_allocation_ratio=1.0)
    running.type('systemctl restart nova-compute')
    running.wait_for(AGENT, 'ActiveState', 'active')

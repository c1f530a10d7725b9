# SPDX-License-Identifier: Apache-2.0
"""``fbm-status`` as an operator runs it, against the real Placement."""

import contextlib
import json
import shutil
import subprocess

import pytest

from fbm_placement import names
from fbm_placement.doctor import facts
from tests.functional.agent_process import CAPACITY, AgentHost, make_enabled
from tests.services.nova_compute import NovaCompute
from tests.services.placement import PlacementServer
from tests.services.process import program

OF_PLACEMENT = ('Placement', 'Rights in Placement', 'Allocations', 'nova-compute and fbm-agent')

READ_ONLY = """
"placement:resource_providers:list": "@"
"placement:resource_providers:show": "@"
"placement:resource_providers:inventories:list": "@"
"placement:resource_providers:traits:list": "@"
"placement:resource_providers:allocations:list": "@"
"""


@pytest.fixture
def host(tmp_path, compute):
    return AgentHost(tmp_path / 'host', compute)


def status(host, *arguments):
    """Run ``fbm-status`` on this host."""
    argv = [program('fbm-status'), '--config-file', str(host.nova_conf), *arguments]
    return host.run_argv(argv)


def checks(host):
    """Run the doctor; return its results by their names, and its exit code."""
    ended = status(host, 'upgrade', 'check', '--json')
    assert ended.stderr == ''
    found = json.loads(ended.stdout)['checks']
    return {one['check']: (one['result'], one['details']) for one in found}, ended.status


@contextlib.contextmanager
def another_agent():
    """A process that is called fbm-agent."""
    with subprocess.Popen(['fbm-agent', '60'], executable=shutil.which('sleep')) as process:
        try:
            yield
        finally:
            process.kill()


def test_a_host_that_is_well(host, compute):
    """What Placement is asked about is all well, and nothing was written."""
    compute.knows_file_backed_memory(CAPACITY)
    compute.report()
    make_enabled(compute)
    before = compute.everything()
    with host.ready_daemon():
        found, _ = checks(host)
    assert {name: found[name][0] for name in OF_PLACEMENT} == dict.fromkeys(OF_PLACEMENT, 0)
    assert found['Configuration'] == (0, f'enabled: {CAPACITY} MiB can be allocated to instances')
    assert found['Store'][0] == 0
    assert found['fbm-agent'][0] == 0
    assert compute.everything() == before
    # It left its last look behind, but does not look any more; an agent that runs elsewhere on
    # this machine (in a container, in another test) is not the one that looked at this host.
    with another_agent():
        result, details = checks(host)[0]['fbm-agent']
    assert result == 1
    assert 'no fbm-agent runs now' in details


def test_may_it_be_turned_on_here(host, compute):
    """Nothing is enabled: no failure, and what is missing is told."""
    host.configure('libvirt', file_backed_memory=0)
    host.configure('file_backed_memory', memory_backing_dir='/nowhere/at/all')
    before = compute.everything()
    found, code = checks(host)
    assert code == 1
    assert [name for name, (result, _) in found.items() if result == 2] == []
    assert found['Store'][1].startswith('before it is turned on: memory_backing_dir /nowhere')
    assert found['fbm-agent'][0] == 1
    assert compute.everything() == before


def test_an_overwritten_inventory(host, compute):
    """Placement has the DRAM, and nova-compute put it there."""
    compute.overwrite_inventory(total=65536, max_unit=65536, allocation_ratio=1.5)
    result, details = checks(host)[0]['nova-compute and fbm-agent']
    assert result == 1
    assert 'Placement has total=65536 ' in details
    assert 'allocation_ratio=1.5, the agent would set total=' in details
    assert 'nova-compute' in details


def test_a_configuration_that_forbids_to_run_hides_nothing_else(host):
    host.configure(ram_allocation_ratio=1.5)
    found, code = checks(host)
    assert code == 2
    assert 'set ram_allocation_ratio = 1.0' in found['Configuration'][1]
    assert found['Placement'][0] == 0


def test_post_copy_on_a_tmpfs_is_fine(host):
    """The store here is one."""
    host.configure('libvirt', live_migration_permit_post_copy=True)
    assert checks(host)[0]['Post-copy'] == (0, 'permitted, and the store is in DRAM')


def test_a_placement_that_is_away_is_told_once(host):
    host.speak_to('http://127.0.0.1:1')
    found, code = checks(host)
    assert code == 2
    assert found['Placement'][0] == 2
    assert 'connection refused' in found['Placement'][1]
    for name in OF_PLACEMENT[1:]:
        assert found[name] == (1, 'not known, because the check "Placement" failed')
    assert found['Store'][0] == 0


def test_rights_that_do_not_suffice_are_told_and_nothing_is_written(tmp_path):
    """A user who may look but not write: the agent would fail at its first pass."""
    directory = tmp_path / 'placement'
    directory.mkdir()
    (directory / 'policy.yaml').write_text(READ_ONLY)
    with PlacementServer(directory) as placement:
        compute = NovaCompute(placement.url).start()
        host = AgentHost(
            tmp_path / 'host',
            compute,
            {'auth_type': 'admin_token', 'endpoint': placement.url, 'token': 'reader'},
        )
        before = compute.everything()
        found, code = checks(host)
        assert code == 2
        result, details = found['Rights in Placement']
        assert result == 2
        assert details.count('the user in [placement] needs the role "service"') == 3
        assert found['Placement'][0] == 0
        assert compute.everything() == before
        traits = compute.call('GET', '/traits')['traits']
        assert names.TRAIT_ENABLED not in traits


@pytest.mark.parametrize('command', [('sleep', '60'), ('no-such-program',)])
def test_a_program_that_hangs_or_is_missing_prints_nothing(command):
    """Virsh waits for a libvirtd that hangs."""
    assert facts.output(command, seconds=0.2) == ''
    assert facts.output(('echo', 'QEMU')) == 'QEMU\n'


def test_the_table_for_people(host):
    ended = status(host, 'upgrade', 'check')
    assert '| Check: Configuration' in ended.stdout
    assert ended.stderr == ''


@pytest.mark.parametrize(
    ('options', 'code', 'words'),
    [
        ({}, 0, f'enabled, {CAPACITY} MiB; nova-compute may start'),
        ({'ram_allocation_ratio': 2.0}, 2, 'set ram_allocation_ratio = 1.0'),
        ({'reserved_host_memory_mb': -1}, 2, 'reserved_host_memory_mb is -1'),
    ],
)
def test_the_configuration_alone(host, options, code, words):
    """Before nova-compute starts; no Placement is asked."""
    host.speak_to('http://127.0.0.1:1')
    host.configure(**options)
    ended = status(host, 'config', 'check')
    assert ended.status == code
    assert words in ended.stdout + ended.stderr


def test_the_hook_needs_no_nova_conf(host, tmp_path):
    """It knows nova.conf from the agent; a relative path is one, too."""
    (tmp_path / 'libvirt').mkdir()
    fbm_status = f'export HOME=/nowhere; cd {tmp_path}; {program("fbm-status")}'
    for what in ('install', 'check', 'remove'):
        ended = host.run_argv(['sh', '-c', f'{fbm_status} hook {what} --hooks-dir libvirt/hooks'])
        assert ended.status == 0, ended


@pytest.mark.parametrize(
    'arguments', [(), ('upgrade',), ('upgrade', 'chek'), ('hook',), ('guests', '-f', 'xml')]
)
def test_a_command_that_does_not_exist_is_told(host, arguments):
    ended = status(host, *arguments)
    assert ended.status == 2
    assert 'usage: fbm-status' in ended.stderr


def test_help_teaches(host):
    ended = status(host, '--help')
    assert ended.status == 0
    for command in ('upgrade', 'config', 'guests', 'hook'):
        assert command in ended.stdout

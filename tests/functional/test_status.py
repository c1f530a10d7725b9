# SPDX-License-Identifier: Apache-2.0
"""``fbm-status`` as an operator runs it, against the real Placement."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fbm_placement.doctor import facts
from tests.services.agent import CAPACITY, AgentHost
from tests.services.expected import ENABLED_TRAIT, make_enabled
from tests.services.nova_compute import NovaCompute
from tests.services.nova_conf import admin_token
from tests.services.placement import PlacementServer
from tests.services.process import program

CASES = Path(__file__).parents[1] / 'cases' / 'nova-conf'
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
    return host.run_argv([program('fbm-status'), '--config-file', str(host.path), *arguments])


def checks(host):
    ended = status(host, 'upgrade', 'check', '--json')
    assert ended.stderr == ''
    found = json.loads(ended.stdout)['checks']
    return {one['check']: (one['result'], one['details']) for one in found}, ended.status


def test_a_healthy_host(host, compute):
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
    # It left host.json behind, but runs no more; an agent that runs elsewhere on this machine (in
    # a container, in another test) is not the one that wrote it.
    with subprocess.Popen(['fbm-agent', '60'], executable=shutil.which('sleep')) as another:
        result, details = checks(host)[0]['fbm-agent']
        another.kill()
    assert result == 1
    assert 'no fbm-agent runs now' in details


def test_before_it_is_turned_on(host, compute):
    """Nothing is enabled: no failure, but warnings of what is missing."""
    host.configure('libvirt', file_backed_memory=0)
    host.configure('file_backed_memory', memory_backing_dir='/nowhere/at/all')
    before = compute.everything()
    found, code = checks(host)
    assert code == 1
    assert [name for name, (result, _) in found.items() if result == 2] == []
    assert found['Store'][1].startswith('before it is turned on: memory_backing_dir /nowhere')
    assert found['fbm-agent'][0] == 1
    assert 'of DRAM: this, not a capacity, limits' in found['NUMA cells'][1]
    assert compute.everything() == before


def test_a_coming_overwrite_loop_is_a_warning(host, compute):
    """Placement holds DRAM, and nova-compute put it there."""
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


def test_a_placement_that_is_away_is_one_failure(host):
    host.speak_to('http://127.0.0.1:1')
    found, code = checks(host)
    assert code == 2
    assert found['Placement'][0] == 2
    assert 'connection refused' in found['Placement'][1]
    for name in OF_PLACEMENT[1:]:
        assert found[name] == (1, 'not known, because the check "Placement" failed')
    assert found['Store'][0] == 0


@pytest.mark.parametrize(
    ('case', 'beginning'),
    [
        ('placement-without-password', '[placement]password is not set: auth_type password'),
        (
            'placement-auth-type-extra-not-installed',
            '[placement]auth_type is v3kerberos: a ',
        ),
        ('config-source-castellan', "[DEFAULT]config_source: could not load configuration from '"),
    ],
)
def test_a_wrong_placement_section_is_one_failure(host, case, beginning):
    """The same line ends the agent, once or as a service, with 2."""
    files = ['--config-file', str(host.path), '--config-file', str(CASES / f'{case}.conf')]
    ended = host.run_argv([program('fbm-status'), *files, 'upgrade', 'check', '--json'])
    found = {one['check']: one for one in json.loads(ended.stdout)['checks']}
    assert (ended.status, ended.stderr) == (2, '')
    assert found['Placement']['result'] == 2
    assert found['Placement']['details'].startswith(beginning)
    for name in OF_PLACEMENT[1:]:
        assert found[name]['details'] == 'not known, because the check "Placement" failed'
    assert found['Configuration']['result'] == 0
    for flags in ([], ['--once'], ['--dry-run'], ['--withdraw']):
        ended = host.run_argv([program('fbm-agent'), *files, *flags])
        assert (ended.status, ended.stdout) == (2, '')
        assert ended.stderr == f'fbm-agent: {found["Placement"]["details"]}\n'


def test_missing_rights_are_a_failure_and_nothing_is_written(tmp_path):
    """A user who may read but not write: the agent would fail at its first pass."""
    directory = tmp_path / 'placement'
    directory.mkdir()
    (directory / 'policy.yaml').write_text(READ_ONLY)
    with PlacementServer(directory) as placement:
        compute = NovaCompute(placement.url).start()
        host = AgentHost(tmp_path / 'host', compute, admin_token(placement.url, 'reader'))
        before = compute.everything()
        found, code = checks(host)
        assert code == 2
        result, details = found['Rights in Placement']
        assert result == 2
        assert details.count('the user in [placement] needs the role "service"') == 3
        assert found['Placement'][0] == 0
        assert compute.everything() == before
        assert ENABLED_TRAIT not in compute.call('GET', '/traits')['traits']


@pytest.mark.parametrize('command', [('sleep', '60'), ('no-such-program',)])
def test_a_program_that_hangs_or_is_missing_prints_nothing(command):
    """Virsh waits for a libvirtd that hangs."""
    assert facts.output(command, seconds=0.2) == ''
    assert facts.output(('echo', 'QEMU')) == 'QEMU\n'


@pytest.mark.parametrize(
    ('options', 'code', 'text'),
    [
        ({}, 0, f'enabled, {CAPACITY} MiB; nova-compute may start'),
        ({'ram_allocation_ratio': 2.0}, 2, 'set ram_allocation_ratio = 1.0'),
        ({'reserved_host_memory_mb': -1}, 2, 'reserved_host_memory_mb is -1'),
    ],
)
def test_the_configuration_alone(host, options, code, text):
    """Before nova-compute starts; Placement is not needed."""
    host.speak_to('http://127.0.0.1:1')
    host.configure(**options)
    ended = status(host, 'config', 'check')
    assert ended.status == code
    assert text in ended.stdout + ended.stderr


def test_the_hook_needs_no_nova_conf(host, tmp_path):
    """The hook gets its settings from the agent; --hooks-dir may be relative."""
    (tmp_path / 'libvirt').mkdir()
    fbm_status = f'export HOME=/nowhere; cd {tmp_path}; {program("fbm-status")}'
    for what, status_without_agent in (('install', 0), ('check', 1), ('remove', 0)):
        ended = host.run_argv(['sh', '-c', f'{fbm_status} hook {what} --hooks-dir libvirt/hooks'])
        assert ended.status == status_without_agent, ended


@pytest.mark.parametrize(
    'arguments', [(), ('upgrade',), ('upgrade', 'chek'), ('hook',), ('guests', '-f', 'xml')]
)
def test_a_wrong_command_line_exits_2_with_the_usage(host, arguments):
    ended = status(host, *arguments)
    assert ended.status == 2
    assert 'usage: fbm-status' in ended.stderr


def test_help_and_table(host):
    ended = status(host, '--help')
    assert ended.status == 0
    for command in ('upgrade', 'config', 'guests', 'hook'):
        assert command in ended.stdout
    ended = status(host, 'upgrade', 'check')
    assert '| Check: Configuration' in ended.stdout
    assert ended.stderr == ''

# SPDX-License-Identifier: Apache-2.0
"""The services that the other tests use are the real ones, and behave as those do."""

import os
import signal
import sys
import uuid
from pathlib import Path

import pytest
import requests

from tests.services.nova_compute import ComputeError, NovaCompute
from tests.services.openstack import CommandError, OpenStackCommand
from tests.services.placement import PlacementServer
from tests.services.process import (
    PATIENCE,
    ChildProcess,
    ProcessError,
    run_to_the_end,
    wait_until,
)

SLEEP = [sys.executable, '-c', 'import time; print("up"); time.sleep(60)']


def test_the_openstack_command_fails_with_its_own_message(openstack):
    with pytest.raises(CommandError, match='No resource provider with uuid'):
        openstack.text('resource', 'provider', 'show', str(uuid.uuid4()))


def test_placement_wants_a_token(placement):
    assert requests.get(f'{placement.url}/traits', timeout=PATIENCE).status_code == 401
    stranger = NovaCompute(placement.url, token='notused')
    with pytest.raises(ComputeError, match='403'):
        stranger.start()


def test_placement_refuses_a_stale_generation(compute):
    body = {'resource_provider_generation': compute.generation(), **compute.inventory()}
    compute.allocate(memory_mib=1)
    path = f'/resource_providers/{compute.uuid}/inventories/MEMORY_MB'
    with pytest.raises(ComputeError, match=r'409 .*placement\.concurrent_update'):
        compute.call('PUT', path, '1.39', body)


def test_placement_keeps_its_data_over_a_restart(tmp_path):
    with PlacementServer(tmp_path) as server:
        compute = NovaCompute(server.url).start()
        before = compute.everything()
        server.restart()
        assert compute.everything() == before
        server.stop()
        with pytest.raises(requests.ConnectionError):
            compute.everything()


def test_nova_compute_notices_an_overwrite_only_with_a_fresh_view(compute):
    ours = compute.inventory()
    theirs = compute.overwrite_inventory(total=1048576, max_unit=1048576)
    assert not compute.report()
    assert compute.inventory() == theirs
    assert compute.rewrite_inventory()
    assert compute.inventory() == ours


def test_nova_compute_meets_a_conflict_with_a_fresh_view(compute, placement):
    """A write of its own on a stale generation is a 409: it drops its cache and redoes all."""
    compute.overwrite_inventory(total=1048576, max_unit=1048576)
    compute.traits_of_driver |= {'HW_CPU_X86_SSE42'}
    asked_before = len(placement.requests())
    assert compute.report()
    answers = [
        request.status
        for request in placement.requests()[asked_before:]
        if request.method == 'PUT'
    ]
    assert answers == [409, 200, 200]
    assert compute.inventory()['total'] == compute.memory_mib
    assert 'HW_CPU_X86_SSE42' in compute.traits()


def test_nova_compute_leaves_custom_traits_alone(compute):
    compute.change_traits(add={'CUSTOM_RACK_7', 'COMPUTE_RESCUE_BFV'})
    compute.traits_of_driver |= {'HW_CPU_X86_SSE42'}
    compute.report(refresh=True)
    assert 'CUSTOM_RACK_7' in compute.traits()
    assert 'COMPUTE_RESCUE_BFV' not in compute.traits()


@pytest.mark.parametrize(
    ('role', 'project', 'allowed'),
    [
        ('service', 'service', True),
        ('service', 'elsewhere', True),
        # A manager is a member and a reader as well.
        ('manager', 'service', False),
    ],
)
def test_placement_asks_keystone_for_the_role(keystone, secured_compute, role, project, allowed):
    """The role `service` is the least that the agent's requests need, in any project."""
    account = keystone.create_user(f'{role}-{uuid.uuid4()}', roles=[role], project=project)
    as_them = NovaCompute(
        secured_compute.url, keystone.token(account), secured_compute.uuid, secured_compute.name
    )
    provider = f'/resource_providers/{as_them.uuid}'
    inventory, traits = secured_compute.inventory(), sorted(secured_compute.traits())
    for method, path, body in [
        ('GET', f'/resource_providers?name={as_them.name}', None),
        ('GET', provider, None),
        ('GET', f'{provider}/inventories', None),
        ('PUT', f'{provider}/inventories/MEMORY_MB', inventory),
        ('GET', f'{provider}/traits', None),
        ('PUT', f'{provider}/traits', {'traits': traits}),
        ('GET', f'{provider}/allocations', None),
        ('GET', '/traits?name=in:CUSTOM_FILE_BACKED_MEMORY', None),
        ('PUT', f'/traits/CUSTOM_MADE_BY_{role.upper()}', None),
    ]:
        if body:
            body['resource_provider_generation'] = secured_compute.generation()
        if allowed:
            as_them.call(method, path, '1.39', body)
        else:
            with pytest.raises(ComputeError, match='403'):
                as_them.call(method, path, '1.39', body)


def test_a_forgotten_token_is_refused(keystone, secured_compute):
    secured_compute.token = keystone.token()
    secured_compute.everything()
    keystone.forget_tokens()
    with pytest.raises(ComputeError, match='401'):
        secured_compute.everything()
    secured_compute.token = keystone.token()
    secured_compute.everything()


def test_the_catalogue_has_placements_endpoint(keystone, secured_placement, secured_compute):
    account = keystone.create_user('finder')
    command = OpenStackCommand.with_account(account)
    shown = command.json('resource', 'provider', 'show', secured_compute.uuid)
    assert shown['name'] == secured_compute.name

    nowhere = 'http://127.0.0.1:9'
    keystone.set_endpoint('placement', nowhere)
    assert account.session().get_endpoint(service_type='placement') == nowhere
    keystone.set_endpoint('placement', secured_placement.url)
    assert account.session().get_endpoint(service_type='placement') == secured_placement.url


def test_a_child_that_ends_too_early_shows_its_log(tmp_path):
    child = ChildProcess([sys.executable, '-c', 'exit("no such thing")'], tmp_path / 'log')
    with child, pytest.raises(ProcessError, match=r'(?s)ended with 1 before.*no such thing'):
        child.wait_for_output('up')
    with pytest.raises(ProcessError, match='ended with 127'):
        run_to_the_end(['/nonexistent'], tmp_path / 'log')


def test_a_child_that_ignores_sigterm_is_killed(tmp_path):
    ignore = 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
    argv = [sys.executable, '-c', ignore + SLEEP[-1]]
    with ChildProcess(argv, tmp_path / 'log') as child:
        child.wait_for_output('up')
        assert child.stop(timeout=0.2) == -signal.SIGKILL


def test_nothing_is_left_when_a_test_runner_is_killed(tmp_path):
    """The kernel ends the child of a parent that was given no chance to."""
    parent = (
        'import pathlib, sys, time; from tests.services.process import ChildProcess; '
        f'child = ChildProcess({SLEEP!r}, pathlib.Path("child.log")); '
        'print(child.start().wait_for_output("up").pid, end=";"); time.sleep(60)'
    )
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path), 'PYTHONUNBUFFERED': '1'}
    runner = ChildProcess(
        [sys.executable, '-c', parent], tmp_path / 'log', environment=environment, cwd=tmp_path
    )
    with runner:
        runner.wait_for_output(';')
        child = int(runner.output.strip(';'))
        assert runner.kill() == -signal.SIGKILL
    wait_until(lambda: not _alive(child), f'process {child} ended with its parent', 10)


def _alive(pid):
    try:
        # A zombie is dead enough.
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False

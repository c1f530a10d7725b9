# SPDX-License-Identifier: Apache-2.0
"""devstack's plugin: settings that can't work end stack.sh before anything is done."""

import pytest

from tests.devstack.node import ALL_IN_ONE, COMPUTE

SCHEDULER = 'n-api,n-sch,n-cond,placement-api'
MIB = 'expected a number of MiB above 0'
SECONDS = 'expected a number of seconds above 0'
FIX = 'set it so in local.conf, or leave it out'

# What a host with a store refuses.
STORE = [
    ({'FBM_STORE_KIND': 'disk'}, 'FBM_STORE_KIND is disk, expected one of loop, tmpfs, none'),
    ({'FBM_STORE_SIZE': '8G'}, f'FBM_STORE_SIZE is 8G, {MIB}: {FIX}'),
    ({'FBM_STORE_SIZE': '9' * 20}, f'FBM_STORE_SIZE is {"9" * 20}, {MIB}'),
    ({'FBM_STORE_SIZE': '255'}, 'FBM_STORE_SIZE is 255, expected 256 MiB or more'),
    ({'FBM_STORE_DIR': 'srv'}, 'FBM_STORE_DIR is srv, expected an absolute path'),
    ({'FBM_STORE_KIND': 'none'}, 'nothing is mounted on'),
    ({'FBM_FILE_BACKED_MEMORY': '0'}, f'FBM_FILE_BACKED_MEMORY is 0, {MIB}'),
    ({'FBM_FILE_BACKED_MEMORY': '8193'}, 'is 8193, expected at most FBM_STORE_SIZE, 8192 MiB'),
    (
        {'FBM_FILE_BACKED_MEMORY': '513', 'FBM_STORE_SIZE': '512', 'FBM_STORE_KIND': 'tmpfs'},
        'is 513, expected at most FBM_STORE_SIZE, 512 MiB: lower it, or enlarge FBM_STORE_SIZE',
    ),
    ({'VIRT_DRIVER': 'ironic'}, 'VIRT_DRIVER is ironic'),
]
# What every compute host refuses.
HOST = [
    ({'FBM_AGENT_INTERVAL': '4'}, 'FBM_AGENT_INTERVAL is 4, expected seconds from 5 to 3600'),
    ({'FBM_AGENT_INTERVAL': '3601'}, f'is 3601, expected seconds from 5 to 3600: {FIX}'),
    ({'FBM_AGENT_INTERVAL': '15s'}, 'FBM_AGENT_INTERVAL is 15s, expected seconds'),
    ({'FBM_HOOK_MODE': 'on'}, f'is on, expected one of enforce, warn, off: {FIX}'),
    ({'FBM_HOOK_MODE': 'warn off'}, 'FBM_HOOK_MODE is warn off, expected one of'),
    ({'FBM_START_TIMEOUT': '0'}, f'FBM_START_TIMEOUT is 0, {SECONDS}: {FIX}'),
    ({'FBM_START_TIMEOUT': '5min'}, f'FBM_START_TIMEOUT is 5min, {SECONDS}'),
    ({'FBM_WITHDRAW_TIMEOUT': '-1'}, f'FBM_WITHDRAW_TIMEOUT is -1, {SECONDS}'),
]
POLICY = [
    ({'FBM_DEFAULT_POLICY': 'all'}, f'is all, expected one of any, forbidden: {FIX}'),
]
PLAIN = {'FBM_ENABLED': 'False'}


@pytest.mark.parametrize(
    ('services', 'variables', 'text'),
    [
        *((ALL_IN_ONE, *case) for case in STORE + HOST + POLICY),
        *((COMPUTE, PLAIN | variables, text) for variables, text in HOST),
        *((SCHEDULER, *case) for case in POLICY),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_done(
    new_node, services, variables, text
):
    node = new_node(services, **variables)
    before = node.tree()
    ended = node.run('stack', check=False)
    assert ended.returncode == 1
    assert text in ended.stderr
    assert node.calls == ['== stack pre-install']
    node.run('unstack')
    assert node.tree() == before


@pytest.mark.parametrize(
    ('services', 'variables'),
    [
        (COMPUTE, {'FBM_AGENT_INTERVAL': '5', 'FBM_DEFAULT_POLICY': 'all'}),
        (COMPUTE, {'FBM_AGENT_INTERVAL': '3600', 'FBM_HOOK_MODE': 'off'}),
        (COMPUTE, {'FBM_FILE_BACKED_MEMORY': '8192'}),
        (COMPUTE, PLAIN | {'FBM_STORE_KIND': 'disk', 'FBM_FILE_BACKED_MEMORY': '8193'}),
        (SCHEDULER, {'FBM_AGENT_INTERVAL': '4', 'FBM_HOOK_MODE': 'on'}),
    ],
)
def test_what_can_work_and_what_the_node_does_not_use_is_not_refused(
    new_node, services, variables
):
    new_node(services, **variables).run('stack')


@pytest.mark.parametrize('value', ['off', 'n', ''])
def test_unknown_value_is_the_default(new_node, value):
    node = new_node(COMPUTE, FBM_ENABLED=value)
    node.run('stack')
    assert 'memory_backing_dir' in node.qemu_conf.read_text()

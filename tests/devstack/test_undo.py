# SPDX-License-Identifier: Apache-2.0
"""devstack's plugin: run twice, undone, and refusing to start."""

import re

import pytest

from tests.devstack.node import ALL, COMPUTE, QEMU_CONF, read


def test_second_stack_leaves_the_same_files(any_node):
    any_node.run('stack')
    first = any_node.tree()
    calls = len(any_node.calls)
    any_node.run('stack')
    assert any_node.tree() == first
    assert not [
        call
        for call in any_node.calls[calls:]
        if call.startswith(('sudo mount', 'sudo mk')) and 'devstack@' not in call
    ]


@pytest.mark.parametrize('times', [1, 2])
def test_unstack_leaves_no_trace(any_node, new_node, times):
    """After it the files are to the byte what devstack makes without the plugin."""
    before = new_node(any_node.services, name='without', plugin=None)
    before.run('stack', 'unstack')
    any_node.run(*['stack'] * times, 'unstack')
    assert any_node.tree() == before.tree()


def test_unstack_gives_back_what_was_there(new_node):
    settings = {
        'NOVA_BEFORE': 'DEFAULT ram_allocation_ratio 16.0\n'
        'DEFAULT reserved_host_memory_mb 512\n'
        f'filter_scheduler available_filters {ALL}\n'
        'libvirt file_backed_memory 77\n'
        'file_backed_memory interval 60\n'
        'zzz last 1\n'
    }
    node, before = new_node(**settings), new_node(name='without', plugin=None, **settings)
    for each in (node, before):
        each.qemu_conf.write_text(QEMU_CONF + 'memory_backing_dir = "/mnt"\n# The end\n')
    before.run('stack', 'unstack')
    node.run('stack')
    assert not re.search('^memory_backing_dir = "/mnt"', node.qemu_conf.read_text(), re.MULTILINE)
    assert read(node.nova_cpu_conf).ram_allocation_ratio == 1.0
    node.run('unstack')
    assert node.tree() == before.tree()


def test_unstack_keeps_what_others_have_changed_since(new_node):
    node = new_node()
    node.run('stack')
    text = node.nova_conf.read_text()
    text = text.replace('ram_allocation_ratio = 1.0', 'ram_allocation_ratio = 2.0')
    node.nova_conf.write_text(text.replace(',FileBackedMemoryFilter', ',FileBackedMemoryFilter,X'))
    node.run('unstack')
    assert read(node.nova_conf).ram_allocation_ratio == 2.0
    assert read(node.nova_conf).filter_scheduler.enabled_filters[-1] == 'X'
    assert 'reserved_host_memory_mb' not in node.nova_conf.read_text()


def test_unstack_undoes_what_was_done_whatever_local_conf_says_now(new_node):
    node, before = new_node(), new_node(name='without', plugin=None)
    before.run('stack')
    node.run('stack')
    node.run(
        'unstack',
        FBM_STORE_DIR=f'{node.root}/other',
        FBM_STORE_KIND='tmpfs',
        FBM_STORE_FILE=f'{node.root}/other.img',
        FBM_ENABLED='False',
    )
    assert node.tree() == before.tree()


def test_host_that_was_one_becomes_a_plain_one(new_node):
    node, plain = new_node(COMPUTE), new_node(COMPUTE, name='plain', FBM_ENABLED='False')
    node.run('stack')
    node.run('stack', FBM_ENABLED='False')
    plain.run('stack')
    assert node.nova_cpu_conf.read_bytes() == plain.nova_cpu_conf.read_bytes()
    assert node.qemu_conf.read_text() == QEMU_CONF


@pytest.mark.parametrize('command', ['fallocate', 'mkfs.ext4', 'mount', 'chown'])
def test_stack_that_failed_halfway_is_undone_too(new_node, command):
    node, before = new_node(), new_node(name='without', plugin=None)
    (before.root / 'opt/stack/data').mkdir(parents=True)
    assert node.run('stack', check=False, FAILS=command).returncode != 0
    node.run('unstack')
    assert node.tree() == before.tree()


def test_store_of_a_stack_that_failed_halfway_is_made_anew(new_node):
    node = new_node()
    assert node.run('stack', check=False, FAILS='mkfs.ext4').returncode != 0
    node.run('stack')
    assert [call.split()[1] for call in node.calls if 'mkfs' in call or 'sudo mount' in call] == [
        'mkfs.ext4',
        'mkfs.ext4',
        'mount',
    ]


def test_unstack_goes_on_without_placement(new_node):
    node, before = new_node(WITHDRAW='1'), new_node(name='without', plugin=None)
    before.run('stack')
    node.run('stack')
    assert 'the traits of this host stay in Placement' in node.run('unstack').stderr
    assert node.tree() == before.tree()


def test_second_unstack_does_nothing(any_node):
    any_node.run('stack', 'unstack')
    calls = len(any_node.calls)
    any_node.run('unstack')
    assert any_node.calls[calls:] == ['== unstack']


def test_clean_uninstalls(any_node):
    any_node.run('stack', 'clean')
    assert any_node.calls[-1] == 'pip_uninstall fbm-placement'


@pytest.mark.parametrize(
    ('variables', 'words'),
    [
        ({'FBM_STORE_KIND': 'disk'}, 'expected loop, tmpfs or none'),
        ({'FBM_STORE_SIZE': '8G'}, 'FBM_STORE_SIZE is 8G, expected a number of MiB'),
        ({'FBM_FILE_BACKED_MEMORY': '0'}, 'FBM_FILE_BACKED_MEMORY is 0, expected'),
        ({'FBM_STORE_SIZE': '255'}, 'FBM_STORE_SIZE is 255 MiB, expected 256 or more'),
        ({'FBM_STORE_DIR': 'srv'}, 'expected an absolute path'),
        ({'FBM_STORE_KIND': 'none'}, 'nothing is mounted on'),
        ({'VIRT_DRIVER': 'ironic'}, 'VIRT_DRIVER is ironic'),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_done(new_node, variables, words):
    node = new_node(**variables)
    before = node.tree()
    ended = node.run('stack', check=False)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert node.calls == ['== stack pre-install']
    node.run('unstack')
    (node.root / 'opt/stack/data').rmdir()
    (node.root / 'opt/stack').rmdir()
    (node.root / 'opt').rmdir()
    assert node.tree() == before


def test_file_of_others_is_not_overwritten(new_node):
    node = new_node()
    path = node.root / 'precious'
    path.write_text('mine')
    ended = node.run('stack', check=False, FBM_STORE_FILE=str(path))
    assert 'would be overwritten' in ended.stderr
    node.run('unstack', FBM_STORE_FILE=str(path))
    assert path.read_text() == 'mine'


def test_mount_of_others_is_not_taken(new_node):
    node = new_node()
    (node.root / 'mounts').write_text(f'{node.root}/srv/fbm\n')
    ended = node.run('stack', check=False)
    assert 'FBM_STORE_KIND=none' in ended.stderr
    node.run('unstack')
    assert not [call for call in node.calls if 'umount' in call]

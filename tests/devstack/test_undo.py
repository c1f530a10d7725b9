# SPDX-License-Identifier: Apache-2.0
"""devstack's plugin: run twice, undone, and refusing to start."""

import re

import pytest

from tests.devstack.node import ALL, COMPUTE, QEMU_CONF, read, where


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
def test_unstack_leaves_no_trace(any_node, new_node, times, without_plugin):
    """After it the files are to the byte what devstack makes without the plugin."""
    before = without_plugin(any_node.services)
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


def test_unstack_undoes_what_was_done_whatever_local_conf_says_now(new_node, without_plugin):
    node, before = new_node(), without_plugin()
    node.run('stack')
    node.run(
        'unstack',
        FBM_STORE_DIR=f'{node.root}/other',
        FBM_STORE_KIND='tmpfs',
        FBM_STORE_FILE=f'{node.root}/other.img',
        FBM_ENABLED='False',
    )
    assert node.tree() == before.tree()


@pytest.mark.parametrize('times', [1, 2])
@pytest.mark.parametrize(
    'now',
    [
        {'DISABLED_SERVICES': 'fbm-agent'},
        {'ENABLED_SERVICES': 'n-api,n-sch'},
        {'ENABLED_SERVICES': 'key'},
        {'VIRT_DRIVER': 'fake', 'FBM_ENABLED': 'False'},
    ],
    ids=['no agent', 'no compute', 'no nova', 'no libvirt'],
)
def test_unstack_undoes_what_was_done_whatever_services_there_are_now(new_node, now, times):
    """The same as without the plugin, and with a second stack.sh in between."""
    node, before = new_node(), new_node(name='without', plugin=None)
    for each in (before, node):
        each.run('stack')
        each.run(*['stack'] * (times - 1), 'unstack', **now)
    assert node.tree() == before.tree()


def test_agent_is_stopped_before_its_traits_are_withdrawn(new_node):
    """It would put them back: the stub refuses while one runs."""
    node = new_node(COMPUTE)
    node.run('stack')
    ended = node.run('unstack', DISABLED_SERVICES='fbm-agent')
    where(node.calls, 'fbm-agent --config-file /etc/nova/nova-cpu.conf --withdraw')
    assert 'traits of this host stay' not in ended.stdout


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
    assert node.run('stack', check=False, FAILS=command).returncode != 0
    node.run('unstack')
    assert node.tree() == before.tree()


def test_store_of_a_stack_that_failed_halfway_is_made_again(new_node):
    node = new_node()
    assert node.run('stack', check=False, FAILS='mkfs.ext4').returncode != 0
    node.run('stack')
    assert [call.split()[1] for call in node.calls if 'mkfs' in call or 'sudo mount' in call] == [
        'mkfs.ext4',
        'mkfs.ext4',
        'mount',
    ]


def test_unstack_goes_on_without_placement(new_node, without_plugin):
    node, before = new_node(WITHDRAW='1'), without_plugin()
    node.run('stack')
    assert 'the traits of this host stay in Placement' in node.run('unstack').stdout
    assert node.tree() == before.tree()


def test_second_unstack_does_nothing(any_node):
    any_node.run('stack', 'unstack')
    calls = len(any_node.calls)
    any_node.run('unstack')
    assert any_node.calls[calls:] == ['== unstack', 'stop_process n-cpu']


def test_clean_uninstalls(any_node):
    any_node.run('stack', 'clean')
    assert any_node.calls[-1] == 'pip_uninstall fbm-placement'


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


# A store that stays


@pytest.mark.parametrize('kind', ['loop', 'tmpfs'])
def test_store_that_cannot_be_unmounted_is_remembered(new_node, kind, without_plugin):
    node = new_node(FBM_STORE_KIND=kind)
    before = without_plugin()
    node.run('stack')
    ended = node.run('unstack', FAILS='umount')
    store = f'{node.root}/srv/fbm'
    assert f"the store's mount {store} is still there" in ended.stdout
    assert './unstack.sh again' in ended.stdout
    # What is mounted is backed by the file.
    image = node.root / 'opt/stack/data/fbm-placement-store.img'
    assert image.exists() == (kind == 'loop')
    # All else is undone.
    assert node.qemu_conf.read_text() == QEMU_CONF
    assert not any('fbm' in unit for unit in node.state('enabled') + node.state('running'))
    calls = len(node.calls)
    node.run('unstack')
    assert node.tree() == before.tree()
    assert node.calls[calls:][1] == 'sudo umount --lazy /srv/fbm'


def test_stack_goes_on_with_a_store_that_could_not_be_unmounted(new_node, without_plugin):
    node, before = new_node(), without_plugin()
    node.run('stack')
    node.run('unstack', FAILS='umount')
    node.run('stack')
    assert node.state('mounts') == [f'{node.root}/srv/fbm']
    node.run('unstack')
    assert node.tree() == before.tree()


OTHER_STORES = {
    'size': {'FBM_STORE_SIZE': '4096'},
    'kind': {'FBM_STORE_KIND': 'tmpfs'},
    'none': {'FBM_STORE_KIND': 'none'},
    'place': {'FBM_STORE_DIR': 'srv/other'},
}


@pytest.mark.parametrize('first', [['stack'], ['stack', 'unstack']], ids=['stack', 'unstack'])
@pytest.mark.parametrize('now', OTHER_STORES.values(), ids=OTHER_STORES)
def test_other_store_is_refused_while_the_old_one_is_there(new_node, first, now):
    node = new_node(FBM_STORE_SIZE='8192')
    # Never a directory of this machine.
    now = {name: value.replace('srv', f'{node.root}/srv') for name, value in now.items()}
    for phase in first:
        node.run(phase, FAILS='umount')
    before, calls = node.tree(), len(node.calls)
    ended = node.run('stack', check=False, **now)
    assert ended.returncode == 1
    assert f'FBM_STORE_KIND=loop, FBM_STORE_SIZE=8192 on {node.root}/srv/fbm' in ended.stderr
    for name, value in now.items():
        assert value in ended.stderr.split('expected')[1], name
    assert 'run ./unstack.sh first' in ended.stderr
    assert node.calls[calls:] == ['== stack pre-install']
    assert node.tree() == before
    node.run('unstack')
    if 'none' not in now.values():
        node.run('stack', **now)
        assert len(node.state('mounts')) == 1


def test_other_store_is_made_where_the_old_one_is_gone(new_node):
    """After a reboot nothing is mounted."""
    node = new_node(FBM_STORE_SIZE='8192')
    node.run('stack')
    (node.root / 'mounts').unlink()
    node.run('stack', FBM_STORE_SIZE='1000')
    assert read(node.nova_cpu_conf).libvirt.file_backed_memory == 900
    node.run('stack', FBM_STORE_SIZE='1000')
    assert 'FBM_STORE_SIZE=1000' in node.run('stack', check=False).stderr

# SPDX-License-Identifier: Apache-2.0
"""devstack's plugin: what each kind of node gets, and in which order."""

import configparser
import re
import shutil
import subprocess

import pytest

from tests.devstack.node import (
    AGENT,
    ALL,
    ALL_IN_ONE,
    BIN,
    COMPUTE,
    OURS,
    PLUGIN,
    QEMU_CONF,
    read,
    where,
)

REPOSITORY = PLUGIN.parent


def test_fbm_host_offers_what_its_store_holds(new_node):
    node = new_node(COMPUTE, FBM_STORE_KIND='tmpfs', FBM_STORE_SIZE='2048')
    node.run('stack')
    conf = read(node.nova_cpu_conf)
    assert conf.libvirt.file_backed_memory == 2048
    assert conf.ram_allocation_ratio == 1.0
    assert conf.reserved_host_memory_mb == 0
    assert 'sudo mount -t tmpfs -o size=2048m fbm-store /srv/fbm' in node.calls
    assert f'memory_backing_dir = "{node.root}/srv/fbm"' in node.qemu_conf.read_text()


def test_plain_host_has_agent_and_hook_but_no_capacity(new_node):
    node = new_node(COMPUTE, FBM_ENABLED='False')
    node.run('stack')
    plain = new_node(COMPUTE, name='without', plugin=None)
    plain.run('stack')
    assert (node.root / 'etc/libvirt/hooks/qemu.d').is_dir()
    assert any(call.startswith('run_process fbm-agent') for call in node.calls)
    assert node.qemu_conf.read_text() == QEMU_CONF
    assert not any(call.startswith('sudo mount') for call in node.calls)
    for option in ('ram_allocation_ratio', 'reserved_host_memory_mb'):
        assert read(node.nova_cpu_conf)[option] == read(plain.nova_cpu_conf)[option]
    assert not read(node.nova_cpu_conf).libvirt.file_backed_memory


def test_options_of_the_compute_host(new_node):
    node = new_node(
        COMPUTE, FBM_AGENT_INTERVAL='7', FBM_HOOK_MODE='warn', FBM_FILE_BACKED_MEMORY='123'
    )
    node.run('stack')
    conf = read(node.nova_cpu_conf)
    own = conf.file_backed_memory
    assert (own.interval, own.hook_mode, conf.libvirt.file_backed_memory) == (7, 'warn', 123)


def test_options_of_the_scheduler(new_node):
    node = new_node(ALL_IN_ONE, FBM_PREFILTER='False', FBM_DEFAULT_POLICY='forbidden')
    node.run('stack')
    own = read(node.nova_conf).file_backed_memory
    assert (own.prefilter, own.default_policy) == (False, 'forbidden')


def test_filter_is_enabled_after_devstacks_own(new_node):
    node = new_node(ALL_IN_ONE)
    node.run('stack')
    scheduler = read(node.nova_conf).filter_scheduler
    assert sorted(scheduler.available_filters) == sorted([ALL, OURS])
    assert scheduler.enabled_filters == [
        'ComputeFilter',
        'SameHostFilter',
        'DifferentHostFilter',
        'FileBackedMemoryFilter',
    ]


def test_filter_that_is_there_already_is_not_added_again(new_node):
    node = new_node(
        ALL_IN_ONE,
        NOVA_BEFORE=f'filter_scheduler available_filters {OURS}\n'
        'filter_scheduler enabled_filters FileBackedMemoryFilter,ComputeFilter\n',
    )
    node.run('stack')
    scheduler = read(node.nova_conf).filter_scheduler
    assert scheduler.available_filters == [OURS]
    assert scheduler.enabled_filters == ['FileBackedMemoryFilter', 'ComputeFilter']


def test_controller_without_compute_gets_neither_store_nor_agent(new_node):
    node = new_node('n-api,n-sch')
    node.run('stack')
    assert not [call for call in node.calls if call.startswith(('sudo', 'run_process', 'doctor'))]
    assert node.qemu_conf.read_text() == QEMU_CONF
    assert 'FileBackedMemoryFilter' in read(node.nova_conf).filter_scheduler.enabled_filters


def test_agent_can_be_left_out(new_node):
    node = new_node(COMPUTE, DISABLED_SERVICES='fbm-agent')
    node.run('stack', 'unstack')
    assert not [call for call in node.calls if 'fbm-agent' in call]


@pytest.mark.parametrize('variables', [{}, {'FBM_ENABLED': 'False'}], ids=['host', 'plain'])
def test_agent_runs_and_starts_at_boot(new_node, variables):
    node = new_node(COMPUTE, **variables)
    node.run('stack')
    assert AGENT in node.state('running')
    assert AGENT in node.state('enabled')
    # It has no scheduler.
    assert 'FileBackedMemoryFilter' not in node.nova_conf.read_text()


def test_agent_that_is_left_out_now_is_stopped_and_removed(new_node):
    node = new_node(COMPUTE)
    node.run('stack')
    calls = len(node.calls)
    ended = node.run('stack', DISABLED_SERVICES='fbm-agent')
    assert AGENT not in node.state('running') + node.state('enabled')
    assert not list((node.root / 'etc/systemd/system').glob(f'{AGENT}*'))
    # It takes back the traits, which no agent would keep right.
    where(node.calls[calls:], 'fbm-agent --config-file /etc/nova/nova-cpu.conf --withdraw')
    assert 'traits of this host stay' not in ended.stdout


def test_stack_goes_on_where_the_traits_of_an_old_agent_stay(new_node):
    node = new_node(COMPUTE)
    node.run('stack')
    ended = node.run('stack', DISABLED_SERVICES='fbm-agent', WITHDRAW='1')
    assert 'the traits of this host stay in Placement' in ended.stdout


def test_node_of_another_driver_is_left_alone(new_node, without_plugin):
    node = new_node(VIRT_DRIVER='fake', FBM_ENABLED='False')
    before = without_plugin(VIRT_DRIVER='fake')
    node.run('stack')
    assert not [call for call in node.calls if 'sudo' in call or 'fbm-agent' in call]
    node.run('unstack')
    assert node.tree() == before.tree()


def test_store_of_ones_own_is_used_and_not_unmounted(new_node):
    node = new_node(COMPUTE, FBM_STORE_KIND='none', FBM_STORE_SIZE='1000')
    (node.root / 'srv/fbm').mkdir()
    (node.root / 'mounts').write_text(f'{node.root}/srv/fbm\n')
    node.run('stack')
    assert 'memory_backing_dir' in node.qemu_conf.read_text()
    node.run('unstack')
    assert not [call for call in node.calls if 'mount ' in call]
    assert (node.root / 'mounts').read_text() == f'{node.root}/srv/fbm\n'


# In which order

HOOK = f'sudo /{BIN}/fbm-status --config-file /dev/null hook'


def test_order_of_the_phases(new_node):
    """The store is there before any libvirtd, the hook before libvirtd's own restart.

    The agent comes after nova-compute and is stopped, and the traits withdrawn, before the rest.
    """
    node = new_node()
    node.run('stack')
    calls = node.calls
    mount = where(calls, 'sudo mount')
    assert where(calls, 'sudo mkfs') < mount < where(calls, 'restart_service libvirtd')
    hook = where(calls, f'{HOOK} install')
    assert hook < calls.index('restart_service libvirtd')
    agent = where(calls, 'run_process fbm-agent')
    assert where(calls, 'run_process n-cpu') < agent < where(calls, 'doctor')
    node.run('unstack')
    calls = node.calls[len(calls) :]
    stop = where(calls, 'sudo systemctl disable --now devstack@fbm-agent.service')
    withdrawn = where(calls, 'fbm-agent --config-file /etc/nova/nova-cpu.conf --withdraw')
    libvirtd = where(calls, 'restart_service libvirtd')
    assert stop < withdrawn < where(calls, f'{HOOK} remove') < libvirtd
    assert libvirtd < where(calls, 'sudo umount --lazy /srv/fbm')


def test_agent_reads_what_nova_compute_reads(new_node):
    node = new_node()
    node.run('stack')
    compute, agent = (
        next(call for call in node.calls if call.startswith(f'run_process {name} '))
        for name in ('n-cpu', 'fbm-agent')
    )
    assert agent.split('--config-file')[1] == compute.split('--config-file')[1]


def test_devstacks_own_background_edit_of_nova_conf_survives(new_node):
    """And so does the plugin's first, which is made while devstack's is under way."""
    node = new_node(FBM_AGENT_INTERVAL='7')
    node.run('stack')
    assert '[neutron]' in node.nova_cpu_conf.read_text()
    assert read(node.nova_cpu_conf).file_backed_memory.interval == 7


def test_findings_of_the_doctor_are_shown_and_end_nothing(new_node):
    node = new_node(DOCTOR='2')
    ended = node.run('stack')
    assert 'fbm-status upgrade check is not content' in ended.stdout
    assert 'node.sh failed' not in ended.stdout


def test_an_agent_without_a_good_pass_ends_stack_sh(new_node):
    """Its unit is active all the same."""
    node = new_node(DRY_RUN='1', FBM_START_TIMEOUT='1')
    ended = node.run('stack', check=False)
    assert ended.returncode
    assert 'the agent had no successful pass in 1 s: see journalctl -u devstack@fbm-agent' in (
        ended.stdout + ended.stderr
    )


# The unit


def unit_of(path):
    """Read [Service] of a unit; of a repeated key the last counts."""
    unit = configparser.RawConfigParser(strict=False, allow_no_value=True)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(path)
    return dict(unit['Service'])


def test_unit_has_the_settings_of_the_products(new_node):
    node = new_node()
    node.run('stack')
    directory = node.root / 'etc/systemd/system/devstack@fbm-agent.service.d'
    dropped = unit_of(directory / 'fbm-placement.conf')
    product = unit_of(REPOSITORY / 'systemd/fbm-agent.service')
    # stack.sh does not wait indefinitely.
    assert dropped.pop('TimeoutStartSec') == '300'
    assert dropped == {key: product[key] for key in dropped}
    for key in ('Type', 'AmbientCapabilities', 'RuntimeDirectory', 'RestartPreventExitStatus'):
        assert key in dropped


@pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ('mkfs.ext4', 'dumpe2fs')),
    reason='mkfs.ext4 and dumpe2fs are not installed (Debian package e2fsprogs)',
)
@pytest.mark.parametrize('size', [256, 512, 8192, 200_000])
def test_loop_store_has_room_for_the_capacity(new_node, size):
    """The real mkfs.ext4, as the plugin calls it, on a sparse file as long as the store."""
    node = new_node(FBM_STORE_SIZE=str(size))
    node.run('stack')
    mkfs = next(call for call in node.calls if 'mkfs.ext4' in call).split()[1:-1]
    image = node.root / 'opt/stack/data/fbm-placement-store.img'
    assert image.stat().st_size == size * 2**20
    subprocess.run([*mkfs, image], check=True)
    shown = subprocess.run(['dumpe2fs', '-h', image], check=True, capture_output=True, text=True)
    count, blocks, length, reserved = (
        int(re.search(rf'^{name}: +(\d+)', shown.stdout, re.MULTILINE)[1])
        for name in ('Block count', 'Free blocks', 'Block size', 'Reserved block count')
    )
    capacity = read(node.nova_cpu_conf).libvirt.file_backed_memory
    # What ext4 keeps for itself when it is mounted: ext4_calculate_resv_clusters() in the kernel.
    reserved += min(count // 50, 4096)
    assert capacity * 2**20 <= (blocks - reserved) * length

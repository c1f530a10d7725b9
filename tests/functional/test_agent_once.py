# SPDX-License-Identifier: Apache-2.0
"""`fbm-agent --once`, `--dry-run` and `--withdraw`, as cron and operators run them."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.services.agent import CAPACITY, AgentHost
from tests.services.expected import (
    ENABLED,
    ENABLED_TRAIT,
    OWN_TRAITS,
    add_foreign_data,
    foreign,
    is_enabled,
    make_enabled,
)
from tests.services.nova_compute import NovaCompute
from tests.services.process import program


@pytest.fixture
def host(compute, tmp_path):
    return AgentHost(tmp_path, compute)


@pytest.fixture
def writes(placement):
    seen = len(placement.requests())

    def since_then():
        nonlocal seen
        new, seen = placement.requests()[seen:], len(placement.requests())
        return [request for request in new if request.method != 'GET']

    return since_then


# Turned on, turned off


def test_turned_on_as_the_openstack_command_shows_it(host, compute, openstack):
    """Inventory and traits are there; everything foreign is byte for byte as it was."""
    child = add_foreign_data(compute)
    neighbour = NovaCompute(compute.url).start()
    before = foreign(compute)
    others_before = [child.everything(), neighbour.everything()]
    ended = host.once()

    assert ended.is_clean
    assert f'enabled: {compute.name} offers {CAPACITY} MiB, 20 MiB allocated' in ended.stdout
    assert f'total 65536 -> {CAPACITY}' in ended.stdout
    assert foreign(compute) == before
    assert [child.everything(), neighbour.everything()] == others_before

    provider = ('resource', 'provider')
    commands = [
        (*provider, 'inventory', 'show', compute.uuid, 'MEMORY_MB'),
        (*provider, 'inventory', 'list', compute.uuid),
        (*provider, 'trait', 'list', compute.uuid, '--os-placement-api-version', '1.6'),
    ]
    # At the same time, as most of what each takes is its imports.
    with ThreadPoolExecutor() as pool:
        shown, listed, traits = pool.map(lambda command: openstack.json(*command), commands)
    assert shown == ENABLED | {'used': 20}
    assert {row['resource_class']: row for row in listed} == {
        'MEMORY_MB': shown | {'resource_class': 'MEMORY_MB'},
        'VCPU': before['inventories']['VCPU'] | {'resource_class': 'VCPU', 'used': 5},
        'DISK_GB': before['inventories']['DISK_GB'] | {'resource_class': 'DISK_GB', 'used': 2},
        'CUSTOM_LICENSE': before['inventories']['CUSTOM_LICENSE']
        | {'resource_class': 'CUSTOM_LICENSE', 'used': 0},
    }
    assert {row['name'] for row in traits} == before['traits'] | {ENABLED_TRAIT}


def test_where_nothing_differs_nothing_is_written(host, compute, writes):
    assert host.once().status == 0
    assert writes()
    generation = compute.generation()
    ended = host.once()
    assert ended.is_clean
    assert 'nothing to change' in ended.stdout
    assert writes() == []
    assert compute.generation() == generation


def test_where_nova_compute_reports_the_same_only_the_traits_are_written(host, compute, writes):
    """Nova 18 and later know the option: then the six fields are already right."""
    compute.knows_file_backed_memory(CAPACITY)
    compute.report()
    assert compute.inventory() == ENABLED
    writes()
    assert host.once().status == 0
    assert [request.path for request in writes() if 'resource_providers' in request.path] == [
        f'/resource_providers/{compute.uuid}/traits'
    ]
    assert is_enabled(compute)
    assert not compute.rewrite_inventory()


def test_a_host_that_was_never_enabled_is_left_alone(host, compute, writes):
    add_foreign_data(compute)
    host.configure('libvirt', file_backed_memory=None)
    # Nothing of this concerns a host with DRAM.
    host.configure(ram_allocation_ratio=1.5, reserved_host_memory_mb=None)
    before = compute.everything()
    writes()
    ended = host.once()
    assert ended.is_clean
    assert f'disabled: the inventory of {compute.name} is left to nova-compute' in ended.stdout
    assert compute.everything() == before
    assert [request for request in writes() if 'resource_providers' in request.path] == []


def test_turned_off_the_traits_go_and_the_inventory_stays(host, compute):
    """The inventory then becomes what nova-compute reports next."""
    add_foreign_data(compute)
    make_enabled(compute)
    before = compute.everything()
    host.configure('libvirt', file_backed_memory=0)
    assert host.once().is_clean
    assert compute.everything() == before | {'traits': before['traits'] - OWN_TRAITS}
    assert compute.rewrite_inventory()
    assert compute.inventory()['total'] == compute.memory_mib


def test_withdraw_takes_the_traits_back(host, compute):
    """A configuration that forbids to run does not forbid to uninstall."""
    add_foreign_data(compute)
    make_enabled(compute)
    before = compute.everything()
    host.configure(ram_allocation_ratio=1.5)
    assert host.once().status == 2
    ended = host.run('--withdraw')
    assert ended.is_clean
    assert f'{ENABLED_TRAIT} set -> not set' in ended.stdout
    assert compute.everything() == before | {'traits': before['traits'] - OWN_TRAITS}


def test_the_provider_of_another_host_is_a_warning(host, compute, placement):
    other = NovaCompute(placement.url).start()
    host.configure('file_backed_memory', resource_provider=other.uuid)
    ended = host.run('--dry-run')
    assert f'resource_provider names {other.name} ({other.uuid}), but' in ended.stderr
    assert f'nova-compute here writes {compute.uuid} (compute_id)' in ended.stderr


def test_a_dry_run_shows_the_difference_and_writes_nothing(host, compute, writes):
    before = compute.everything()
    writes()
    ended = host.run('--dry-run')
    assert ended.status == 1
    assert ended.line.startswith('fbm-agent: dry run, nothing was written')
    assert ['total', '65536', str(CAPACITY)] in map(str.split, ended.stdout.splitlines())
    assert writes() == []
    assert compute.everything() == before

    make_enabled(compute)
    ended = host.run('--dry-run')
    assert ended.is_clean
    assert 'As it should be' in ended.stdout


# What is allocated


def test_more_allocated_than_offered_is_an_error_and_the_capacity_is_published(host, compute):
    for _ in range(3):
        compute.allocate(memory_mib=16)
    host.configure('libvirt', file_backed_memory=40)
    before = foreign(compute)
    ended = host.once()
    assert ended.status == 0
    assert '3 instances hold 48 MiB, 8 MiB more than the 40 MiB' in ended.line
    assert 'ERROR' in ended.line
    assert '2104040' in ended.line
    assert 'TOO MUCH' in ended.stdout
    assert compute.inventory()['total'] == 40
    assert foreign(compute) == before


# Which provider


def test_without_a_compute_id_the_host_name_is_searched(host, placement):
    """nova-compute before 27 writes no compute_id; the provider has the hypervisor's name."""
    host.compute_id.unlink()
    ended = host.once()
    assert ended.status == 1
    assert socket.gethostname() in ended.line
    assert '[file_backed_memory]resource_provider' in ended.line

    named = NovaCompute(placement.url, name=socket.gethostname()).start()
    try:
        assert host.once().status == 0
        assert is_enabled(named)
    finally:
        named.delete()


# The files that nova-compute reads


def test_the_files_of_nova_compute_are_found_without_a_flag(host, compute):
    """nova.conf, then nova-compute.conf, then nova.conf.d: the later one counts."""
    home = host.directory / '.nova'
    (home / 'nova.conf.d').mkdir(parents=True)
    host.configure('libvirt', file_backed_memory=1000, virt_type='lxc')
    host.path.rename(home / 'nova.conf')
    host.compute_id.rename(home / 'compute_id')
    (home / 'nova-compute.conf').write_text(
        '[libvirt]\nvirt_type = qemu\nfile_backed_memory = 2000\n'
        # As Debian's has it: a registered option that names one that must be known too.
        '[DEFAULT]\nmy_ip = 127.0.0.1\nhost = host-$my_ip\n'
    )
    (home / 'nova.conf.d' / '50-memory.conf').write_text(
        f'[libvirt]\nfile_backed_memory = {CAPACITY}\n'
    )
    assert host.run_argv([program('fbm-agent'), '--once']).is_clean
    assert is_enabled(compute)

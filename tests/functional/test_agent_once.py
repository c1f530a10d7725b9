# SPDX-License-Identifier: Apache-2.0
"""`fbm-agent --once`, `--dry-run` and `--withdraw`, as cron and operators run them."""

import os
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from fbm_placement import names
from tests.functional.agent_process import (
    CAPACITY,
    ENABLED,
    ENABLED_TRAITS,
    AgentHost,
    add_foreign_things,
    foreign,
    is_enabled,
    make_enabled,
    own_traits,
)
from tests.services.nova_compute import NovaCompute
from tests.services.process import program


@pytest.fixture
def host(compute, tmp_path):
    """A host with file-backed memory configured, and no agent yet."""
    return AgentHost(tmp_path, compute)


@pytest.fixture
def writes(placement):
    """Return, when called, what was written to Placement since the last call."""
    seen = len(placement.requests())

    def since_then():
        nonlocal seen
        new, seen = placement.requests()[seen:], len(placement.requests())
        return [request for request in new if request.method != 'GET']

    since_then.all = lambda: placement.requests()[seen:]
    return since_then


# Turned on, turned off


def test_turned_on_as_the_openstack_command_shows_it(host, compute, openstack):
    """Inventory and traits are there; everything foreign is byte for byte as it was."""
    child = add_foreign_things(compute)
    neighbour = NovaCompute(compute.url).start()
    before = foreign(compute)
    others_before = [child.everything(), neighbour.everything()]
    ended = host.once()

    assert ended.status == 0
    assert ended.stderr == ''
    assert f'enabled: {compute.name} offers {CAPACITY} MiB, 20 MiB allocated' in ended.stdout
    assert f'total 65536 -> {CAPACITY}' in ended.stdout
    assert foreign(compute) == before
    assert [child.everything(), neighbour.everything()] == others_before

    provider = ('resource', 'provider')
    questions = [
        (*provider, 'inventory', 'show', compute.uuid, 'MEMORY_MB'),
        (*provider, 'inventory', 'list', compute.uuid),
        (*provider, 'trait', 'list', compute.uuid, '--os-placement-api-version', '1.6'),
    ]
    # At the same time, as most of what each takes is its imports.
    with ThreadPoolExecutor() as pool:
        shown, listed, traits = pool.map(lambda question: openstack.json(*question), questions)
    assert shown == ENABLED | {'used': 20}
    assert {row['resource_class']: row for row in listed} == {
        'MEMORY_MB': shown | {'resource_class': 'MEMORY_MB'},
        'VCPU': before['inventories']['VCPU'] | {'resource_class': 'VCPU', 'used': 5},
        'DISK_GB': before['inventories']['DISK_GB'] | {'resource_class': 'DISK_GB', 'used': 2},
        'CUSTOM_LICENSE': before['inventories']['CUSTOM_LICENSE']
        | {'resource_class': 'CUSTOM_LICENSE', 'used': 0},
    }
    assert {row['name'] for row in traits} == before['traits'] | ENABLED_TRAITS


def test_where_nothing_differs_nothing_is_written(host, compute, writes):
    assert host.once().status == 0
    assert writes()
    generation = compute.generation()
    ended = host.once()
    assert (ended.status, ended.stderr) == (0, '')
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


def test_all_six_fields_are_put_right(host, compute):
    compute.overwrite_inventory(
        total=2048, reserved=7, min_unit=2, max_unit=1024, step_size=2, allocation_ratio=3.0
    )
    ended = host.once()
    assert ended.status == 0
    assert ended.stdout.count(' -> ') == 6 + len(ENABLED_TRAITS)
    assert compute.inventory() == ENABLED


def test_a_host_that_was_never_enabled_is_left_alone(host, compute, writes):
    add_foreign_things(compute)
    host.configure('libvirt', file_backed_memory=None)
    # Nothing of this concerns a host with DRAM.
    host.configure(ram_allocation_ratio=1.5, reserved_host_memory_mb=None)
    before = compute.everything()
    writes()
    ended = host.once()
    assert (ended.status, ended.stderr) == (0, '')
    assert f'disabled: the inventory of {compute.name} is left to nova-compute' in ended.stdout
    assert compute.everything() == before
    assert [request for request in writes() if 'resource_providers' in request.path] == []


def test_turned_off_the_traits_go_and_the_inventory_stays(host, compute):
    """What MEMORY_MB is then, nova-compute says, with its next report."""
    add_foreign_things(compute)
    make_enabled(compute)
    before = compute.everything()
    host.configure('libvirt', file_backed_memory=0)
    ended = host.once()
    assert (ended.status, ended.stderr) == (0, '')
    assert compute.everything() == before | {'traits': before['traits'] - names.OWN_TRAITS}
    assert compute.rewrite_inventory()
    assert compute.inventory()['total'] == compute.memory_mib


def test_withdraw_takes_the_traits_back(host, compute):
    """A configuration that forbids to run does not forbid to uninstall."""
    add_foreign_things(compute)
    make_enabled(compute)
    before = compute.everything()
    host.configure(ram_allocation_ratio=1.5)
    assert host.once().status == 2
    ended = host.run('--withdraw')
    assert (ended.status, ended.stderr) == (0, '')
    assert f'{names.TRAIT_ENABLED} set -> not set' in ended.stdout
    assert compute.everything() == before | {'traits': before['traits'] - names.OWN_TRAITS}


def test_the_provider_of_another_host_is_told(host, compute, placement):
    """It is done as the option says, but nobody should do it unawares."""
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
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert rows == [
        ['Resource', 'provider', compute.name, f'({compute.uuid})'],
        ['field', 'is', 'should', 'be'],
        ['total', '65536', str(CAPACITY)],
        ['reserved', '512', '0'],
        ['max_unit', '65536', str(CAPACITY)],
        ['allocation_ratio', '1.5', '1.0'],
        [names.TRAIT_ENABLED, 'not', 'set', 'set'],
    ]
    assert writes() == []
    assert compute.everything() == before

    make_enabled(compute)
    ended = host.run('--dry-run')
    assert (ended.status, ended.stderr) == (0, '')
    assert 'As it should be' in ended.stdout


# The reserve, and what is allocated


@pytest.mark.parametrize(('configured', 'reserved'), [(4, 4), (None, 512)])
def test_the_reserve_is_mirrored_with_a_warning(host, compute, configured, reserved):
    """As nova-compute does; Nova 34 refuses a reserve, so it is told. 512 is Nova's default."""
    host.configure(reserved_host_memory_mb=configured)
    total = CAPACITY + reserved
    host.configure('libvirt', file_backed_memory=total)
    ended = host.once()
    assert ended.status == 0
    assert f'[DEFAULT]reserved_host_memory_mb is {reserved}' in ended.line
    assert 'WARNING' in ended.line
    expected = {'total': total, 'max_unit': total, 'reserved': reserved}
    assert compute.inventory() == ENABLED | expected
    assert f'offers {CAPACITY} MiB' in ended.stdout


def test_more_allocated_than_offered_is_told_loudly(host, compute):
    """It is Placement's truth all the same: the capacity is published, the excess told."""
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


def test_compute_id_is_found_in_the_state_path_too(host, compute):
    state = host.directory / 'state'
    state.mkdir()
    host.compute_id.rename(state / 'compute_id')
    assert host.once().status == 0
    assert is_enabled(compute)


def test_without_a_compute_id_the_host_name_is_looked_for(host, placement):
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


@pytest.mark.parametrize('by', ['uuid', 'name'])
def test_the_option_comes_before_compute_id(host, compute, placement, by):
    other = NovaCompute(placement.url).start()
    before = compute.everything()
    host.configure('file_backed_memory', resource_provider=getattr(other, by))
    assert host.once().status == 0
    assert is_enabled(other)
    assert compute.everything() == before


def test_no_provider_is_told_with_what_was_looked_for(host, compute, writes):
    missing = str(uuid.uuid4())
    host.compute_id.write_text(missing)
    ended = host.once()
    assert ended.status == 1
    assert ended.stdout == ''
    for words in (missing, str(host.compute_id), 'nova-compute', 'resource_provider'):
        assert words in ended.line
    assert 'resource_providers' not in ' '.join(request.path for request in writes())
    assert own_traits(compute) == set()


def test_two_compute_ids_that_disagree_are_both_told(host, compute):
    state = host.directory / 'state'
    state.mkdir()
    other = str(uuid.uuid4())
    (state / 'compute_id').write_text(other)
    before = compute.everything()
    ended = host.once()
    assert ended.status == 1
    for words in (compute.uuid, str(host.compute_id), other, str(state / 'compute_id')):
        assert words in ended.line
    assert compute.everything() == before


def test_a_child_provider_is_not_taken(host, compute):
    child = add_foreign_things(compute)
    host.configure('file_backed_memory', resource_provider=child.name)
    before = [compute.everything(), child.everything()]
    ended = host.once()
    assert ended.status == 1
    assert child.uuid in ended.line
    assert 'root' in ended.line
    assert [compute.everything(), child.everything()] == before


def test_a_missing_inventory_is_waited_for(host, placement):
    """The record is nova-compute's to create: one of the agent's would miss the other classes."""
    starting = NovaCompute(placement.url)
    new = {'uuid': starting.uuid, 'name': starting.name}
    starting.call('POST', '/resource_providers', body=new)
    host.compute_id.write_text(starting.uuid)
    before = starting.everything()
    ended = host.once()
    assert ended.status == 1
    assert 'nova-compute has not created the MEMORY_MB inventory yet' in ended.line
    assert starting.everything() == before

    starting.start()
    assert host.once().status == 0
    assert is_enabled(starting)


# What forbids to run


def test_every_reason_is_told_at_once_and_placement_is_not_asked(host, compute, writes):
    host.configure(ram_allocation_ratio=None, reserved_host_memory_mb=CAPACITY)
    host.configure('libvirt', virt_type='lxc')
    host.configure('file_backed_memory', interval=5)
    ended = host.once()
    assert ended.status == 2
    assert ended.stdout == ''
    reasons = ended.stderr.splitlines()
    assert len(reasons) == 3
    for option in ('ram_allocation_ratio', 'virt_type', 'reserved_host_memory_mb'):
        assert any(f']{option} is' in reason for reason in reasons)
    assert writes.all() == []


@pytest.mark.parametrize(
    ('value', 'told'),
    [('-1', 'is -1'), ('1TiB', '1TiB'), (2**31, str(2**31))],
)
def test_an_absurd_size_is_told_with_its_name(host, writes, value, told):
    host.configure('libvirt', file_backed_memory=value)
    ended = host.once()
    assert ended.status == 2
    assert '[libvirt]file_backed_memory' in ended.line
    assert told in ended.line
    assert 'Traceback' not in ended.stderr
    assert writes.all() == []


def test_a_wrong_logging_option_forbids_to_run_too(host, writes):
    host.configure(debug='perhaps')
    ended = host.once()
    assert ended.status == 2
    assert 'debug' in ended.line
    assert 'perhaps' in ended.line
    assert writes.all() == []


# The files that nova-compute reads


def test_the_files_of_nova_compute_are_found_without_a_flag(host, compute):
    """nova.conf, then nova-compute.conf, then nova.conf.d: the later one counts."""
    home = host.directory / '.nova'
    (home / 'nova.conf.d').mkdir(parents=True)
    host.configure('libvirt', file_backed_memory=1000, virt_type='lxc')
    host.nova_conf.rename(home / 'nova.conf')
    host.compute_id.rename(home / 'compute_id')
    (home / 'nova-compute.conf').write_text(
        '[libvirt]\nvirt_type = qemu\nfile_backed_memory = 2000\n'
        # As Debian's has it: a registered option that names one that must be known too.
        '[DEFAULT]\nmy_ip = 127.0.0.1\nhost = host-$my_ip\n'
    )
    (home / 'nova.conf.d' / '50-memory.conf').write_text(
        f'[libvirt]\nfile_backed_memory = {CAPACITY}\n'
    )
    ended = host.run_argv([program('fbm-agent'), '--once'])
    assert (ended.status, ended.stderr) == (0, '')
    assert is_enabled(compute)


def test_a_directory_named_on_the_command_line_counts(host, compute):
    """As devstack and packagers start nova-compute: only the files that they name."""
    snippets = host.directory / 'snippets'
    snippets.mkdir()
    (snippets / 'size.conf').write_text('[libvirt]\nfile_backed_memory = 4096\n')
    assert host.once('--config-dir', str(snippets)).status == 0
    assert compute.inventory()['total'] == 4096


def test_a_file_that_is_not_there_is_told(host):
    host.nova_conf.unlink()
    ended = host.once()
    assert ended.status == 2
    assert str(host.nova_conf) in ended.line


@pytest.mark.skipif(
    any(os.path.exists(f'/etc/{path}') for path in ('nova', 'nova.conf')),
    reason='this machine has a configuration of Nova',
)
def test_no_file_at_all_is_told_with_where_they_were_looked_for(host):
    host.nova_conf.unlink()
    ended = host.run_argv([program('fbm-agent'), '--once'])
    assert ended.status == 2
    for words in ('nova.conf', str(host.directory / '.nova'), '/etc/nova', '--config-file'):
        assert words in ended.line

# SPDX-License-Identifier: Apache-2.0
"""The doctor's checks, row by row: the result, and how to fix it."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from oslo_config import cfg

from fbm_placement import errors, model
from fbm_placement.doctor.checks import CHECKS, Doctor
from fbm_placement.doctor.facts import PlacementView
from fbm_placement.model import (
    DISABLED,
    Backing,
    Guest,
    HostFacts,
    Mount,
    Problem,
    Provider,
    Settings,
    Store,
)
from fbm_placement.rules import publish
from fbm_placement.rules.publish import Observation
from fbm_placement.rules.restarts import Definition, Need

ON = Settings(capacity_mib=1000, reserved_mib=0, virt_type='kvm', ram_allocation_ratio=1.0)
GOAL = publish.target(ON, HostFacts())
SEEN = Observation(1, GOAL.inventory, GOAL.own_traits, allocated_mib=1000, consumers=2)
DISK = Store('/srv/fbm', mount=Mount('/srv/fbm', 'xfs', 'd'), size_bytes=2**30, free_bytes=2**29)
TMPFS = replace(DISK, mount=Mount('/srv/fbm', 'tmpfs', 'tmpfs'))
NO_STORE = (None, (Problem('store', 'no store'),))
FULL = (DISK, (Problem('full', 'full'),))
GUEST = Guest(7, 'instance-1', 'b1', is_nova=True, memory_mib=512, backing=Backing.DRAM)
AWAY = errors.PlacementError('GET: connection refused')


class Client(SimpleNamespace):
    def refuse(self, *_):
        raise self.error

    put_traits = put_inventory = create_trait = refuse


def view(goal=GOAL, warning=None, error=None, **seen):
    client = Client(error=error or errors.ConflictError('409'))
    provider = Provider('u1', 'cmp1', is_root=True)
    return PlacementView(client, provider, warning, goal, replace(SEEN, **seen))


def state(enabled=True, unhealthy=()):
    return SimpleNamespace(enabled=enabled, unhealthy=unhealthy)


GOOD = {
    'settings': ON,
    'forbidden': (),
    'versions': {'QEMU': (10, 1), 'libvirt': (4, 4, 0)},
    'store': (DISK, ()),
    'edited_qemu_conf': None,
    'guests': (),
    'definitions': (),
    'cells_mib': {0: 500, 1: 400},
    'post_copy': False,
    'placement': view(),
    'edited_nova_conf': None,
    'provider_configs': (),
    'dram_mib': 500,
    'agent_state': state(),
    'agent_runs': True,
    'agent_behind': None,
    'hook_findings': [],
    'hook_not_enforcing': None,
    'hook_newer_than_libvirtd': False,
}
OFF = {
    'settings': DISABLED,
    'placement': view(publish.target(DISABLED, HostFacts()), traits=frozenset()),
    'agent_state': state(enabled=False),
}


class Known:
    """The facts of a host where all is well, but for those that a test gives."""

    def __init__(self, changes):
        self._facts = GOOD | changes

    def __getattr__(self, name):
        fact = self._facts[name]
        if isinstance(fact, Exception) and name != 'placement':
            raise fact
        return fact


def result(check, changes):
    found = Doctor(Known(changes)).result_of(dict(CHECKS)[check])
    return f'{found.code.name} {found.details}'


def not_good(changes):
    codes = {name: result(name, changes).split()[0] for name, _ in CHECKS}
    return {name: code for name, code in codes.items() if code != 'SUCCESS'}


def test_hosts_where_all_is_well():
    assert not_good({}) == {}
    assert not_good(OFF) == {}


PLACEMENT, AGREE = 'Placement', 'nova-compute and fbm-agent'
DRAM = model.Inventory(500, 0, 1, 500, 1, 1.5)
OTHER = replace(GUEST, is_nova=False)
NO_RIGHT = view(error=errors.ForbiddenError('PUT: 403'))
RESERVE = replace(ON, reserved_mib=9)
RESTARTS, CELLS = 'Guest restarts', 'NUMA cells'
PAGES, SHARE, PINNED, TOPOLOGY = (
    {'definitions': (Definition('instance-1', 'b1', frozenset({need})),)}
    for need in (Need.PAGE_SIZE, Need.SHARE, Need.PINNED, Need.TOPOLOGY)
)


@pytest.mark.parametrize(
    ('check', 'changes', 'expected'),
    [
        ('Configuration', {}, 'SUCCESS enabled: 1000 MiB can be allocated to instances'),
        ('Configuration', OFF, 'SUCCESS disabled .* to turn it on, set it'),
        ('Configuration', OFF | {'forbidden': ('a', 'b')}, 'FAILURE a; b .nova-compute does not'),
        ('Configuration', {'settings': RESERVE}, 'WARNING .*reserved_host_memory_mb is 9:'),
        ('QEMU', {'versions': {}}, 'WARNING the version of QEMU is unknown: expected 2.6.0'),
        ('QEMU', {'versions': {'QEMU': (2, 5, 1)}}, 'FAILURE QEMU 2.5.1 .*upgrade it to 2.6.0'),
        ('QEMU', {'versions': {'QEMU': (2, 6, 0)}}, 'WARNING .*upgrade it to 2.10.0 .*discards'),
        ('QEMU', {'versions': {'QEMU': (2, 9)}}, 'WARNING QEMU 2.9 works'),
        ('QEMU', {'versions': {'QEMU': (2, 10, 0)}}, 'SUCCESS QEMU 2.10.0$'),
        ('libvirt', {'versions': {'libvirt': (3, 9)}}, 'FAILURE .*4.0.0 or later'),
        ('libvirt', {'versions': {'libvirt': (4, 0, 0)}}, 'WARNING .*4.4.0 or later'),
        ('Store', {}, 'SUCCESS /srv/fbm on /srv/fbm .xfs, a disk., 512 of 1024 MiB are free'),
        ('Store', {'store': (TMPFS, ())}, 'SUCCESS .*tmpfs, DRAM'),
        ('Store', {'store': (None, ())}, 'WARNING nothing could be seen of the store'),
        ('Store', {'edited_qemu_conf': '/q'}, 'WARNING /q was changed .* restart libvirtd'),
        ('Store', {'edited_qemu_conf': '/q', 'store': FULL}, 'FAILURE full; /q was changed'),
        ('Post-copy', {'post_copy': True, 'store': (TMPFS, ())}, 'SUCCESS .*store is in DRAM'),
        ('Post-copy', {'post_copy': True}, 'FAILURE .*live_migration_permit_post_copy = false'),
        ('Post-copy', {'post_copy': True, 'store': (None, ())}, 'FAILURE .*or not known'),
        ('Guests', {'guests': (GUEST,)}, 'WARNING draining: '),
        ('Guests', {'guests': (OTHER,)}, 'SUCCESS 0 Nova guests run'),
        ('Guests', OFF | {'guests': (GUEST,)}, 'SUCCESS 1 guest in DRAM: after file-backed'),
        (RESTARTS, {}, 'SUCCESS 0 guests, running or stopped, can restart'),
        (RESTARTS, TOPOLOGY, 'SUCCESS 1 guest, running or stopped, can restart'),
        (
            RESTARTS,
            PAGES,
            'FAILURE .*cannot be started here again, so neither stop nor start them: 1 g',
        ),
        (RESTARTS, OFF | PAGES, 'WARNING before it is turned on: 1 guest with a page size'),
        (RESTARTS, SHARE, 'SUCCESS before it is turned off: 1 guest with a share attached'),
        (RESTARTS, OFF | SHARE, 'FAILURE .*cannot be started here again'),
        (RESTARTS, PINNED, 'FAILURE .*pinned memory'),
        (RESTARTS, PINNED | {'store': (TMPFS, ())}, 'SUCCESS 1 guest, running or stopped, can'),
        (RESTARTS, OFF | PINNED | {'store': (None, ())}, 'WARNING before it is turned on: '),
        (
            RESTARTS,
            {'guests': (GUEST,)},
            'WARNING no definition in /etc/libvirt/qemu of .*: instance-1 .b1.; run',
        ),
        (RESTARTS, TOPOLOGY | {'guests': (GUEST,)}, 'SUCCESS 1 guest, running or stopped, can'),
        (RESTARTS, {'guests': (OTHER,)}, 'SUCCESS 0 guests'),
        (
            CELLS,
            {},
            'SUCCESS cell 0 has 500 MiB, cell 1 has 400 MiB of DRAM: .* capacity of 1000 MiB, ',
        ),
        (CELLS, OFF | {'cells_mib': {}}, 'SUCCESS unknown of DRAM: this, not a capacity, limits'),
        (CELLS, TOPOLOGY, 'SUCCESS .*; here 1 guest with a NUMA topology: instance-1 .b1.$'),
        (PLACEMENT, {}, 'SUCCESS cmp1 .u1. was found'),
        (PLACEMENT, {'placement': view(warning='another host')}, 'FAILURE another host'),
        (PLACEMENT, {'placement': AWAY}, 'FAILURE GET: connection refused'),
        ('Rights in Placement', {'placement': NO_RIGHT}, 'FAILURE PUT: 403; PUT: 403; PUT: 403'),
        ('Allocations', {}, 'SUCCESS 2 instances hold 1000 MiB'),
        ('Allocations', {'placement': view(allocated_mib=1001)}, 'FAILURE .*1 MiB more than the'),
        ('Allocations', {'placement': AWAY}, 'WARNING not known, because the check "Placement"'),
        (AGREE, {}, 'SUCCESS Placement has what the agent would set'),
        (AGREE, {'provider_configs': ('/p.yaml',)}, 'WARNING /p.yaml, .*; remove it there'),
        (AGREE, {'edited_nova_conf': '/n'}, 'WARNING /n was changed .* restart nova-compute'),
        (AGREE, {'placement': view(traits=frozenset())}, 'WARNING .*CUSTOM_FILE_BACKED_MEMORY,'),
        (AGREE, {'placement': view(inventory=None)}, 'WARNING .*not created the MEMORY_MB'),
        (
            AGREE,
            {'placement': view(inventory=DRAM)},
            'WARNING .*total=500 .*ratio=1.5, .*total=1000 .*Likely .* this is the host',
        ),
        (AGREE, OFF, 'SUCCESS disabled: the inventory is left to nova-compute'),
        (AGREE, {'placement': view(OFF['placement'].goal)}, 'WARNING .*other traits'),
        ('fbm-agent', {'agent_state': state(unhealthy=('a', 'b'))}, 'FAILURE it keeps .*: a; b'),
        (
            'fbm-agent',
            {'agent_state': state(unhealthy=('a',)), 'agent_runs': False},
            'FAILURE no fbm-agent runs now .*the last one kept new instances off this host: a',
        ),
        ('fbm-agent', {'agent_runs': False}, 'WARNING .*no fbm-agent runs now'),
        (AGREE, {'agent_behind': 'goes by 512'}, 'WARNING goes by 512'),
        ('fbm-agent', {'agent_behind': 'goes by 512'}, 'WARNING goes by 512'),
        (
            'fbm-agent',
            {'agent_behind': 'goes by 512', 'agent_state': state(unhealthy=('a',))},
            'FAILURE it keeps .*: a',
        ),
        (
            'fbm-agent',
            {'agent_behind': 'goes by disabled', 'agent_state': state(enabled=False)},
            "FAILURE goes by disabled; libvirt's hook goes by the agent",
        ),
        ('libvirt hook', {}, 'SUCCESS installed, and it works; .*: journalctl -t fbm-hook'),
        ('libvirt hook', {'hook_not_enforcing': 'stale'}, 'WARNING stale'),
        ('libvirt hook', OFF | {'hook_not_enforcing': 'stale'}, 'WARNING stale'),
        (
            'libvirt hook',
            {'hook_newer_than_libvirtd': True},
            'WARNING .*systemctl reload libvirtd',
        ),
    ],
)
def test_a_check(check, changes, expected):
    assert re.match(expected, result(check, changes))


@pytest.mark.parametrize(
    ('check', 'changes', 'details'),
    [
        ('Store', {'store': NO_STORE}, 'no store'),
        ('libvirt hook', {'hook_findings': ['no hook', 'b']}, 'no hook; b'),
        ('fbm-agent', {'agent_state': errors.HostError('no agent')}, 'no agent'),
        ('Post-copy', {'post_copy': True}, '[libvirt]live_migration_permit_post_copy is true'),
    ],
)
def test_what_is_missing_on_a_disabled_host_is_a_warning(check, changes, details):
    """The question is whether it can be turned on, and what is left to do before."""
    assert result(check, changes).startswith(f'FAILURE {details}')
    off = result(check, OFF | changes)
    assert off.startswith(f'WARNING before it is turned on: {details}')


OF_PLACEMENT = {
    'Placement': 'FAILURE',
    'Rights in Placement': 'WARNING',
    'Allocations': 'WARNING',
    'nova-compute and fbm-agent': 'WARNING',
}


@pytest.mark.parametrize(
    ('fact', 'error', 'failed'),
    [
        ('guests', errors.HostError('x'), {'Guests': 'FAILURE', RESTARTS: 'FAILURE'}),
        ('store', errors.HostError('x'), {'Store': 'FAILURE', RESTARTS: 'FAILURE'}),
        ('versions', cfg.NoSuchOptError('x'), {'QEMU': 'FAILURE', 'libvirt': 'FAILURE'}),
        ('hook_findings', OSError('x'), {'libvirt hook': 'FAILURE'}),
        ('placement', AWAY, OF_PLACEMENT),
    ],
)
def test_an_error_fails_the_checks_that_need_the_fact_and_no_other(fact, error, failed):
    assert not_good({fact: error}) == failed


def test_a_check_that_cannot_run_is_a_failure():
    """Whatever ends it, and only that check; so the exit code is the one for failures."""

    def broken(_facts):
        raise RuntimeError('no idea')

    found = Doctor(Known({})).result_of(broken)
    assert (found.code, found.details) == (2, 'RuntimeError: no idea')

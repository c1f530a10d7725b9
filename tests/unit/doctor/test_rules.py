# SPDX-License-Identifier: Apache-2.0
"""The doctor's rules, row by row: the result, and the words that mend it."""

from dataclasses import replace

import pytest
from oslo_upgradecheck.upgradecheck import Code

from fbm_placement import names, plan
from fbm_placement.doctor import rules
from fbm_placement.host.guests import Backing, Guest
from fbm_placement.host.mounts import Mount
from fbm_placement.host.store import Store
from fbm_placement.plan import HostFacts, Observation
from fbm_placement.settings import DISABLED, Settings

ON = Settings(capacity_mib=1000, reserved_mib=100, virt_type='kvm', ram_allocation_ratio=1.0)
GOAL = plan.target(ON, HostFacts())
DISK = Store('/srv/fbm', mount=Mount('/srv/fbm', 'xfs', 'd'), size_bytes=2**30, free_bytes=2**29)
TMPFS = replace(DISK, mount=Mount('/srv/fbm', 'tmpfs', 'tmpfs'))
GUEST = Guest(7, 'instance-1', 'b1', is_nova=True, memory_mib=512, backing=Backing.DRAM)


def judged(result):
    return result.code.name, result.details


@pytest.mark.parametrize(
    ('seen', 'code', 'words'),
    [
        ((2, 5, 1), 'FAILURE', 'QEMU 2.5.1 cannot back memory with files: upgrade it to 2.6.0'),
        ((2, 6, 0), 'WARNING', 'upgrade it to 2.10.0 or later, which discards it'),
        ((2, 9), 'WARNING', '2.10.0'),
        ((2, 10, 0), 'SUCCESS', 'QEMU 2.10.0'),
        ((10, 1), 'SUCCESS', 'QEMU 10.1'),
        (None, 'WARNING', 'could not be found out: expected 2.6.0 or later'),
    ],
)
def test_versions_are_those_of_the_spec(seen, code, words):
    result = rules.version('QEMU', seen, rules.QEMU_NEEDED, rules.QEMU_DISCARDS)
    assert result.code is Code[code]
    assert words in result.details


def test_the_configuration():
    assert (
        judged(rules.configuration(ON, (), ()))[1] == 'enabled: 900 MiB are promised to instances'
    )
    code, text = judged(rules.configuration(DISABLED, (), ()))
    assert code == 'SUCCESS'
    assert 'to turn it on, set it' in text
    code, text = judged(rules.configuration(DISABLED, ('a is wrong', 'b is wrong'), ()))
    assert (code, text) == (
        'FAILURE',
        'a is wrong; b is wrong (nova-compute does not start so)',
    )
    assert judged(rules.configuration(ON, (), ('doubt',))) == ('WARNING', 'doubt')


def test_what_is_missing_on_a_disabled_host_is_a_warning():
    """Whoever asks whether it may be turned on wants to know what is left to do."""
    for judge in (
        lambda settings: rules.store(settings, None, ('no store',)),
        lambda settings: rules.hook(('no hook',), settings),
        lambda settings: rules.agent('no agent', settings),
        lambda settings: rules.post_copy(True, DISK, settings),
    ):
        assert judge(ON).code is Code.FAILURE
        result = judge(DISABLED)
        assert result.code is Code.WARNING
        assert result.details.startswith('before it is turned on: ')


def test_a_store_that_is_fit_is_told():
    assert judged(rules.store(ON, DISK, ())) == (
        'SUCCESS',
        '/srv/fbm on /srv/fbm (xfs, a disk), 512 of 1024 MiB are free',
    )
    assert 'DRAM' in rules.store(ON, TMPFS, ()).details
    assert rules.store(ON, None, ()).code is Code.WARNING


@pytest.mark.parametrize(
    ('permitted', 'store', 'code'),
    [
        (False, DISK, 'SUCCESS'),
        (True, TMPFS, 'SUCCESS'),
        (True, DISK, 'FAILURE'),
        (True, None, 'FAILURE'),
    ],
)
def test_post_copy_needs_a_store_in_dram(permitted, store, code):
    """Userfaultfd knows tmpfs and hugetlbfs."""
    result = rules.post_copy(permitted, store, ON)
    assert result.code is Code[code]
    if code == 'FAILURE':
        assert 'set live_migration_permit_post_copy = false' in result.details


def test_guests():
    assert rules.guests(ON, ()).code is Code.SUCCESS
    code, text = judged(rules.guests(ON, (GUEST,)))
    assert code == 'WARNING'
    assert text.startswith('draining: ')
    code, text = judged(rules.guests(DISABLED, (GUEST,)))
    assert code == 'SUCCESS'
    assert '1 guest in DRAM: turned on, this host takes nothing new until' in text
    assert rules.guests(ON, (replace(GUEST, is_nova=False),)).code is Code.SUCCESS


def test_rights():
    assert rules.rights(()).code is Code.SUCCESS
    assert judged(rules.rights(('PUT: 403', 'PUT: 403 too'))) == (
        'FAILURE',
        'PUT: 403; PUT: 403 too',
    )


def test_allocations():
    seen = Observation(1, GOAL.inventory, GOAL.own_traits, allocated_mib=900, consumers=2)
    assert judged(rules.allocations(GOAL, seen)) == ('SUCCESS', '2 instances hold 900 MiB')
    code, text = judged(rules.allocations(GOAL, replace(seen, allocated_mib=901)))
    assert code == 'FAILURE'
    assert '1 MiB more than the 900 MiB' in text


def test_will_nova_compute_and_the_agent_quarrel():
    agreed = Observation(1, GOAL.inventory, GOAL.own_traits)
    assert rules.two_views(GOAL, agreed, 500, None).code is Code.SUCCESS
    withdrawn = replace(agreed, traits=frozenset())
    code, text = judged(rules.two_views(GOAL, withdrawn, 500, None))
    assert code == 'WARNING'
    assert f'other traits than the agent would set ({names.TRAIT_ENABLED}' in text
    dram = replace(GOAL.inventory, total=500, max_unit=500, allocation_ratio=1.5)
    code, text = judged(rules.two_views(GOAL, replace(agreed, inventory=dram), 500, None))
    assert code == 'WARNING'
    assert "this is the host's DRAM" in text
    assert 'total=500 allocation_ratio=1.5' in text
    code, text = judged(rules.two_views(GOAL, agreed, 500, '/etc/nova/nova.conf'))
    assert code == 'WARNING'
    assert '/etc/nova/nova.conf was changed after nova-compute started' in text
    assert 'restart nova-compute' in text
    waiting = replace(agreed, inventory=None)
    assert 'has not created' in rules.two_views(GOAL, waiting, 500, None).details
    off = plan.target(DISABLED, HostFacts())
    assert rules.two_views(off, withdrawn, 500, None).code is Code.SUCCESS
    assert 'other traits' in rules.two_views(off, agreed, 500, None).details
    assert names.TRAIT_ENABLED in GOAL.own_traits


def test_what_the_agent_says_of_its_host_is_told():
    """A host that it closes is no success, and a file that outlived its agent isn't either."""
    assert rules.agent(None, ON).code is Code.SUCCESS
    code, text = judged(rules.agent(None, ON, ('not mounted', 'full')))
    assert (code, text) == (
        'FAILURE',
        'it keeps new instances off this host: not mounted; full',
    )
    code, text = judged(rules.agent(None, ON, ('full',), runs=False))
    assert code == 'FAILURE'
    assert 'no fbm-agent runs now' in text
    assert text.endswith('the last one kept new instances off this host: full')
    code, text = judged(rules.agent(None, ON, configured=False))
    assert code == 'FAILURE'
    assert 'was started when nova.conf said disabled, and it says enabled now' in text
    assert rules.agent(None, ON, configured=True).code is Code.SUCCESS
    code, text = judged(rules.agent(None, ON, runs=False))
    assert code == 'WARNING'
    assert 'no fbm-agent runs now' in text


def test_an_edited_qemu_conf_hides_nothing():
    code, text = judged(rules.store(ON, DISK, (), '/etc/libvirt/qemu.conf'))
    assert code == 'WARNING'
    assert 'restart libvirtd' in text
    code, text = judged(rules.store(ON, DISK, ('full',), '/etc/libvirt/qemu.conf'))
    assert code == 'FAILURE'
    assert text.startswith('full; /etc/libvirt/qemu.conf was changed')


def test_a_hook_that_libvirtd_may_not_know_is_told():
    assert rules.hook((), ON).code is Code.SUCCESS
    assert 'refuses nothing now: off' in rules.hook((), ON, silent='off').details
    code, text = judged(rules.hook((), ON, unknown_to_libvirtd=True))
    assert code == 'WARNING'
    assert 'systemctl reload libvirtd' in text

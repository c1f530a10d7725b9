# SPDX-License-Identifier: Apache-2.0
"""What the programs print as they print it, and what Placement's refusals mean."""

from dataclasses import replace

import pytest

from fbm_placement import errors
from fbm_placement.doctor.facts import (
    Facts,
    PlacementView,
    behind,
    parse_versions,
    read_versions,
)
from fbm_placement.host import state_file
from fbm_placement.model import DISABLED, HostFacts, Provider, Settings
from fbm_placement.rules.publish import Observation, target
from tests.unit.nova_conf_text import ENABLED

GOAL = target(Settings(1000, 0, 'kvm', 1.0), HostFacts())
SEEN = Observation(7, GOAL.inventory, frozenset({'A'}))
FORBIDDEN = errors.ForbiddenError('PUT ...: 403 Forbidden')

VIRSH = """\
Compiled against library: libvirt 9.0.0
Using library: libvirt 9.0.0
Using API: QEMU 9.0.0
Running hypervisor: QEMU 7.2.22
Running against daemon: 10.1.0
"""
RUNNING = {'QEMU': (7, 2, 22), 'libvirt': (10, 1, 0)}


class Refusing:
    def __init__(self, **answers):
        self.answers = {'trait': errors.BadRequestError('400')} | answers
        self.asked = []

    def _refuse(self, what, *generation):
        self.asked.append((what, *generation))
        raise self.answers.get(what, errors.ConflictError('409'))

    def put_traits(self, uuid, generation, traits):
        self._refuse('traits', generation)

    def put_inventory(self, uuid, generation, inventory):
        self._refuse('inventory', generation)

    def create_trait(self, name):
        assert not name.startswith('CUSTOM_')
        self._refuse('trait')


def missing_rights(placement, seen=SEEN):
    provider = Provider('u', 'cmp1', is_root=True)
    return PlacementView(placement, provider, None, GOAL, seen).missing_rights()


def test_a_conflict_or_a_bad_name_shows_that_the_right_is_there():
    placement = Refusing()
    assert missing_rights(placement) == []
    assert placement.asked == [('traits', -1), ('trait',), ('inventory', -1)]


def test_each_missing_right_is_reported_as_placement_does():
    placement = Refusing(inventory=FORBIDDEN, trait=FORBIDDEN)
    assert missing_rights(placement) == ['PUT ...: 403 Forbidden'] * 2


def test_an_inventory_that_is_not_there_is_not_tried():
    placement = Refusing()
    assert missing_rights(placement, Observation(7, None, frozenset())) == []
    assert placement.asked == [('traits', -1), ('trait',)]


def test_other_errors_are_raised():
    with pytest.raises(errors.PlacementError, match='503'):
        missing_rights(Refusing(traits=errors.PlacementError('503')))


def test_parse_versions():
    """The daemon's version counts, not the library's that virsh was built with."""
    assert parse_versions(VIRSH) == RUNNING
    installed = 'libvirtd (libvirt) 9.0.0\nQEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n'
    assert parse_versions(installed) == {'QEMU': (7, 2, 22), 'libvirt': (9, 0, 0)}


@pytest.mark.parametrize(
    ('printed', 'expected'),
    [
        ({'virsh': VIRSH, 'libvirtd': 'libvirtd (libvirt) 9.0.0'}, RUNNING),
        (
            {
                'virtqemud': 'virtqemud (libvirt) 8.5.0',
                '/usr/libexec/qemu-kvm': 'QEMU emulator version 6.2.0',
            },
            {'QEMU': (6, 2, 0), 'libvirt': (8, 5, 0)},
        ),
        (
            {'virsh': 'Running against daemon: 10.1.0', 'libvirtd': '(libvirt) 9.0.0'},
            {'libvirt': (10, 1, 0)},
        ),
        ({'virsh': 'error: failed to connect'}, {}),
    ],
)
def test_virsh_is_asked_first_then_the_programs(printed, expected):
    commands = []

    def output(command):
        commands.append(command)
        return printed.get(command[0], '')

    assert read_versions('qemu+tcp://elsewhere/system', output) == expected
    assert commands[0] == ('virsh', '-c', 'qemu+tcp://elsewhere/system', 'version', '--daemon')


def test_a_configuration_that_forbids_to_run_counts_as_disabled(nova_conf):
    facts = Facts(nova_conf(ENABLED + 'virt_type = lxc\n[file_backed_memory]\ninterval = 1\n'))
    assert facts.settings == DISABLED
    assert [reason.split()[0] for reason in facts.forbidden] == [
        '[libvirt]virt_type',
        '[file_backed_memory]interval:',
    ]


def test_an_error_of_placement_is_kept(home):
    """A Placement that hangs is waited for once."""
    home.write('[placement]\n')
    facts = Facts(home.load())
    assert isinstance(facts.placement, errors.ConfigurationError)
    assert facts.placement is facts.placement


HOST = state_file.HostState(
    written_by='fbm-agent 1.0',
    host='cmp1',
    looked_at='2026-11-22T20:44:00+00:00',
    valid_until_uptime=1000,
    hook_mode='enforce',
    configured='enabled',
    capacity_mib=1024,
    reserved_mib=0,
)
OLD = replace(HOST, capacity_mib=None, reserved_mib=None)


@pytest.mark.parametrize(
    ('state', 'mib', 'reserved', 'goes_by'),
    [
        (HOST, 1024, 0, None),
        (HOST, 512, 0, 'enabled, 1024 MiB'),
        (HOST, 1024, 8, 'enabled, 1024 MiB'),
        (HOST, 0, 512, 'enabled, 1024 MiB'),
        (replace(HOST, configured='disabled', capacity_mib=0), 1024, 0, 'disabled'),
        # The reserve of a disabled host is nova-compute's.
        (replace(HOST, configured='disabled', capacity_mib=0), 0, 512, None),
        # Written by an older agent.
        (OLD, 512, 0, None),
        (OLD, 0, 0, 'enabled'),
    ],
)
def test_what_the_running_agent_goes_by(state, mib, reserved, goes_by):
    text = behind(state, Settings(mib, reserved, 'kvm', 1.0))
    if goes_by is None:
        assert text is None
    else:
        assert f'the running agent goes by {goes_by} until nova-compute reports' in str(text)

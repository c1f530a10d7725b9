# SPDX-License-Identifier: Apache-2.0
"""How options become settings: every error at once, each in one line."""

import re

import pytest

from fbm_placement import errors
from fbm_placement.conf import reader
from fbm_placement.model import AgentOptions, Settings

CAPACITY = '[libvirt]file_backed_memory'
RESERVE = '[DEFAULT]reserved_host_memory_mb'
RATIO = '[DEFAULT]ram_allocation_ratio'
VIRT_TYPE = '[libvirt]virt_type'
INTERVAL = '[file_backed_memory]interval'


def conf_text(capacity='4096', virt_type='kvm', ratio='1.0', reserve='0'):
    lines = {
        'ram_allocation_ratio': ratio,
        'reserved_host_memory_mb': reserve,
        '[libvirt]\nfile_backed_memory': capacity,
        'virt_type': virt_type,
    }
    return '[DEFAULT]\n' + ''.join(f'{k} = {v}\n' for k, v in lines.items() if v is not None)


def reasons_for(home, text, read=reader.read_settings):
    home.write(text)
    with pytest.raises(errors.ConfigurationError) as caught:
        read(home.load())
    assert str(caught.value) == '; '.join(caught.value.reasons)
    return list(caught.value.reasons)


def test_good_configuration_is_read(home):
    home.write(conf_text('8192', 'qemu', '1.00', '16'))
    read = reader.read_settings(home.load())
    assert read == Settings(
        capacity_mib=8192, reserved_mib=16, virt_type='qemu', ram_allocation_ratio=1.0
    )
    assert (read.allocatable_mib, str(read)) == (
        8176,
        'enabled, 8192 MiB, 16 MiB of it reserved',
    )


def test_defaults_are_those_of_nova(home):
    home.write('')
    read = reader.read_settings(home.load())
    assert read == Settings(
        capacity_mib=0, reserved_mib=512, virt_type='kvm', ram_allocation_ratio=None
    )
    assert (read.enabled, str(read)) == (False, 'disabled')


@pytest.mark.parametrize(
    ('line', 'template'),
    [
        ('', 'instance-%08x'),
        ('instance_name_template = vm-%(uuid)s', 'vm-%(uuid)s'),
        ('instance_name_template = $host-%d\nhost = cmp1', 'cmp1-%d'),
        ('instance_name_template = $no_option-%d', 'instance-%08x'),
        ('instance_name_template =', ''),
    ],
)
def test_how_nova_names_guests(home, line, template):
    """It forbids nothing: it tells guests of other architectures from others."""
    home.write(f'[DEFAULT]\n{line}\n')
    conf = home.load()
    assert reader.read_settings(conf).instance_name_template == template
    assert reader.read_instance_name_template(conf) == template


@pytest.mark.parametrize(
    ('lines', 'begins', 'expected'),
    [
        ({'capacity': '1e6'}, CAPACITY, 'a whole number of MiB'),
        ({'capacity': '1 TiB'}, CAPACITY, 'e.g. 1048576 for 1 TiB'),
        ({'capacity': '4096.5'}, CAPACITY, 'a whole number of MiB'),
        ({'capacity': 'nan'}, CAPACITY, 'a whole number of MiB'),
        ({'capacity': '$nothing'}, CAPACITY, 'a $ that names no option known here'),
        ({'capacity': ''}, CAPACITY, 'nothing after the ='),
        ({'capacity': '-1'}, CAPACITY, 'a whole number of MiB, 0 or more'),
        ({'ratio': 'one'}, RATIO, 'expected 1.0'),
        ({'ratio': '-1.0'}, RATIO, 'expected 1.0'),
        ({'ratio': '1,0'}, RATIO, 'expected 1.0'),
        ({'ratio': 'nan'}, RATIO, 'is nan'),
        # What Nova treats as 1.5 must not pass for 1.0.
        ({'ratio': None}, RATIO, 'is not set'),
        ({'reserve': '-1'}, RESERVE, '0 or more'),
        ({'reserve': '0.5'}, RESERVE, '0 or more'),
        ({'reserve': ''}, RESERVE, 'nothing after the ='),
        ({'reserve': 'x', 'capacity': '0'}, RESERVE, '0 or more'),
        # Unset it is Nova's 512 MiB, which can be all that is offered.
        ({'reserve': None, 'capacity': '512'}, RESERVE, 'is 512 MiB'),
        ({'virt_type': '$nothing'}, VIRT_TYPE, 'expected kvm or qemu'),
    ],
)
def test_wrong_value(home, lines, begins, expected):
    (reason,) = reasons_for(home, conf_text(**lines))
    assert reason.startswith(begins)
    assert expected in reason
    assert '\n' not in reason
    assert 'LocationInfo' not in reason


def test_wrong_value_names_the_file(home):
    (reason,) = reasons_for(home, conf_text('much'))
    assert str(home.folder / 'nova.conf') in reason
    assert "'much'" in reason


@pytest.mark.parametrize(
    'values', [('2147483648', 'lxc', '1.5', '2147483648'), ('much', 'lxc', 'one', '-1')]
)
def test_all_reasons_at_once(home, values):
    """A value that can't be read hides no other reason, and is reported once."""
    own = '[file_backed_memory]\ninterval = 1\nresource_provider = $nothing\n'
    reasons = reasons_for(home, conf_text(*values) + own, reader.read_all)
    assert sorted(reason.split()[0].rstrip(':') for reason in reasons) == [
        RATIO,
        RESERVE,
        INTERVAL,
        '[file_backed_memory]resource_provider',
        CAPACITY,
        VIRT_TYPE,
    ]


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', AgentOptions(None, 60, None, 'enforce')),
        ('resource_provider = compute1', AgentOptions('compute1', 60)),
        ('resource_provider =', AgentOptions(None, 60)),
        ('resource_provider = "  "', AgentOptions(None, 60)),
        ('interval = 5', AgentOptions(None, 5)),
        ('interval = 3600', AgentOptions(None, 3600)),
        ('memory_backing_dir = /srv/../srv/fbm/', AgentOptions(None, 60, '/srv/fbm')),
        ('hook_mode = off', AgentOptions(None, 60, None, 'off')),
    ],
)
def test_agent_options(home, text, expected):
    home.write(f'[file_backed_memory]\n{text}\n')
    assert reader.read_agent_options(home.load()) == expected


@pytest.mark.parametrize(
    ('line', 'reason'),
    [
        *(
            (f'interval = {value}', '.*; expected a whole number of seconds, 5 to 3600')
            for value in ('4', '3601', '-1', 'often', '7.5', '$nothing')
        ),
        ('interval =', 'nothing after the =; expected a whole number of seconds'),
        ('memory_backing_dir = ram', 'ram is relative; expected the absolute path of a directory'),
        ('hook_mode = maybe', '.*; expected enforce or warn or off'),
    ],
)
def test_wrong_agent_option(home, line, reason):
    (found,) = reasons_for(home, f'[file_backed_memory]\n{line}\n', reader.read_agent_options)
    assert re.match(rf'\[file_backed_memory\]{line.split()[0]}: {reason}', found)


def test_only_what_is_needed_is_read(home):
    """Withdrawing needs the provider, and no other option may stop it."""
    home.write('[file_backed_memory]\ninterval = 1\nresource_provider = compute1\n')
    read = reader.read_agent_options(home.load(), needed=('resource_provider',))
    assert read == AgentOptions('compute1')

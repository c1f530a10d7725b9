# SPDX-License-Identifier: Apache-2.0
"""What the spec forbids, told all at once."""

import dataclasses

import pytest

from fbm_placement import errors, names, settings
from fbm_placement.conf import reader
from fbm_placement.rules import config

GOOD = settings.Settings(
    capacity_mib=4096, reserved_mib=0, virt_type='kvm', ram_allocation_ratio=1.0
)

RATIO = '[DEFAULT]ram_allocation_ratio'
RESERVE = '[DEFAULT]reserved_host_memory_mb'
CAPACITY = '[libvirt]file_backed_memory'
VIRT_TYPE = '[libvirt]virt_type'


def conf_text(
    file_backed_memory=4096,
    virt_type='kvm',
    ram_allocation_ratio='1.0',
    reserved_host_memory_mb=0,
):
    """Return the four lines; None leaves one out."""
    lines = {
        'ram_allocation_ratio': ram_allocation_ratio,
        'reserved_host_memory_mb': reserved_host_memory_mb,
        '[libvirt]\nfile_backed_memory': file_backed_memory,
        'virt_type': virt_type,
    }
    return '[DEFAULT]\n' + ''.join(f'{k} = {v}\n' for k, v in lines.items() if v is not None)


def reasons_for(home, **lines):
    """Return why nova.conf with these lines forbids to run; nothing where it doesn't."""
    home.write(conf_text(**lines))
    try:
        reader.read_settings(home.load())
    except errors.ConfigurationError as exc:
        return list(exc.reasons)
    return []


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'virt_type': 'qemu'},
        {'ram_allocation_ratio': 1},
        {'reserved_mib': 512},
        {'reserved_mib': 4095},
        {'capacity_mib': 1},
        {'capacity_mib': names.PLACEMENT_MAX_INT},
    ],
)
def test_allowed(changes):
    """A host within the spec may run."""
    assert list(config.forbidden(dataclasses.replace(GOOD, **changes))) == []


@pytest.mark.parametrize(
    ('changes', 'begins', 'says'),
    [
        ({'ram_allocation_ratio': None}, f'{RATIO} is not set:', 'set ram_allocation_ratio = 1.0'),
        ({'ram_allocation_ratio': 1.5}, f'{RATIO} is 1.5:', 'set ram_allocation_ratio = 1.0'),
        ({'ram_allocation_ratio': 1.0001}, f'{RATIO} is 1.0001:', 'cannot be overcommitted'),
        ({'ram_allocation_ratio': 0.9}, f'{RATIO} is 0.9:', 'cannot be overcommitted'),
        ({'ram_allocation_ratio': 0.0}, f'{RATIO} is 0.0:', 'cannot be overcommitted'),
        ({'ram_allocation_ratio': float('nan')}, f'{RATIO} is nan:', 'cannot be overcommitted'),
        ({'ram_allocation_ratio': float('inf')}, f'{RATIO} is inf:', 'cannot be overcommitted'),
        ({'virt_type': 'lxc'}, f'{VIRT_TYPE} is lxc:', 'set virt_type = kvm'),
        ({'virt_type': 'parallels'}, f'{VIRT_TYPE} is parallels:', 'or file_backed_memory = 0'),
        ({'virt_type': 'KVM'}, f'{VIRT_TYPE} is KVM:', 'only kvm and qemu'),
        ({'reserved_mib': 4096}, f'{RESERVE} is 4096 MiB', 'set reserved_host_memory_mb = 0'),
        ({'reserved_mib': 4097}, f'{RESERVE} is 4097 MiB', 'leaves nothing for instances'),
        (
            {'capacity_mib': names.PLACEMENT_MAX_INT + 1},
            f'{CAPACITY} is 2147483648 MiB',
            'at most 2147483647; the unit is MiB, was it meant in KiB or bytes?',
        ),
    ],
)
def test_forbidden(changes, begins, says):
    """Each rule of the spec gives one reason: what was seen, and what to set."""
    (reason,) = config.forbidden(dataclasses.replace(GOOD, **changes))
    assert reason.startswith(begins)
    assert says in reason


def test_disabled_forbids_nothing():
    """A host without file-backed memory may be configured in any way."""
    host = settings.Settings(
        capacity_mib=0, reserved_mib=512, virt_type='lxc', ram_allocation_ratio=16.0
    )
    assert not host.enabled
    assert list(config.forbidden(host)) == []
    assert list(config.warnings(host)) == []


def test_the_stand_in_for_withdrawing_is_disabled():
    """``settings.DISABLED`` offers nothing."""
    assert not settings.DISABLED.enabled
    assert list(config.forbidden(settings.DISABLED)) == []


@pytest.mark.parametrize(
    ('reserved', 'doubts'), [(0, []), (1, ['is 1: nova-compute 34']), (512, ['is 512:'])]
)
def test_warnings(reserved, doubts):
    """A reserve runs here, but keeps nova-compute 34 from starting: worth a warning."""
    found = list(config.warnings(dataclasses.replace(GOOD, reserved_mib=reserved)))
    assert len(found) == len(doubts)
    for told, expected in zip(found, doubts, strict=True):
        assert expected in told
        assert 'set reserved_host_memory_mb = 0' in told


def test_good_configuration_is_read(home):
    """The four options come from where nova.conf has them."""
    home.write(conf_text(8192, 'qemu', '1.00', 16))
    assert reader.read_settings(home.load()) == settings.Settings(
        capacity_mib=8192, reserved_mib=16, virt_type='qemu', ram_allocation_ratio=1.0
    )


def test_defaults_are_those_of_nova(home):
    """Nothing set: disabled, kvm, 512 MiB in reserve, no ratio."""
    home.write('')
    read = reader.read_settings(home.load())
    assert read == settings.Settings(
        capacity_mib=0, reserved_mib=512, virt_type='kvm', ram_allocation_ratio=None
    )
    assert not read.enabled


def test_default_reserve_counts(home):
    """An unset reserve is Nova's 512 MiB, which can be all that is offered."""
    (reason,) = reasons_for(home, file_backed_memory=512, reserved_host_memory_mb=None)
    assert reason.startswith(f'{RESERVE} is 512 MiB')


def test_unset_ratio_is_not_one(home):
    """What Nova treats as 1.5 must not pass for 1.0."""
    (reason,) = reasons_for(home, ram_allocation_ratio=None)
    assert reason.startswith(f'{RATIO} is not set')


@pytest.mark.parametrize(
    ('lines', 'begins', 'expected'),
    [
        ({'file_backed_memory': -1}, CAPACITY, 'a whole number of MiB'),
        ({'file_backed_memory': '1e6'}, CAPACITY, 'a whole number of MiB'),
        ({'file_backed_memory': '1 TiB'}, CAPACITY, 'e.g. 1048576 for 1 TiB'),
        ({'file_backed_memory': '4096.5'}, CAPACITY, 'a whole number of MiB'),
        ({'file_backed_memory': 'nan'}, CAPACITY, 'a whole number of MiB'),
        ({'file_backed_memory': '$nothing'}, CAPACITY, 'a $ that names no option known here'),
        ({'ram_allocation_ratio': 'one'}, RATIO, 'expected 1.0'),
        ({'ram_allocation_ratio': '-1.0'}, RATIO, 'expected 1.0'),
        ({'ram_allocation_ratio': '1,0'}, RATIO, 'expected 1.0'),
        ({'ram_allocation_ratio': 'nan'}, RATIO, 'is nan'),
        ({'reserved_host_memory_mb': -1}, RESERVE, '0 or more'),
        ({'reserved_host_memory_mb': '0.5'}, RESERVE, '0 or more'),
        ({'virt_type': '$nothing'}, VIRT_TYPE, 'expected kvm or qemu'),
    ],
)
def test_unreadable_value(home, lines, begins, expected):
    """A value that is no number, or absurd, is one reason, in one line, without Python in it."""
    (reason,) = reasons_for(home, **lines)
    assert reason.startswith(begins)
    assert expected in reason
    assert '\n' not in reason
    assert 'LocationInfo' not in reason


def test_unreadable_value_names_the_file(home):
    """Where the bad value stands is told: there may be several files."""
    (reason,) = reasons_for(home, file_backed_memory='much')
    assert str(home.folder / 'nova.conf') in reason
    assert "'much'" in reason


def test_all_reasons_at_once(home):
    """One edit should mend them all."""
    told = reasons_for(
        home,
        file_backed_memory=names.PLACEMENT_MAX_INT + 1,
        virt_type='lxc',
        ram_allocation_ratio=1.5,
        reserved_host_memory_mb=names.PLACEMENT_MAX_INT + 1,
    )
    assert sorted(reason.split()[0] for reason in told) == [RATIO, RESERVE, CAPACITY, VIRT_TYPE]


def test_all_reasons_at_once_with_unreadable_values(home):
    """An unreadable value hides no other reason, and isn't itself told twice."""
    told = reasons_for(
        home,
        file_backed_memory='much',
        virt_type='lxc',
        ram_allocation_ratio='one',
        reserved_host_memory_mb=-1,
    )
    assert sorted(reason.split()[0].rstrip(':') for reason in told) == [
        RATIO,
        RESERVE,
        CAPACITY,
        VIRT_TYPE,
    ]


def test_the_error_holds_each_reason(home):
    """The message has all of them, ``reasons`` each."""
    home.write(conf_text(virt_type='lxc', ram_allocation_ratio=2))
    with pytest.raises(errors.ConfigurationError) as caught:
        reader.read_settings(home.load())
    assert len(caught.value.reasons) == 2
    assert str(caught.value) == '; '.join(caught.value.reasons)


def test_unreadable_reserve_of_a_disabled_host(home):
    """Disabled or not, a value that can't be read is told."""
    (reason,) = reasons_for(home, file_backed_memory=0, reserved_host_memory_mb='x')
    assert reason.startswith(RESERVE)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', settings.AgentOptions(None, 60)),
        ('resource_provider = compute1', settings.AgentOptions('compute1', 60)),
        ('resource_provider =', settings.AgentOptions(None, 60)),
        ('resource_provider = "  "', settings.AgentOptions(None, 60)),
        ('interval = 5', settings.AgentOptions(None, 5)),
        ('interval = 3600', settings.AgentOptions(None, 3600)),
    ],
)
def test_agent_options(home, text, expected):
    """The agent's own options, with their defaults and limits."""
    home.write(f'[file_backed_memory]\n{text}\n')
    assert reader.read_agent_options(home.load()) == expected


@pytest.mark.parametrize('interval', ['4', '3601', '-1', 'often', '7.5', '$nothing'])
def test_wrong_interval(home, interval):
    """An interval out of its limits is refused with the limits."""
    home.write(f'[file_backed_memory]\ninterval = {interval}\n')
    with pytest.raises(errors.ConfigurationError) as caught:
        reader.read_agent_options(home.load())
    (reason,) = caught.value.reasons
    assert reason.startswith('[file_backed_memory]interval: ')
    assert reason.endswith('expected a whole number of seconds, 5 to 3600')


def test_all_wrong_agent_options_at_once(home):
    """The agent's own options are told together too."""
    home.write('[file_backed_memory]\ninterval = 1\nresource_provider = $nothing\n')
    with pytest.raises(errors.ConfigurationError) as caught:
        reader.read_agent_options(home.load())
    assert len(caught.value.reasons) == 2

# SPDX-License-Identifier: Apache-2.0
"""The systemd unit: what it promises, and what systemd itself says of it."""

import pathlib
import re
import shutil
import subprocess
from collections import defaultdict

import pytest

UNIT = pathlib.Path(__file__).parents[2] / 'systemd' / 'fbm-agent.service'

ANALYZE = shutil.which('systemd-analyze')
needs_analyze = pytest.mark.skipif(
    ANALYZE is None, reason='systemd-analyze is not installed (Debian package systemd)'
)


def parse(text):
    """Read a unit as {section: {key: [values in order]}}; configparser refuses repeated keys."""
    unit = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith(('#', ';')):
            continue
        if header := re.fullmatch(r'\[(\w+)\]', line):
            section = unit.setdefault(header[1], defaultdict(list))
            continue
        key, value = line.split('=', 1)
        section[key].append(value)
    return unit


@pytest.fixture(scope='module')
def unit():
    return parse(UNIT.read_text())


@pytest.mark.parametrize(
    ('section', 'key', 'values'),
    [
        # With nova-compute: started, stopped and restarted.
        ('Unit', 'After', ['nova-compute.service']),
        ('Unit', 'PartOf', ['nova-compute.service']),
        ('Install', 'WantedBy', ['nova-compute.service']),
        # Told to systemd, and waited for as long as it takes.
        ('Service', 'Type', ['notify']),
        ('Service', 'TimeoutStartSec', ['infinity']),
        ('Service', 'WatchdogSec', ['300']),
        ('Service', 'ExecStart', ['fbm-agent']),
        ('Service', 'ExecReload', ['/bin/kill -HUP $MAINPID']),
        # Up again after any crash, but not after "the configuration forbids to run".
        ('Unit', 'StartLimitIntervalSec', ['0']),
        ('Service', 'Restart', ['on-failure']),
        ('Service', 'RestartPreventExitStatus', ['2']),
        ('Service', 'RestartSec', ['15']),
        # The host's state for libvirt's hook.
        ('Service', 'RuntimeDirectory', ['fbm-agent']),
        ('Service', 'RuntimeDirectoryPreserve', ['restart']),
        # nova's user with one capability.
        ('Service', 'User', ['nova']),
        ('Service', 'Group', ['nova']),
        ('Service', 'AmbientCapabilities', ['CAP_DAC_READ_SEARCH']),
        ('Service', 'CapabilityBoundingSet', ['CAP_DAC_READ_SEARCH']),
        ('Service', 'NoNewPrivileges', ['yes']),
        # The whole host, read-only, but for its log.
        ('Service', 'ProtectSystem', ['strict']),
        ('Service', 'ProtectHome', ['read-only']),
        ('Service', 'ReadWritePaths', ['-/var/log/nova']),
        # The QEMU processes of another user.
        ('Service', 'ProtectProc', ['default']),
        ('Service', 'ProcSubset', ['all']),
        # Placement, Keystone, DNS; sd_notify and syslog.
        ('Service', 'RestrictAddressFamilies', ['AF_INET AF_INET6 AF_UNIX']),
    ],
)
def test_setting(unit, section, key, values):
    """Each setting that something else relies on is there, once, with its value."""
    assert unit[section][key] == values


@pytest.mark.parametrize(
    'key',
    [
        'PrivateUsers',  # CAP_DAC_READ_SEARCH would end at the user namespace
        'PrivateNetwork',  # Placement is somewhere on the network
        'IPAddressDeny',
        'RootDirectory',  # the store and nova.conf are the host's
        'InaccessiblePaths',  # the store may be mounted anywhere
        'MountFlags',  # "private" would hide a store that is mounted later
        'RemoveIPC',  # the user is nova-compute's too
        'StartLimitBurst',
    ],
)
def test_setting_left_out(unit, key):
    """What would take from the agent something that it needs is not set."""
    assert not any(key in section for section in unit.values())


@needs_analyze
def test_exposure():
    """Systemd's own rating of the sandbox is 2.0 at most."""
    done = subprocess.run(
        [ANALYZE, 'security', '--no-pager', '--offline=true', '--threshold=20', UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.search(r'exposure level for \S+ ([\d.]+)', done.stdout)[1]) <= 2.0


@needs_analyze
def test_verify(tmp_path):
    """Systemd knows every key and value."""
    # Only the command is another one: fbm-agent need not be installed where this runs.
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub('(?m)^ExecStart=.*', 'ExecStart=/bin/true', UNIT.read_text()))
    done = subprocess.run(
        [ANALYZE, 'verify', '--man=no', '--recursive-errors=no', copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What it does not know it warns about, on stderr, with the file's name.
    assert UNIT.name not in done.stderr

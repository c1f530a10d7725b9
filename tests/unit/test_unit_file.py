# SPDX-License-Identifier: Apache-2.0
"""The systemd units: their settings, and what systemd itself reports about them."""

import pathlib
import re
import shutil
import subprocess
from collections import defaultdict

import pytest

UNITS = pathlib.Path(__file__).parents[2] / 'systemd'
UNIT = UNITS / 'fbm-agent.service'
CHECK = UNITS / 'fbm-check.service'
DROP_IN = UNITS / 'nova-compute.service.d' / 'fbm-check.conf'

ANALYZE = shutil.which('systemd-analyze') or ''
needs_analyze = pytest.mark.skipif(
    not ANALYZE, reason='systemd-analyze is not installed (Debian package systemd)'
)


def parse(text):
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


EXPECTED = """
# With nova-compute: started, stopped and restarted.
[Unit]
After=nova-compute.service libvirtd.service virtqemud.service
PartOf=nova-compute.service
# Up again after any crash, but not after "the configuration forbids to run".
StartLimitIntervalSec=0
[Install]
WantedBy=nova-compute.service
[Service]
Restart=on-failure
RestartPreventExitStatus=2
RestartSec=15
# Reported to systemd; nothing waits for it without end.
Type=notify
TimeoutStartSec=300
WatchdogSec=300
KillMode=process
ExecStart=fbm-agent
ExecReload=/bin/kill -HUP $MAINPID
# The host's state for libvirt's hook.
RuntimeDirectory=fbm-agent
RuntimeDirectoryPreserve=restart
# nova's user with one capability.
User=nova
Group=nova
AmbientCapabilities=CAP_DAC_READ_SEARCH
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
NoNewPrivileges=yes
# The whole host, read-only, but for its log.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths=-/var/log/nova
# The QEMU processes of another user.
ProtectProc=default
ProcSubset=all
# Placement, Keystone, DNS; sd_notify and syslog.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
"""


def test_settings(unit):
    """Each setting that something else relies on is there, once, with its value."""
    for section, settings in parse(EXPECTED).items():
        assert {key: unit[section][key] for key in settings} == settings


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
        'PrivateDevices',  # the store may be a hugetlbfs under /dev
        'StartLimitBurst',
    ],
)
def test_setting_left_out(unit, key):
    """Nothing takes from the agent what it needs."""
    assert not any(key in section for section in unit.values())


def test_the_check_reads_the_configuration_alone():
    """Whatever is wrong with Placement, nova-compute starts: there is no network in there."""
    check = parse(CHECK.read_text())
    assert check['Service']['Type'] == ['oneshot']
    assert check['Service']['ExecStart'] == ['fbm-status config check']
    assert check['Service']['PrivateNetwork'] == ['yes']
    # Run again at each start, and not without end.
    assert 'RemainAfterExit' not in check['Service']
    assert check['Service']['TimeoutStartSec'] == ['60']
    assert 'nova-compute.service' in check['Unit']['Before'][0].split()


def test_the_drop_in_makes_nova_compute_wait_for_the_check():
    """After= alone would let it start after a failure."""
    drop_in = parse(DROP_IN.read_text())
    assert drop_in['Unit'] == {'Requires': [CHECK.name], 'After': [CHECK.name]}


@needs_analyze
@pytest.mark.parametrize(('path', 'most'), [(UNIT, 2.0), (CHECK, 1.5)], ids=str)
def test_exposure(path, most):
    """Systemd's own rating of the sandbox."""
    done = subprocess.run(
        [ANALYZE, 'security', '--no-pager', '--offline=true', path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.search(r'exposure level for \S+ ([\d.]+)', done.stdout)[1]) <= most


@needs_analyze
def test_verify(tmp_path):
    """Systemd knows every key and value; the drop-in makes nova-compute require the check."""
    # Only the commands are others: they need not be installed where this runs.
    copies = [tmp_path / UNIT.name, tmp_path / CHECK.name, tmp_path / 'nova-compute.service']
    for copy, original in zip(copies, (UNIT, CHECK), strict=False):
        text = original.read_text()
        copy.write_text(re.sub('(?m)^ExecStart=.*', 'ExecStart=/bin/true', text))
    copies[-1].write_text('[Service]\nExecStart=/bin/true\n')
    shutil.copytree(DROP_IN.parent, tmp_path / DROP_IN.parent.name)
    done = subprocess.run(
        [ANALYZE, 'verify', '--man=no', '--recursive-errors=no', *copies],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What it does not know it warns about, on stderr, with the file's name.
    for name in (UNIT.name, CHECK.name, DROP_IN.name):
        assert name not in done.stderr

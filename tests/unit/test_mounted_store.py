# SPDX-License-Identifier: Apache-2.0
"""Whether the store is mounted: one table of cases over the agent and the hook.

Both read the same host.json, mountinfo and directories; they must find the same.
"""

import json

import pytest

from fbm_placement.hook import program
from fbm_placement.host.history import History
from fbm_placement.host.probe import Probe
from fbm_placement.host.store import observe_store
from fbm_placement.rules import store as store_rules
from tests import hook_lab

DISK = '8:1 / / rw - ext4 /dev/sda1 rw'
NVME = '259:3 / HERE/srv rw - xfs /dev/nvme0n1 rw'
LOWER = '259:4 / HERE/srv/fbm rw - xfs /dev/nvme1n1 rw'
MISSING = 'does not exist'
ON_ROOT = 'is on the root filesystem'
LATE = 'libvirt/qemu'

CASES = {
    # The store, what is mounted, where it was expected until now, what both say.
    'as expected': ('HERE/srv/fbm', [DISK, NVME], 'HERE/srv', None),
    'not seen before': ('HERE/srv/fbm', [DISK, NVME], None, None),
    'through a link': ('HERE/link', [DISK, NVME], 'HERE/srv', None),
    'a mount above': ('HERE/srv/fbm', [DISK, NVME, LOWER], 'HERE/srv', None),
    'twice': ('HERE/srv/fbm', [DISK, NVME, NVME], 'HERE/srv', None),
    'an empty source': ('HERE/srv/fbm', [DISK, NVME.replace('/dev/nvme0n1', '')], None, None),
    'a space': ('HERE/a b', [DISK, NVME.replace('srv', 'a\\040b')], None, None),
    'a bound directory': ('HERE/srv/fbm', [DISK, '8:1 /x HERE/srv rw - ext4 - rw'], None, None),
    'bound onto itself': (
        'HERE/srv/fbm',
        [DISK, '8:1 HERE/srv HERE/srv ro - ext4 - rw'],
        None,
        ON_ROOT,
    ),
    'a subvolume of btrfs': (
        'HERE/srv/fbm',
        [
            DISK,
            '0:39 / HERE/srv rw - btrfs /dev/vdb rw,subvolid=5,subvol=/',
            '0:39 /fbm HERE/srv/fbm rw - btrfs /dev/vdb rw,subvolid=256,subvol=/fbm',
        ],
        'HERE/srv/fbm',
        None,
    ),
    'a carriage return': ('HERE/c\rr', [DISK, NVME.replace('srv', 'c\rr')], 'HERE/c\rr', None),
    'a neighbour': ('HERE/srv2', [DISK, NVME], None, ON_ROOT),
    'on the root': ('HERE/srv/fbm', [DISK], None, ON_ROOT),
    'unmounted': ('HERE/srv/fbm', [DISK], 'HERE/srv', 'is on /, expected on HERE/srv'),
    'unmounted above another': (
        'HERE/srv/fbm',
        [DISK, NVME],
        'HERE/srv/fbm',
        'is on HERE/srv, expected on HERE/srv/fbm',
    ),
    'no mount at all': ('HERE/srv/fbm', [], None, MISSING),
    'no line that is whole': ('HERE/srv/fbm', ['259:3 / HERE/srv rw xfs'], None, MISSING),
    'gone': ('HERE/srv/gone', [DISK, NVME], 'HERE/srv', MISSING),
    'a dangling link': ('HERE/dangling', [DISK, NVME], 'HERE/srv', MISSING),
    'mounted after libvirtd started': ('HERE/srv/late', [DISK, NVME], 'HERE/srv', LATE),
    'no directory': ('HERE/file/x', [DISK, NVME], None, 'Not a directory'),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    for store in ('srv/fbm', 'srv2', 'a b', 'c\rr'):
        (tmp_path / store / 'libvirt/qemu').mkdir(parents=True)
    (tmp_path / 'srv/late').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'srv/fbm')
    (tmp_path / 'dangling').symlink_to(tmp_path / 'srv/gone')
    (tmp_path / 'file').touch()
    (tmp_path / 'run').mkdir()
    monkeypatch.setattr(program, 'MOUNTINFO', str(tmp_path / 'mountinfo'))
    return tmp_path


def write_state(here, path, expected):
    store = hook_lab.store_state(path, expected)
    (here / 'run/host.json').write_text(json.dumps(hook_lab.state(store=store)))


def agent(path):
    """Return where the agent expects the store after its check, and what is wrong with it."""
    store = History().with_expected_mount(observe_store(path, (), Probe()))
    problems = store_rules.problems(store, 0, frozenset(), frozenset())
    return store.expected_mount, [problem.text for problem in problems]


def hook(here):
    state = program.read_state(str(here / 'run/host.json'))
    guest = program.parse_guest(hook_lab.domain().encode())
    decided = program.check('prepare', guest, state, str(here / 'run/host.json'))
    return [reason for reason in decided[1:] if reason]


@pytest.mark.parametrize(('path', 'mounts', 'expected', 'reason'), CASES.values(), ids=CASES)
def test_agent_and_hook_find_the_same(here, path, mounts, expected, reason):
    path, expected, reason = (
        text and text.replace('HERE', str(here)) for text in (path, expected, reason)
    )
    # Each lies on the one before.
    lines = [f'{20 + number} {19 + number} {line}\n' for number, line in enumerate(mounts)]
    (here / 'mountinfo').write_text(''.join(lines).replace('HERE', str(here)))
    write_state(here, path, expected)
    expected_next, found = agent(path)
    before = hook(here)
    write_state(here, path, expected_next)
    for problems in (found, before, hook(here)):
        assert len(problems) == (reason is not None)
        assert all(path in problem and reason in problem for problem in problems)

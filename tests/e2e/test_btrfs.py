# SPDX-License-Identifier: Apache-2.0
"""Stores on btrfs: each subvolume has a device number of its own, which is in no mountinfo."""

import pytest

from tests.e2e.lab import private_mounts

# Mounts a btrfs with subvolumes, and prints what the agent and the hook see of the store in it.
_SCRIPT = """
import json, os, subprocess, sys
from fbm_placement.hook import program
from fbm_placement.host import mounts, store
from fbm_placement.host.probe import Probe
from fbm_placement.model import Backing, Guest

top, subvolumes, mounted = sys.argv[1], sys.argv[2].split(), sys.argv[3]
path = top + '/mnt/fbm'
run = lambda *command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
run('truncate', '--size', '128M', top + '/image')
run('mkfs.btrfs', '-q', top + '/image')
os.mkdir(top + '/mnt')
run('mount', '-o', 'loop', top + '/image', top + '/mnt')
for name in subvolumes:
    run('btrfs', 'subvolume', 'create', f'{top}/mnt/{name}')
os.makedirs(path + '/libvirt/qemu/1-a', exist_ok=True)
(device,) = [m.source for m in mounts.read_mounts() if m.mount_point == top + '/mnt']
if mounted:
    run('mount', '-o', f'subvol={mounted}', device, f'{top}/mnt/{mounted}')
file = path + '/libvirt/qemu/1-a/pc.ram'
with open(file, 'wb') as ram:
    ram.write(b'x' * 2**20)
    os.fsync(ram.fileno())
seen = store.observe_store(path, [Guest(7, 'a', 'a', True, 1, Backing.FILE, (file,))], Probe())
print(json.dumps({
    'agent': seen.mount.mount_point,
    'hook': program.observe_store(path)['mount_point'],
    'held': seen.ram_bytes,
    'devices': os.stat(path).st_dev != os.stat(file).st_dev,
}))
"""


@pytest.mark.parametrize(
    ('subvolumes', 'mounted', 'mount_point', 'devices_differ'),
    [
        ('fbm', '', '', False),
        ('fbm fbm/libvirt', '', '', True),
        ('fbm fbm/libvirt fbm/libvirt/qemu', '', '', True),
        ('fbm', 'fbm', '/fbm', False),
        ('fbm fbm/libvirt', 'fbm', '/fbm', True),
    ],
)
def test_a_nested_subvolume(tmp_path, subvolumes, mounted, mount_point, devices_differ):
    seen = private_mounts.output_of(_SCRIPT, str(tmp_path), subvolumes, mounted)
    assert seen['devices'] is devices_differ
    assert seen['agent'] == seen['hook'] == f'{tmp_path}/mnt{mount_point}'
    assert seen['held'] == 2**20

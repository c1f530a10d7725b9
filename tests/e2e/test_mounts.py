# SPDX-License-Identifier: Apache-2.0
"""The mount of a path, compared with the one that the kernel opens it on."""

from tests.e2e.lab import private_mounts

# Prints for each path the mount that was found, and the kernel's (proc_pid_fdinfo(5)).
_SCRIPT = r"""
import json, os, subprocess, sys
from fbm_placement.host import mounts

top = sys.argv[1]
os.chdir(top)
def mount(kind, where, source='x'):
    os.makedirs(where, exist_ok=True)
    flags = ['--bind'] if kind == 'bind' else ['-t', kind]
    subprocess.run(['mount', *flags, source, where], check=True)

for where in ('covered/below', 'covered', 'covered/again', 'twice', 'twice', 'twice/in', 'twice',
              'c\rr', 'a b\t\n\\#', 'plain'):
    mount('tmpfs', where)
mount('tmpfs', 'empty', '')
os.makedirs('plain/one')
mount('bind', 'bound', 'plain/one')
mount('bind', 'file', 'plain')
found = []
for where in ('.', 'covered', 'covered/below', 'covered/again', 'twice', 'twice/in', 'c\rr',
              'a b\t\n\\#', 'plain', 'plain/one', 'empty', 'bound', 'file/one'):
    os.makedirs(where, exist_ok=True)
    path = os.path.realpath(where)
    descriptor = os.open(path, os.O_PATH)
    lines = open(f'/proc/self/fdinfo/{descriptor}').read().split('\n')
    (kernel,) = [line.split()[1] for line in lines if line.startswith('mnt_id:')]
    found.append((where, mounts.mount_of(path, mounts.read_mounts()).mount_id, kernel))
print(json.dumps(found))
"""


def test_the_mount_of_a_path_is_the_kernels(tmp_path):
    found = private_mounts.output_of(_SCRIPT, str(tmp_path))
    assert len({kernel for _, _, kernel in found}) == 10
    assert [one for one in found if one[1] != one[2]] == []

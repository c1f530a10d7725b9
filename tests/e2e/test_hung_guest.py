# SPDX-License-Identifier: Apache-2.0
"""A guest whose store hangs so that not even its command line can be read.

The filesystem is real, and so is the hang; the QEMU is played, because a real one takes that lock
only now and then.
"""

import subprocess
import sys
import time

import pytest

from fbm_placement.host.observer import HostObserver
from fbm_placement.model import AgentOptions, Settings
from tests.services.process import tethered

# A process under QEMU's name that maps a file of the store, and on a line of input writes to it
# in one thread and changes its memory's map in another: on a frozen filesystem the first waits for
# ever, the second for the first, and whoever reads the command line for the second.
_WRITER = """
import ctypes, mmap, sys, threading
file = open(sys.argv[1], 'wb+')
file.truncate(1 << 20)
memory = mmap.mmap(file.fileno(), 1 << 20)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
print('mapped', flush=True)
sys.stdin.readline()
libc = ctypes.CDLL(None)
threading.Thread(target=libc.memset, args=(ctypes.c_void_p(address), 1, 1 << 20)).start()
libc.usleep(500000)
both = mmap.PROT_READ | mmap.PROT_WRITE
libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), both)
"""
_AS_QEMU = """
import os, sys
os.environ['PYTHONHOME'] = sys.base_prefix
os.execv(sys.executable, ['/usr/bin/qemu-system-x86_64', '-c', *sys.argv[1:]])
"""


def run(*command):
    subprocess.run(command, check=True)


@pytest.fixture
def store(tmp_path):
    """Return a disk store; it is thawed and unmounted afterwards."""
    image, where = tmp_path / 'store.img', tmp_path / 'store'
    where.mkdir()
    with image.open('wb') as file:
        file.truncate(64 << 20)
    run('mkfs.ext4', '-q', str(image))
    run('mount', '-o', 'loop', str(image), str(where))
    (where / 'libvirt/qemu').mkdir(parents=True)
    yield where
    subprocess.run(['fsfreeze', '--unfreeze', str(where)], check=False, capture_output=True)
    run('umount', '--lazy', str(where))


def test_it_does_not_hang_the_agent(store):
    """The host is closed, its published state stays, and the observation ends in time."""
    guest = ['-name', 'guest=instance-00000001', '-uuid', '6e1b6ba0-7f1c-4a0e-9d5f-3b8f0d7e7a11']
    command = tethered([sys.executable, '-c', _AS_QEMU, _WRITER, str(store / 'file'), *guest])
    settings = Settings(capacity_mib=8, reserved_mib=0, virt_type='qemu', ram_allocation_ratio=1.0)
    options = AgentOptions(None, 60, memory_backing_dir=str(store))
    host = HostObserver()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as qemu:
        assert qemu.stdout.readline() == 'mapped\n'
        run('fsfreeze', '--freeze', str(store))
        qemu.stdin.write('go\n')
        qemu.stdin.flush()
        time.sleep(1)
        began = time.monotonic()
        facts = host.observe(settings, options).facts
        assert time.monotonic() - began < 12
        assert 'reading their command lines gave no answer' in facts.unhealthy[0].text
        assert not facts.guests_seen
        run('fsfreeze', '--unfreeze', str(store))
        assert qemu.wait(10) == 0
    seen = [host.observe(settings, options).facts for _ in range(4)]
    assert seen[-1].guests_seen
    # pytest's directory may be under /tmp, where no store belongs.
    assert {problem.key for problem in seen[-1].unhealthy} <= {'temporary'}

# SPDX-License-Identifier: Apache-2.0
"""A host with a /proc of its own, a store, and guests whose mappings QEMU 7.2 once had.

The processes that hold files of the store are real ones; they are in the /proc by links, so that
no other process of the machine matters.
"""

import os
import time
from pathlib import Path

from fbm_placement.host import state_file
from fbm_placement.host.state_file import HostState
from fbm_placement.inspection.files_in_use import INITIAL_PID_NAMESPACE
from fbm_placement.inspection.report import Places

MAPS = Path(__file__).with_name('maps')
OLD = 3 * 3600
UUID = '5d2a7a2e-0b0e-4b3e-9f52-d6a1d9d3c{:03}'

# Opens or maps the file and says so; for a mapping the descriptor is closed again.
HOLDERS = {
    'opened': 'file = open(path)',
    'mapped': 'file = open(path, "r+b"); m = mmap.mmap(file.fileno(), 0); file.close()',
    'mapped to read': 'file = open(path, "rb"); '
    'm = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); file.close()',
}


class FakeHost:
    """What of a host the command looks at."""

    def __init__(self, path):
        self.path = path
        self.proc = path / 'proc'
        self.store = path / 'store'
        self.run = path / 'run-libvirt'
        self.ram = self.store / 'libvirt/qemu'
        self.ram.mkdir(parents=True)
        (self.proc / 'self/ns').mkdir(parents=True)
        self.in_namespace(INITIAL_PID_NAMESPACE)
        self.places = Places(
            proc=str(self.proc), libvirt_run=str(self.run), qemu_conf=str(path / 'qemu.conf')
        )
        (path / 'qemu.conf').write_text(f'memory_backing_dir = "{self.store}"\n')

    def in_namespace(self, name):
        """Let the command run in that process namespace."""
        link = self.proc / 'self/ns/pid'
        link.unlink(missing_ok=True)
        link.symlink_to(name)

    def process(self, pid, *argv):
        """Add a process that holds nothing."""
        directory = self.proc / str(pid)
        for name in ('fd', 'map_files'):
            (directory / name).mkdir(parents=True)
        (directory / 'cmdline').write_text('\0'.join(argv) + '\0')
        (directory / 'maps').write_text('')
        (directory / 'mountinfo').write_text('')
        return directory

    def guest(self, pid, maps, *, nova=True, memory=64, name=None):
        """Add a guest with recorded mappings; its command line tells nothing of its memory."""
        name = name or f'instance-{pid:08x}'
        family = 'Virtual Machine' if nova else 'KVM'
        directory = self.process(
            *(pid, 'qemu-system-x86_64', '-name', f'guest={name},debug-threads=on'),
            *('-uuid', UUID.format(pid), '-m', f'size={memory * 1024}k'),
            *('-smbios', f'type=1,family={family}'),
        )
        text = maps if '\n' in maps else (MAPS / f'{maps}.txt').read_text()
        (directory / 'maps').write_text(text)
        return directory

    def add_real(self, pid):
        """Add a process of this machine."""
        (self.proc / str(pid)).symlink_to(f'/proc/{pid}')

    def file(self, name='1-instance-00000001/pc.ram', size=8192, age=OLD):
        """Write a RAM file that is so many seconds old."""
        file = self.ram / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b'x' * size)
        for path in (file, file.parent):
            os.utime(path, times=(time.time() - age,) * 2)
        return file

    def configured(self, state, valid=3600):
        """Have the agent tell the state of the host."""
        now = int(state_file.uptime())
        told = HostState('fbm-agent 1', 'host', 'noon', now + valid, 'enforce', state)
        state_file.write(told, state_file.path())

# SPDX-License-Identifier: Apache-2.0
"""A host with a /proc of its own, a store, and guests whose mappings QEMU 7.2 once had."""

import os
import time
from pathlib import Path

from fbm_placement.host import state_file
from fbm_placement.host.state_file import HostState

MAPS = Path(__file__).with_name('maps')
OLD = 3 * 3600
UUID = '5d2a7a2e-0b0e-4b3e-9f52-d6a1d9d3c{:03}'


class FakeHost:
    def __init__(self, path):
        self.path = path
        self.proc = path / 'proc'
        self.store = path / 'store'
        self.ram = self.store / 'libvirt/qemu'
        self.ram.mkdir(parents=True)
        self.namespace = self.proc / 'self/ns/pid'
        self.namespace.parent.mkdir(parents=True)
        self.namespace.symlink_to('pid:[4026531836]')
        self.qemu_conf = path / 'qemu.conf'
        self.qemu_conf.write_text(f'memory_backing_dir = "{self.store}"\n')

    def guest(self, pid, maps, *, nova=True, memory=64, name=None):
        """Add a guest with recorded mappings; its command line has no memory backend."""
        name = name or f'instance-{pid:08x}'
        argv = (
            *('qemu-system-x86_64', '-name', f'guest={name},debug-threads=on'),
            *('-uuid', UUID.format(pid), '-m', f'size={memory * 1024}k'),
            *('-smbios', f'type=1,family={"Virtual Machine" if nova else "KVM"}', ''),
        )
        directory = self.proc / str(pid)
        (directory / 'map_files').mkdir(parents=True)
        (directory / 'cmdline').write_text('\0'.join(argv))
        (directory / 'mountinfo').write_text('')
        text = maps if '\n' in maps else (MAPS / f'{maps}.txt').read_text()
        (directory / 'maps').write_text(text)
        return directory

    def file(self, name='1-instance-00000001/pc.ram', size=8192, age=OLD):
        file = self.ram / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b'x' * size)
        for path in (file, file.parent):
            os.utime(path, times=(time.time() - age,) * 2)
        return file

    def configured(self, state, valid=3600):
        now = int(state_file.uptime())
        written = HostState('fbm-agent 1', 'host', 'noon', now + valid, 'enforce', state)
        state_file.write(written, state_file.path())

# SPDX-License-Identifier: Apache-2.0
"""The hook's real files, copied so that they read another state file; and guests for them."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / 'fbm_placement/hook'
HOOK = '50-file-backed-memory'
PROGRAM = '50-file-backed-memory.py'
SOURCES = {HOOK: PACKAGE / 'files' / HOOK, PROGRAM: PACKAGE / 'program.py'}
MODES = {HOOK: 0o755, PROGRAM: 0o644}
NEW = {name: source.read_bytes() for name, source in SOURCES.items()}
OLD = {HOOK: b'#!/bin/sh\nexit 0\n', PROGRAM: b'old\n'}
STATE = '/run/fbm-agent/host.json'
PYTHON = '/usr/bin/python3'

NOVA = 'http://openstack.org/xmlns/libvirt/nova/1.1'
UUID = 'b2c3d4e5-0000-4000-8000-000000000001'
NAME = 'instance-00000001'
FILE_BACKED = '<source type="file"/><access mode="shared"/><allocation mode="immediate"/>'


def domain(
    backing=FILE_BACKED,
    *,
    memory='<memory unit="KiB">65536</memory>',
    cells='',
    metadata=f'<nova:instance xmlns:nova="{NOVA}"><nova:name>a</nova:name></nova:instance>',
    uuid=UUID,
    more='',
):
    numa = f'<cpu mode="custom"><topology sockets="1"/><numa>{cells}</numa></cpu>' if cells else ''
    return f"""<domain type='kvm' id='1'>
  <name>{NAME}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    {metadata}
  </metadata>
  {memory}
  <currentMemory unit='KiB'>1</currentMemory>
  <memoryBacking>{backing}</memoryBacking>
  {numa}
  <devices>
    <disk type='file'><source file='/x'/><backingStore type='file'><source type='block'/>
    </backingStore></disk>
  </devices>
  {more}
</domain>
"""


def uptime():
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def state(**changes):
    return {
        'version': 1,
        'written_by': 'fbm-agent 0.1.0',
        'host': 'cmp1',
        'looked_at': '2026-11-22T20:44:00+00:00',
        'valid_until_uptime': uptime() + 600,
        'hook_mode': 'enforce',
        'configured': 'enabled',
        'may_restart': [],
        'unhealthy': [],
        'store': None,
        'pid': 7,
        'store_recovery': None,
        'drain_recovery': None,
    } | changes


def store_state(path, mount_point='/dev/shm'):
    return {'path': str(path), 'mount_point': mount_point, 'filesystem': 'tmpfs'}


def new_store():
    if not os.path.ismount('/dev/shm'):
        return None
    directory = Path(tempfile.mkdtemp(prefix='fbm-hook-', dir='/dev/shm'))
    (directory / 'libvirt' / 'qemu').mkdir(parents=True)
    return directory


class Lab:
    def __init__(self, directory, shell=()):
        self.directory = Path(directory)
        self.state_file = self.directory / 'host.json'
        self.hook = self.directory / HOOK
        self.program = self.directory / PROGRAM
        self.shell = list(shell)
        for name, source in SOURCES.items():
            shutil.copy(source, self.directory / name)
            self.edit(self.directory / name, STATE, str(self.state_file))
        self.hook.chmod(0o755)

    def use_python(self, python):
        self.edit(self.hook, f'-x {PYTHON} ', f'-x {python} ')
        self.edit(self.hook, f'exec {PYTHON} ', f'exec {python} ')

    @staticmethod
    def edit(file, old, new):
        text = file.read_text()
        assert text.count(old) == 1, old
        file.write_text(text.replace(old, new))

    def write_state(self, **changes):
        self.state_file.write_text(json.dumps(state(**changes), indent=1))

    def run(self, operation='prepare', xml=None, name=NAME, **more):
        settings = {
            'input': domain() if xml is None else xml,
            'capture_output': True,
            'text': not isinstance(xml, bytes),
            'timeout': 20,
        }
        command = [*self.shell, str(self.hook), name, operation, 'begin', '-']
        return subprocess.run(command, check=False, **(settings | more))

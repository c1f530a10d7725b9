# SPDX-License-Identifier: Apache-2.0
"""A running guest: what it shows of its memory, from inside and from outside."""

import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.lab import kernel
from tests.e2e.lab.domain import Domain, MemoryBacking
from tests.e2e.lab.host import LibvirtHost
from tests.services.process import PATIENCE, ProcessError, wait_until

# QEMU writes here as itself, whoever it runs as.
_DUMPS = '/var/lib/libvirt/qemu/dump'


@dataclass(frozen=True)
class Mapping:
    permissions: str
    """As "rw-s": the last is s (shared) or p (private)."""
    size: int
    """Bytes."""
    path: str


@dataclass(frozen=True)
class Guest:
    """A guest on a host. One that has moved is another object: see :meth:`on`."""

    host: LibvirtHost
    domain: Domain

    @classmethod
    def start(cls, host: LibvirtHost, domain: Domain) -> Self:
        done = create(host, domain)
        if done.returncode:
            raise ProcessError(f'{host.name}: {domain.name} does not start: {done.stderr}')
        guest = cls(host, domain)
        guest.wait_until(lambda: guest.counter() > 0, 'counting')
        return guest

    @property
    def name(self) -> str:
        return self.domain.name

    def on(self, host: LibvirtHost) -> 'Guest':
        return Guest(host, self.domain)

    # -- how it is --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        done = self.host.virsh('domstate', self.name, check=False)
        return done.stdout.strip() == 'running'

    @property
    def pid(self) -> int:
        return int(self.host.path(f'/run/libvirt/qemu/{self.name}.pid').read_text())

    @property
    def process(self) -> Path:
        return self.host.path(f'/proc/{self.pid}')

    def command_line(self) -> list[str]:
        return (self.process / 'cmdline').read_bytes().decode().rstrip('\0').split('\0')

    def mappings(self) -> list[Mapping]:
        """What QEMU has mapped and is as large as the guest's memory, or as one of its cells."""
        sizes = {size << 20 for size in (self.domain.memory, *self.domain.cells)}
        return [one for one in self._all_mappings() if one.size in sizes]

    def ram_files(self) -> list[Path]:
        # libvirt shortens a name in the name of a directory.
        return sorted(self.host.store_path.glob(f'libvirt/qemu/*-{self.name[:20]}/*'))

    # -- its memory -------------------------------------------------------------------------------

    def memory(self, address: int, size: int) -> bytes:
        dump = f'{_DUMPS}/{self.name}.memory'
        command = f'pmemsave {address:#x} {size:#x} "{dump}"'
        done = self.host.virsh('qemu-monitor-command', '--hmp', self.name, command)
        if done.stdout.strip():
            raise ProcessError(f'{self.name}: {command}: {done.stdout}')
        path = self.host.path(dump)
        data = path.read_bytes()
        path.unlink()
        return data

    def counter(self) -> int:
        """How often the guest's timer has ticked: 18 times a second."""
        return _number(self.memory(kernel.COUNTER, 4))

    def counter_in(self, ram_file: Path) -> int:
        """The same, read from the file that backs its memory."""
        with ram_file.open('rb') as file:
            file.seek(kernel.COUNTER)
            return _number(file.read(4))

    def has_pattern(self) -> bool:
        return _has_pattern(
            self.memory(kernel.PATTERN_START, kernel.PATTERN_END - kernel.PATTERN_START)
        )

    def has_pattern_in(self, ram_file: Path) -> bool:
        """The same, read from the file that backs its memory."""
        with ram_file.open('rb') as file:
            file.seek(kernel.PATTERN_START)
            return _has_pattern(file.read(kernel.PATTERN_END - kernel.PATTERN_START))

    def counts(self, *, since: int | None = None) -> bool:
        """Whether the counter goes on, from here or from an earlier value, in time."""
        start = self.counter() if since is None else since
        try:
            self.wait_until(lambda: self.counter() > start, 'counting')
        except ProcessError:
            return False
        return True

    def wait_until(
        self, happened: Callable[[], bool], what: str, timeout: float = PATIENCE
    ) -> None:
        wait_until(happened, f'{self.name} {what}', timeout)

    # -- what is done to it -----------------------------------------------------------------------

    def migrate(
        self, target: LibvirtHost, *, p2p: bool = True, backing: MemoryBacking | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Move it live; see the answer's returncode and stderr for what came of it.

        :param p2p: from libvirtd to libvirtd, as Nova does; otherwise virsh leads both
        :param backing: its memory in the XML for there. Nova always rewrites that,
            to suit the destination (nova/virt/libvirt/migration.py)
        """
        options = ['--p2p'] if p2p else []
        if backing is not None:
            path = f'/run/{self.name}.xml'
            self.host.path(path).write_text(self._xml_with(backing))
            options += ['--xml', path]
        return self.host.virsh(
            *('migrate', '--live', *options, self.name, target.uri),
            *('--migrateuri', 'tcp://127.0.0.1', '--listen-address', '127.0.0.1'),
            check=False,
        )

    def destroy(self) -> None:
        self.host.virsh('destroy', self.name)

    def kill(self) -> None:
        self.host.run('kill', '-KILL', str(self.pid))

    def _xml_with(self, backing: MemoryBacking) -> str:
        xml = self.host.virsh('dumpxml', '--migratable', self.name).stdout
        without = re.sub(r'<memoryBacking>.*?</memoryBacking>', '', xml, flags=re.DOTALL)
        return without.replace('<vcpu', f'{backing.xml()}<vcpu', 1)

    def _all_mappings(self) -> list[Mapping]:
        found = []
        for line in (self.process / 'maps').read_text().splitlines():
            span, permissions, _offset, _device, _inode, *path = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split('-'))
            found.append(Mapping(permissions, end - start, ''.join(path)))
        return found


def create(host: LibvirtHost, domain: Domain) -> subprocess.CompletedProcess[str]:
    return host.virsh('create', '/dev/stdin', stdin=domain.xml(), check=False)


def _number(data: bytes) -> int:
    (number,) = struct.unpack('<I', data)
    return number


def _has_pattern(data: bytes) -> bool:
    return all(
        _number(data[address - kernel.PATTERN_START :][:4]) == value
        for address, value in kernel.Pattern().expected().items()
    )

# SPDX-License-Identifier: Apache-2.0
"""What may lie below a host's memory_backing_dir."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.lab.namespaces import Namespaces


class Store(Protocol):
    def mount(self, namespaces: Namespaces, where: str, scratch: Path) -> None:
        """Mount it on a directory of the host; `scratch` is for its files."""


@dataclass(frozen=True)
class Tmpfs:
    mib: int

    def mount(self, namespaces: Namespaces, where: str, scratch: Path) -> None:
        namespaces.run('mount', '-t', 'tmpfs', '-o', f'size={self.mib}m,mode=0755', 'ram', where)


@dataclass(frozen=True)
class Disk:
    mib: int
    """XFS needs 300 at least, btrfs 109."""
    kind: str = 'ext4'

    def mount(self, namespaces: Namespaces, where: str, scratch: Path) -> None:
        image = scratch / 'store.img'
        with image.open('wb') as file:
            file.truncate(self.mib << 20)
        namespaces.run(f'mkfs.{self.kind}', '-q', str(image))
        namespaces.run('mount', '-o', 'loop', str(image), where)
        image.unlink()


# Mounts a filesystem whose server (this process) never answers, not even the first request.
_SILENT_SERVER = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
server = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={server},rootmode=40755,user_id=0,group_id=0,allow_other'.encode()
if libc.mount(b'silent', sys.argv[1].encode(), b'fuse', 0, options):
    sys.exit(f'mount: {sys.argv[1]}: ' + os.strerror(ctypes.get_errno()))
print('mounted', flush=True)
signal.pause()
"""


@contextmanager
def hung(namespaces: Namespaces, where: str, scratch: Path) -> Iterator[None]:
    """Mount a filesystem on which every call hangs, as one whose disk or server is gone.

    Whoever hangs gets ENOTCONN (or dies, if killed) when the context ends; the mount goes too.
    """
    server = namespaces.process(
        [sys.executable, '-I', '-S', '-c', _SILENT_SERVER, where], scratch / 'silent.log'
    )
    with server.start():
        try:
            server.wait_for_output('mounted')
            yield
        finally:
            namespaces.run('umount', '--lazy', where, check=False)

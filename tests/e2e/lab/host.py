# SPDX-License-Identifier: Apache-2.0
"""A compute host: libvirtd with QEMU in namespaces of its own, on the network of this machine."""

import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.e2e.lab import domain, kernel
from tests.e2e.lab.namespaces import HostProcess, Namespaces
from tests.e2e.lab.store import Store
from tests.services.process import PATIENCE, ProcessError

MEMORY_BACKING_DIR = '/var/lib/nova/ram'

# Of the host alone. What is not there on this machine appears in an overlay of /etc and /var only.
_OWN_DIRECTORIES = (
    '/etc/libvirt',
    '/etc/nova',
    '/run',
    '/var/cache/libvirt',
    '/var/lib/libvirt',
    '/var/lib/nova',
    '/var/log/libvirt',
)

_QEMU_USER = 'libvirt-qemu'
_QEMU_ID = 64055

# A Unix socket's path may have 107 characters.
_LONGEST_DIRECTORY = 107 - len('/run/libvirt/libvirt-sock')


class LibvirtHost:
    """A host with a libvirtd; a context manager that leaves nothing running or mounted.

    :param name: its hostname
    :param directory: its home; the logs stay there
    :param store: what is mounted on its memory_backing_dir before libvirtd starts, if anything
    :param memory_backing_dir: that of qemu.conf; None: nothing, as on a host without
        file-backed memory
    :param cache: libvirtd's directory for what it learnt about QEMU, for hosts to share; None: one
        of its own
    :param user: who QEMU runs as: Debian's own user for it, or root
    :param libvirtd: whether to start it on entering
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        store: Store | None = None,
        memory_backing_dir: str | None = MEMORY_BACKING_DIR,
        cache: Path | None = None,
        user: str = _QEMU_USER,
        libvirtd: bool = True,
    ) -> None:
        if len(str(directory)) > _LONGEST_DIRECTORY:
            raise ProcessError(
                f'{directory} is too long for a Unix socket in it: set TMPDIR to a shorter one'
            )
        self.name = name
        self.directory = directory
        self.store = store
        self.memory_backing_dir = memory_backing_dir
        self.cache = cache
        self.user = user
        self.namespaces = Namespaces(name, directory / 'namespaces.log')
        self.uuid = str(uuid.uuid4())
        self._starts = libvirtd
        self._libvirtd: HostProcess | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(self.namespaces)
            self._furnish()
            if self.store is not None:
                self.mount(self.store)
            if self._starts:
                self.start_libvirtd()
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._cleanup.close()

    # -- files ------------------------------------------------------------------------------------

    def path(self, path: str | Path) -> Path:
        return self.namespaces.path(path)

    @property
    def store_path(self) -> Path:
        return self.path(self.memory_backing_dir or MEMORY_BACKING_DIR)

    def mount(self, store: Store, where: str | None = None) -> None:
        where = where or self.memory_backing_dir or MEMORY_BACKING_DIR
        self.path(where).mkdir(parents=True, exist_ok=True)
        store.mount(self.namespaces, where, self.directory)

    def unmount(self, where: str | None = None) -> None:
        self.run('umount', '--lazy', where or self.memory_backing_dir or MEMORY_BACKING_DIR)

    def install_hook(self, name: str, script: str, directory: str = 'qemu.d') -> None:
        """Put an executable below /etc/libvirt/hooks.

        libvirtd learns at its start, and by SIGHUP, whether there are any; what they do is read
        at each call.
        """
        path = self.path('/etc/libvirt/hooks') / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    # -- processes --------------------------------------------------------------------------------

    def run(
        self, *argv: str, check: bool = True, stdin: str = '', timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        return self.namespaces.run(*argv, check=check, stdin=stdin, timeout=timeout)

    def process(
        self, argv: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
    ) -> HostProcess:
        return self.namespaces.process(argv, log, environment=environment)

    def virsh(
        self, *arguments: str, check: bool = True, stdin: str = '', timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        return self.run(
            'virsh', '-c', 'qemu:///system', *arguments, check=check, stdin=stdin, timeout=timeout
        )

    @property
    def uri(self) -> str:
        return f'qemu+unix:///system?socket={self.directory}/run/libvirt/libvirt-sock'

    @property
    def libvirtd(self) -> HostProcess:
        if self._libvirtd is None:
            raise ProcessError(f'{self.name}: libvirtd was not started')
        return self._libvirtd

    def start_libvirtd(self, timeout: float = PATIENCE) -> None:
        # What a service manager gives it; it hands the PATH on to the hooks.
        environment = {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}
        log = self.directory / 'libvirtd.log'
        self._libvirtd = self.process(['libvirtd'], log, environment=environment)
        self._libvirtd.start()
        self._libvirtd.wait_until(self._answers, 'answering', timeout)

    def _answers(self) -> bool:
        # A connection waits for the drivers, so a connection means that they are up.
        socket = self.path('/run/libvirt/libvirt-sock')
        return socket.exists() and not self.virsh('connect', check=False).returncode

    def stop_libvirtd(self) -> None:
        """End it in an orderly way; the guests stay."""
        self.libvirtd.stop(30.0)

    def kill_libvirtd(self) -> None:
        """End it as a crash would; the guests stay."""
        self.libvirtd.kill()

    # -- how it is made ---------------------------------------------------------------------------

    def _furnish(self) -> None:
        self.run('sh', '-e', stdin='\n'.join(self._mounts()))
        self._add_names()
        self._configure()
        image = self.path(domain.KERNEL)
        image.parent.mkdir(parents=True)
        image.write_bytes(kernel.assemble(kernel.Pattern()))

    def _mounts(self) -> Iterator[str]:
        """What gives the host its own files: shell commands."""
        upper = self.directory / 'overlay'
        upper.mkdir()
        yield f'mount -t tmpfs tmpfs {upper}'
        for top in ('etc', 'var'):
            yield f'mkdir {upper}/{top} {upper}/{top}.work'
            layers = f'lowerdir=/{top},upperdir={upper}/{top},workdir={upper}/{top}.work'
            yield f'mount -t overlay -o {layers} overlay /{top}'
        for own in _OWN_DIRECTORIES:
            (self.directory / own.lstrip('/')).mkdir(parents=True, exist_ok=True)
            yield f'mkdir -p {own}'
            yield f'mount --bind {self.directory}{own} {own}'
        if self.cache is not None:
            yield f'mount --bind {self.cache} /var/cache/libvirt'
        if Path('/dev/kvm').exists():
            # libvirtd learns about QEMU as root, and forgets it all again, 6 seconds of work, if
            # QEMU's user may not open this; udev, which would let it, is not everywhere.
            yield f'mknod -m 0666 {upper}/kvm c 10 232'
            yield f'mount --bind {upper}/kvm /dev/kvm'

    def _add_names(self) -> None:
        # Without the hostname there, libvirtd would ask the DNS at each start of a guest.
        with self.path('/etc/hosts').open('a') as file:
            file.write(f'127.0.0.1 {self.name}\n')
        # libvirtd looks up Debian's user for QEMU at its start, whatever qemu.conf has.
        for name, line in (
            ('passwd', f'{_QEMU_USER}:x:{_QEMU_ID}:{_QEMU_ID}::/var/lib/libvirt:/bin/false'),
            ('group', f'{_QEMU_USER}:x:{_QEMU_ID}:'),
            ('group', 'kvm:x:64056:'),
        ):
            path = self.path('/etc') / name
            text = path.read_text()
            if f'\n{line.split(":")[0]}:' not in text:
                path.write_text(f'{text}{line}\n')

    def _configure(self) -> None:
        etc = self.path('/etc/libvirt')
        (etc / 'libvirtd.conf').write_text(
            f'host_uuid = "{self.uuid}"\nauth_unix_rw = "none"\nlog_outputs = "2:stderr"\n'
        )
        lines = [
            'stdio_handler = "file"',
            f'user = "{self.user}"',
            f'group = "{self.user}"',
            'security_driver = "none"',
            'namespaces = []',
            'cgroup_controllers = []',
        ]
        if self.memory_backing_dir is not None:
            lines.append(f'memory_backing_dir = "{self.memory_backing_dir}"')
        (etc / 'qemu.conf').write_text('\n'.join(lines) + '\n')

# SPDX-License-Identifier: Apache-2.0
"""A compute host with a real systemd: users, libvirtd, and a nova-compute that only waits.

Its pip finds two releases of this project.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

from tests.e2e.lab import domain, kernel
from tests.e2e.systemd_host import SystemdHost
from tests.services.nova_compute import NovaCompute
from tests.services.nova_conf import NovaConf, admin_token
from tests.services.process import REPOSITORY, ProcessError, child_environment, run_to_the_end

CAPACITY_MIB = 128
NOVA_CONF = '/etc/nova/nova.conf'
STORE = '/srv/fbm'
WHEELS = '/srv/wheels'
FSTAB = f'ram {STORE} tmpfs size={CAPACITY_MIB}m,mode=0711,nofail 0 0\n'
Done = subprocess.CompletedProcess[str]
OLD, NEW = '1.0.0', '2.0.0'

_FILES = {
    '/etc/sysusers.d/compute.conf': """\
u nova 64060 - /var/lib/nova
u libvirt-qemu 64055 - /var/lib/libvirt
g kvm 64056
""",
    # As Nova's own script, found by its name.
    '/usr/bin/nova-compute': """\
#!/usr/bin/python3 -s
import signal
signal.pause()
""",
    '/etc/systemd/system/nova-compute.service': """\
[Unit]
After=libvirtd.service
[Service]
User=nova
ExecStart=/usr/bin/nova-compute
Restart=always
[Install]
WantedBy=multi-user.target
""",
    # As Debian's, which stops when it is idle and starts again when a client comes.
    '/etc/systemd/system/libvirtd.service': """\
[Unit]
Wants=libvirtd.socket
[Service]
Type=notify
Environment=LIBVIRTD_ARGS="--timeout 120"
EnvironmentFile=-/etc/default/libvirtd
ExecStart=/usr/sbin/libvirtd $LIBVIRTD_ARGS
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
[Install]
WantedBy=multi-user.target
Also=libvirtd.socket
""",
    '/etc/systemd/system/libvirtd.socket': """\
[Socket]
ListenStream=/run/libvirt/libvirt-sock
RemoveOnStop=yes
[Install]
WantedBy=sockets.target
""",
    '/etc/libvirt/libvirtd.conf': 'auth_unix_rw = "none"\n',
    '/etc/libvirt/qemu.conf': f"""\
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
memory_backing_dir = "{STORE}"
""",
    '/etc/fstab': FSTAB,
}


class SystemdCompute(SystemdHost):
    """The host of a nova-compute that Placement knows.

    :param wheels: the directory that pip finds releases in
    """

    def __init__(self, directory: Path, placement_url: str, wheels: Path) -> None:
        super().__init__(directory)
        self.compute = NovaCompute(placement_url).start()
        self._wheels = wheels
        self.before: set[str] = set()
        """Paths that this machine has, and are named as ours are."""

    def furnish(self) -> None:
        """Make of a bare host a compute host, and boot it as one."""
        for path, text in _FILES.items():
            self.write(path, text, 0o755 if path.startswith('/usr/bin') else 0o644)
        self.type(f'systemd-sysusers; mkdir -p {STORE}; install -d -o nova /var/lib/nova')
        sections: dict[str, Mapping[str, object]] = {
            'DEFAULT': {'state_path': '/var/lib/nova'},
            'libvirt': {'virt_type': 'qemu', 'file_backed_memory': CAPACITY_MIB},
            'placement': admin_token(self.compute.url),
            'file_backed_memory': {'interval': 300},
        }
        self.path('/etc/nova').mkdir(exist_ok=True)
        self._nova_conf = NovaConf(self.path(NOVA_CONF), sections)
        self.write('/var/lib/nova/compute_id', self.compute.uuid + '\n')
        image = self.path(domain.KERNEL)
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(kernel.assemble(kernel.Pattern()))
        self.path(WHEELS).mkdir()
        shutil.copy(REPOSITORY / 'constraints.txt', self.path(WHEELS))
        self.release(OLD)
        self.type('systemctl daemon-reload; systemctl enable libvirtd nova-compute')
        self.before = self.named_as_ours()
        self.reboot()

    def named_as_ours(self) -> set[str]:
        """Return the paths that are named as this project's are, logs left out."""
        where = '/etc /usr /opt /run /var/lib /var/cache'
        # The store's mount is the operator's.
        names = "! -name '*srv-fbm*' -iname '*fbm*' -o -name '*file-backed*'"
        return set(self.type(f'find {where} {names}', good=(0, 1)).split())

    def release(self, version: str) -> None:
        """Let pip find a release."""
        (wheel,) = self._wheels.glob(f'*-{version}-*')
        shutil.copy(wheel, self.path(WHEELS))

    def fstab(self, line: str) -> None:
        self.write('/etc/fstab', f'{line}\n')
        self.type('systemctl daemon-reload')

    def virsh(self, *arguments: str, check: bool = True, stdin: str = '') -> Done:
        argv = ['virsh', '-c', 'qemu:///system', *arguments]
        return self.run(*argv, check=check, stdin=stdin)

    def packaged_python_is_ours(self) -> None:
        """Let pip install into the system's Python, as distributions other than Debian do."""
        for marker in self.path('/usr/lib').glob('python3*/EXTERNALLY-MANAGED'):
            marker.unlink()

    def type(self, line: str, *, good: Sequence[int] = (0,), timeout: float = 120.0) -> str:
        """Run a line as an operator types it; return what it printed."""
        # As the machine has it, so that an index without network works, too.
        pip = {name: value for name, value in os.environ.items() if name.startswith('PIP_')}
        pip['PIP_FIND_LINKS'] = f'{WHEELS} {pip.get("PIP_FIND_LINKS", "")}'
        pip['PIP_CONSTRAINT'] = f'{WHEELS}/constraints.txt'
        done = self.run('sh', '-c', line, check=False, timeout=timeout, **pip)
        if done.returncode not in good:
            raise ProcessError(f'{line}: {done.returncode}\n{done.stdout}{done.stderr}')
        return done.stdout

    def configure(self, section: str = 'DEFAULT', **options: object) -> None:
        # Its first process, and so the path of its files, is another one after each boot.
        self._nova_conf.path = self.path(NOVA_CONF)
        self._nova_conf.configure(section, **options)


def build(directory: Path) -> Path:
    """Make two releases of this tree, uncommitted changes included; return their directory."""
    listed = ['git', 'ls-files', '--cached', '--others', '--exclude-standard']
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    tree, wheels = directory / 'tree', directory / 'wheels'
    for name in names.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, tree / name)
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir']
    environment = child_environment(PBR_VERSION=OLD)
    run_to_the_end(
        [*pip, str(wheels), str(tree)], directory / 'pip.log', environment=environment, timeout=120
    )
    (old,) = wheels.glob(f'*-{OLD}-*.whl')
    with ZipFile(old) as source, ZipFile(str(old).replace(OLD, NEW), 'w') as target:
        for file in source.infolist():
            data = source.read(file)
            if file.filename.endswith(('METADATA', 'RECORD')):
                data = data.replace(OLD.encode(), NEW.encode())
            # What only a daemon-reload shows.
            if file.filename.endswith('fbm-agent.service'):
                data = data.replace(b'Description=', f'Description={NEW}: '.encode())
            target.writestr(file.filename.replace(OLD, NEW), data)
    return wheels

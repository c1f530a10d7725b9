# SPDX-License-Identifier: Apache-2.0
"""A compute host with a real systemd: users, libvirtd, and a nova-compute that only waits.

Its pip finds two releases of this project.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.lab import domain, kernel
from tests.e2e.systemd_host import SystemdHost
from tests.services.nova_compute import NovaCompute
from tests.services.nova_conf import NovaConf, admin_token
from tests.services.process import REPOSITORY, ChildProcess, ProcessError, child_environment

CAPACITY_MIB = 128
NOVA_CONF = '/etc/nova/nova.conf'
STORE = '/srv/fbm'
WHEELS = '/srv/wheels'
RELEASES = ('1.0.0', '2.0.0')

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
    '/etc/fstab': f'ram {STORE} tmpfs size={CAPACITY_MIB}m,mode=0711,nofail 0 0\n',
}


class SystemdCompute(SystemdHost):
    """The host of a nova-compute that Placement knows.

    :param wheels: the directory that pip finds releases in
    """

    def __init__(self, directory: Path, placement_url: str, wheels: Path) -> None:
        super().__init__(directory)
        self.compute = NovaCompute(placement_url).start()
        self._wheels = wheels

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
        shutil.copytree(self._wheels, self.path(WHEELS))
        constraints = self.path(WHEELS) / 'constraints.txt'
        shutil.copy(REPOSITORY / 'constraints.txt', constraints)
        self.type('systemctl daemon-reload; systemctl enable libvirtd nova-compute')
        self.reboot()

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
    """Build two releases of this tree, uncommitted changes included; return their directory."""
    listed = ['git', 'ls-files', '--cached', '--others', '--exclude-standard']
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir']
    with ExitStack() as stack:
        builds = []
        for version in RELEASES:
            tree = directory / version
            for name in filter(os.path.isfile, names.stdout.splitlines()):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, tree / name)
            # What only a daemon-reload shows.
            unit = tree / 'systemd/fbm-agent.service'
            unit.write_text(unit.read_text().replace('Description=', f'Description={version}: '))
            environment = child_environment(PBR_VERSION=version)
            argv = [*pip, str(directory / 'wheels'), str(tree)]
            child = ChildProcess(argv, directory / f'{version}.log', environment=environment)
            builds.append(stack.enter_context(child))
        for child in builds:
            if child.wait(120.0):
                raise ProcessError(f'no wheel{child.tail()}')
    return directory / 'wheels'

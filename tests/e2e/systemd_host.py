# SPDX-License-Identifier: Apache-2.0
"""A host whose first process is systemd, and what an operator types and sees there.

systemd-nspawn boots this machine's own root filesystem below an overlay in memory. Its mounts are
in a mount namespace of its own: they go when it ends, whatever ends it. The network is that of
this machine, where Placement is.
"""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Self

from tests.services.process import ChildProcess, ProcessError, run, wait_until

PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

# What this machine has enabled, or put into /usr/local, is not of the host. 133 asks for a reboot.
_BOOT = """
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
rm -rf etc/systemd/system/* lib/systemd/system/multi-user.target.wants/*
rm -rf usr/local/* var/log/journal
mkdir usr/local/bin
ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
status=133
while [ "$status" = 133 ]; do
    status=0
    systemd-nspawn --quiet --register=no --keep-unit --directory="$1/root" --boot || status=$?
done
exit "$status"
"""

# systemd-nspawn's own, which it leaves where no systemd is around it.
_CGROUPS = [
    f'/sys/fs/cgroup/{hierarchy}{name}'
    for hierarchy in ('systemd/', 'unified/', '')
    for name in ('payload', 'supervisor')
]


class SystemdHost:
    """A context manager that boots the host, and leaves nothing running or mounted.

    :param directory: its home; the console's log stays there
    """

    def __init__(self, directory: Path) -> None:
        root = directory / 'root'
        root.mkdir(parents=True)
        self._child = ChildProcess(
            # What ends `unshare` ends all that runs in its process namespace.
            [
                *('unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'),
                *('sh', '-e', '-c', _BOOT, 'boot', str(root)),
            ],
            directory / 'console.log',
            name='systemd-nspawn',
            environment={'PATH': PATH, 'LANG': 'C.UTF-8'},
        )
        self._first = 0

    def __enter__(self) -> Self:
        self._child.start()
        try:
            self._wait_for_systemd()
        except BaseException:
            self._child.kill()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self._child.running:
            with contextlib.suppress(ProcessError, subprocess.TimeoutExpired):
                self.run('systemctl', 'poweroff', check=False)
                self._child.wait(20.0)
        self._child.stop()
        for top in _CGROUPS:
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)

    # -- its files and commands -------------------------------------------------------------------

    def path(self, path: str | Path) -> Path:
        return Path(f'/proc/{self._first}/root') / str(path).lstrip('/')

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        there = self.path(path)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)
        there.chmod(mode)

    def run(
        self,
        *argv: str,
        check: bool = True,
        stdin: str = '',
        timeout: float = 60.0,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root, in the environment of a console and what is added to it."""
        done = run(
            ['nsenter', '--target', str(self._first), '--all', *argv],
            environment={'PATH': PATH, 'HOME': '/root', 'LANG': 'C.UTF-8', **environment},
            cwd=Path('/'),
            stdin=stdin,
            timeout=timeout,
        )
        if check and done.returncode:
            raise ProcessError(
                f'{" ".join(argv)} ended with {done.returncode}: {done.stdout}{done.stderr}'
            )
        return done

    # -- systemd ----------------------------------------------------------------------------------

    def reboot(self) -> None:
        before = self._first
        self.run('systemctl', 'reboot', check=False)
        wait_until(lambda: not Path(f'/proc/{before}').exists(), 'shut down', 30.0, self._child)
        self._wait_for_systemd()

    def state(self) -> str:
        return self.run('systemctl', 'is-system-running', check=False).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        return self.run('systemctl', 'show', '--value', f'--property={name}', unit).stdout.strip()

    def wait_for(self, unit: str, name: str, value: str, timeout: float = 30.0) -> None:
        """Wait until a property of the unit has this value."""

        def has() -> bool:
            return self.show(unit, name) == value

        try:
            wait_until(has, f'{unit}: {name}={value}', timeout)
        except ProcessError as exc:
            status = self.run('systemctl', 'status', '--no-pager', unit, check=False).stdout
            raise ProcessError(f'{exc}\n{status}') from None

    def journal(self, unit: str, *, since: str = '') -> list[tuple[int, str]]:
        """Return what the unit's processes wrote: priority and message of each line.

        :param since: a cursor of :meth:`cursor`
        """
        after = [f'--after-cursor={since}'] if since else []
        printed = self.run('journalctl', '--output=json', f'--unit={unit}', *after).stdout
        lines = [json.loads(line) for line in printed.splitlines()]
        # Of systemd itself there are others.
        return [
            (int(line['PRIORITY']), line['MESSAGE'])
            for line in lines
            if line.get('_TRANSPORT') == 'stdout'
        ]

    def cursor(self) -> str:
        """Return where the journal ends now."""
        printed = self.run('journalctl', '--lines=0', '--show-cursor').stdout
        return printed.rpartition('cursor: ')[2].strip()

    def _wait_for_systemd(self) -> None:
        self._first = 0

        def up() -> bool:
            self._first = _systemd_below(self._child.pid)
            return bool(self._first) and self.state() not in ('', 'offline', 'initializing')

        wait_until(up, 'booted', 60.0, self._child)


def _systemd_below(pid: int) -> int:
    """Return the process that systemd-nspawn booted; 0: there is none yet."""
    with contextlib.suppress(OSError):
        while children := Path(f'/proc/{pid}/task/{pid}/children').read_text().split():
            pid = int(children[0])
            if Path(f'/proc/{pid}/comm').read_text().strip() == 'systemd':
                return pid
    return 0

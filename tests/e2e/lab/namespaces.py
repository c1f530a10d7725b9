# SPDX-License-Identifier: Apache-2.0
"""A host's own view of one machine: Linux namespaces for mounts, processes and the hostname.

All that is mounted or started in there goes away with the first process of its process namespace,
and that one dies with us, whatever ends us.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.services.process import PATIENCE, ChildProcess, ProcessError, run, wait_until

# The first process: it takes the orphans, and with SIGCHLD ignored the kernel buries them.
_INIT = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print('up', flush=True)
while True:
    signal.pause()
"""

# Joins the namespaces of a process and runs a command in them, as a child, for only a child gets
# into a process namespace. So it passes on the signals, and ends as the child did; nsenter does
# neither. And the child is killed when this one is.
_ENTER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID = 0x20000, 0x4000000, 0x20000000
libc = ctypes.CDLL(None, use_errno=True)
pid, directory, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
if libc.setns(os.pidfd_open(pid), CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID):
    sys.exit(f'setns: process {pid}: ' + os.strerror(ctypes.get_errno()))
os.chdir(directory)
passed_on = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
signal.pthread_sigmask(signal.SIG_BLOCK, passed_on | {signal.SIGCHLD})
child = os.fork()
if not child:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on | {signal.SIGCHLD})
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f'{argv[0]}: {error.strerror}', file=sys.stderr)
        os._exit(127)
while not (ended := os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG)):
    number = signal.sigwait(passed_on | {signal.SIGCHLD})
    if number != signal.SIGCHLD:
        os.kill(child, number)
if ended.si_code == os.CLD_EXITED:
    sys.exit(ended.si_status)
if ended.si_status != signal.SIGKILL:
    signal.signal(ended.si_status, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
os.kill(os.getpid(), ended.si_status)
"""


class Namespaces:
    """A mount, a process and a hostname namespace; a context manager that ends all in them."""

    def __init__(self, name: str, log: Path) -> None:
        # --kill-child: what ends `unshare` (we, by the tether) ends the first process.
        self._unshare = ChildProcess(
            [
                *('unshare', '--mount', '--uts', '--pid', '--fork'),
                *('--kill-child', '--mount-proc'),
                *(sys.executable, '-I', '-S', '-c', _INIT),
            ],
            log,
            name=f'namespaces of {name}',
        )
        self.name = name
        self._first = 0

    def __enter__(self) -> Self:
        self._unshare.start()
        try:
            self._unshare.wait_for_output('up')
            self._first = _only_child(self._unshare.pid)
            self.run('hostname', self.name)
        except BaseException:
            self._unshare.kill()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        # The end of the first process is the end of all, and `unshare` waits for just that.
        if self._first:
            os.kill(self._first, signal.SIGKILL)
        self._unshare.wait()
        self._first = 0

    def path(self, path: str | Path) -> Path:
        return Path(f'/proc/{self.first}/root') / str(path).lstrip('/')

    @property
    def first(self) -> int:
        """The first process, by the outside's number."""
        if not self._first:
            raise ProcessError(f'{self.name} is not up')
        return self._first

    def entering(self, argv: Sequence[str], directory: str = '/') -> list[str]:
        return [sys.executable, '-I', '-S', '-c', _ENTER, str(self.first), directory, *argv]

    def run(
        self, *argv: str, check: bool = True, stdin: str = '', timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        done = run(self.entering(argv), stdin=stdin, timeout=timeout)
        if check and done.returncode:
            raise ProcessError(
                f'{self.name}: {" ".join(argv)} ended with {done.returncode}: {done.stderr}'
            )
        return done

    def process(
        self, argv: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
    ) -> 'HostProcess':
        return HostProcess(
            self.entering(argv), log, name=f'{argv[0]} on {self.name}', environment=environment
        )


class HostProcess(ChildProcess):
    """A process in a host's namespaces; `process` is what brought it there, `pid` is its own."""

    @property
    def pid(self) -> int:
        """The process's number outside."""
        if not self.running:
            raise ProcessError(f'{self.name} has ended{self.tail()}')
        return _only_child(super().pid)

    def send_signal(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> int:
        """SIGKILL, as a crash would; return the exit status."""
        self.send_signal(signal.SIGKILL)
        return self.process.wait()


def _only_child(parent: int, timeout: float = PATIENCE) -> int:
    children = Path(f'/proc/{parent}/task/{parent}/children')
    wait_until(children.read_text, f'process {parent} has a child', timeout)
    return int(children.read_text().split()[0])

# SPDX-License-Identifier: Apache-2.0
"""Child processes that leave a log behind, but never themselves."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]

# Ports below the range that the kernel gives to outgoing connections (32768 and up by default):
# none is taken while its server is down for a restart.
_PORTS = range(20000, 32768)
# Not the shared generator: hypothesis seeds that one, so every run would try the same ports.
_random = random.SystemRandom()

# PR_SET_PDEATHSIG outlives the exec, so this works for any program, and unlike a preexec_fn it
# is safe in a process with threads. The parent may be gone before the call, so that is checked.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
    sys.exit("prctl(PR_SET_PDEATHSIG): " + os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    print(f"{sys.argv[2]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)
"""

PATIENCE = 90.0
"""Seconds that one thing may take on a busy machine; what happens sooner waits no longer."""


class ProcessError(RuntimeError):
    """A child process did not do what was expected of it."""


def free_port() -> int:
    """A loopback port that is not in use."""
    for port in _random.sample(_PORTS, 200):
        with socket.socket() as probe:
            # As the servers do: a port in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(('127.0.0.1', port))
            except OSError:
                continue
        return port
    raise ProcessError(f'no free port on 127.0.0.1 between {_PORTS[0]} and {_PORTS[-1]}')


def program(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise ProcessError(f'no command {name!r} next to {sys.executable}: is it installed?')
    return str(path)


def child_environment(**extra: str) -> dict[str, str]:
    """The caller's environment without what would lead a child elsewhere.

    Left out: OS_* (a real cloud's) and the proxies, which have no business on loopback.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith('OS_') and not name.lower().endswith('_proxy')
    }
    return kept | {'PYTHONUNBUFFERED': '1'} | extra


def service_environment(**extra: str) -> dict[str, str]:
    """The environment of a service: coverage of this project is not for it to report."""
    environment = child_environment(**extra)
    return {name: value for name, value in environment.items() if 'COVERAGE' not in name}


def tethered(argv: Sequence[str]) -> list[str]:
    """Return a command that becomes this one, but is killed when the thread that runs it ends."""
    return [sys.executable, '-I', '-S', '-c', _DIE_WITH_PARENT, str(os.getpid()), *argv]


def wait_until(
    happened: Callable[[], object],
    what: str,
    timeout: float = PATIENCE,
    child: 'ChildProcess | None' = None,
) -> None:
    """Poll until `happened()` is true.

    :param child: whose early end is an error, and whose log is in the error's message
    :raises ProcessError: it did not happen within `timeout` seconds
    """
    name = f'{child.name}: ' if child else ''
    deadline = time.monotonic() + timeout
    while not happened():
        if child and not child.running:
            raise ProcessError(
                f'{name}ended with {child.process.returncode} before {what}{child.tail()}'
            )
        if time.monotonic() > deadline:
            raise ProcessError(f'{name}not {what} in {timeout:g} s{child.tail() if child else ""}')
        time.sleep(0.05)


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = '',
    timeout: float = PATIENCE,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tethered(argv),
        env=child_environment() if environment is None else environment,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class ChildProcess:
    """A process with its output in a file: a context manager that ends it.

    It is killed when the *thread* that started it ends (that is how PR_SET_PDEATHSIG counts), so
    start it from the main thread, or from one that lives as long as the child should.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        self.name = name or Path(argv[0]).name
        self.environment = dict(environment) if environment is not None else child_environment()
        self.cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessError(f'{self.name} was not started')
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        if self.running:
            raise ProcessError(f'{self.name} is running already, pid {self.pid}')
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open('ab') as log:
            self._process = subprocess.Popen(
                tethered(self.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.cwd,
                # A Ctrl-C in the terminal is for us; we end our children in our own order.
                process_group=0,
            )
        return self

    @property
    def output(self) -> str:
        if not self.log.exists():
            return ''
        with self.log.open('rb') as log:
            log.seek(self._log_start)
            return log.read().decode(errors='replace')

    def wait_until(
        self, happened: Callable[[], object], what: str, timeout: float = PATIENCE
    ) -> Self:
        """Poll until `happened()` is true; an early end or a timeout shows the end of the log."""
        wait_until(happened, what, timeout, self)
        return self

    def wait_for_output(self, text: str, *, after: int = 0, timeout: float = PATIENCE) -> Self:
        return self.wait_until(
            lambda: text in self.output[after:], f'{text!r} in its log', timeout
        )

    def wait(self, timeout: float = PATIENCE) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(
                f'{self.name}: still running after {timeout:g} s{self.tail()}'
            ) from None

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, timeout: float = 10.0) -> int | None:
        if self._process is None:
            return None
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def kill(self) -> int:
        self.process.kill()
        return self.process.wait()

    def tail(self, lines: int = 25) -> str:
        text = self.output.rstrip()
        if not text:
            return '; it wrote nothing'
        return f'; the end of {self.log}:\n  | ' + '\n  | '.join(text.splitlines()[-lines:])


def run_to_the_end(
    argv: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
) -> None:
    with ChildProcess(argv, log, environment=environment) as child:
        if status := child.wait(timeout):
            raise ProcessError(f'{child.name} ended with {status}{child.tail()}')

# SPDX-License-Identifier: Apache-2.0
"""What the servers have in common."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.services.process import REPOSITORY, ChildProcess, child_environment, free_port
from tests.services.wsgi import serving


class Server:
    """A WSGI service in a child process, on the same loopback port over restarts."""

    def __init__(
        self, service: str, directory: Path, port: int | None, environment: Mapping[str, str]
    ) -> None:
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.child = ChildProcess(
            [sys.executable, '-m', 'tests.services.wsgi', service, str(self.port)],
            self.directory / f'{service}.log',
            name=service,
            environment=_untraced(child_environment(**environment)),
            cwd=REPOSITORY,
        )
        self._prepared = False

    def __enter__(self) -> Self:
        return self if self.child.running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """The file with everything that the service wrote."""
        return self.child.log

    def start(self) -> Self:
        """Start it, and return when it takes connections."""
        if not self._prepared:
            self.prepare()
            self._prepared = True
        self.child.start()
        try:
            self.child.wait_for_output(serving(self.port), timeout=60)
            self.started()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it; its data stay, and start() brings it back on the same port."""
        self.child.stop()

    def restart(self) -> Self:
        """Stop and start it."""
        self.stop()
        return self.start()

    def prepare(self) -> None:
        """Do what comes once, before the first start."""

    def started(self) -> None:
        """Do what comes after each start."""


def write_ini(path: Path, sections: Mapping[str, Mapping[str, object]]) -> Path:
    """Write a configuration file as oslo.config reads it; return its path."""
    lines: list[str] = []
    for section, options in sections.items():
        lines += [f'[{section}]', *(f'{name} = {value}' for name, value in options.items()), '']
    path.write_text('\n'.join(lines))
    return path


def _untraced(environment: dict[str, str]) -> dict[str, str]:
    """Coverage of this project is not for the services to report."""
    return {name: value for name, value in environment.items() if 'COVERAGE' not in name}

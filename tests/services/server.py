# SPDX-License-Identifier: Apache-2.0
"""What the servers have in common."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.services.process import (
    REPOSITORY,
    ChildProcess,
    free_port,
    program,
    run_to_the_end,
    service_environment,
)
from tests.services.wsgi import serving

_PATHS = {'keystone': '/v3', 'nova': '/v2.1'}

# To create an empty database takes 1.4 to 2 s; a copy takes nothing.
_empty_databases: dict[str, bytes] = {}


class Server:
    """A WSGI service in a child process, on the same loopback port over restarts.

    :param service: see :mod:`tests.services.wsgi`
    :param directory: its configuration, log and data; OS_*_CONFIG_DIR names it
    :param threads: one where the database is SQLite: a second writer meets "database is locked"
    """

    def __init__(
        self, service: str, directory: Path, port: int | None = None, *, threads: int = 1
    ) -> None:
        self.service = service
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.child = ChildProcess(
            [sys.executable, '-m', 'tests.services.wsgi', service, str(self.port), str(threads)],
            self.directory / f'{service}.log',
            name=service,
            environment=service_environment(
                **{f'OS_{service.upper()}_CONFIG_DIR': str(self.directory)}
            ),
            cwd=REPOSITORY,
        )

    def __enter__(self) -> Self:
        return self if self.child.running else self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.port}{_PATHS.get(self.service, "")}'

    @property
    def log(self) -> Path:
        return self.child.log

    def start(self) -> Self:
        if not (self.directory / f'{self.service}.conf').exists():
            self.prepare()
        self.child.start()
        try:
            self.wait()
            self.started()
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self) -> None:
        self.child.wait_for_output(serving(self.port))

    def stop(self) -> None:
        self.child.stop()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def prepare(self) -> None:
        """Do what comes once, before the first start."""

    def started(self) -> None:
        """Do what comes after each start."""

    def create_database(self, manage: str, *command: str) -> Path:
        """Create an SQLite database as the service's own command does; return its path."""
        database = self.directory / f'{self.service}.sqlite'
        if self.service not in _empty_databases:
            conf = self.directory / f'{self.service}.conf'
            argv = [program(manage), '--config-file', str(conf), *command]
            run_to_the_end(argv, self.directory / f'{manage}.log')
            _empty_databases[self.service] = database.read_bytes()
        database.write_bytes(_empty_databases[self.service])
        return database


def write_ini(path: Path, sections: Mapping[str, Mapping[str, object]]) -> Path:
    """Write a configuration file as oslo.config reads it; return its path."""
    lines: list[str] = []
    for section, options in sections.items():
        lines += [f'[{section}]', *(f'{name} = {value}' for name, value in options.items()), '']
    path.write_text('\n'.join(lines))
    return path

# SPDX-License-Identifier: Apache-2.0
"""One of the cloud's APIs as a process: what wsgi.py serves."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.openstack.confined import untraced
from tests.services.process import REPOSITORY, ChildProcess, child_environment, free_port
from tests.services.wsgi import serving

_PATHS = {'keystone': '/v3', 'nova': '/v2.1'}


class ServedApi:
    """One of the APIs, on the same loopback port over restarts."""

    def __init__(self, name: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self.child = ChildProcess(
            [sys.executable, '-m', 'tests.e2e.openstack.wsgi', name, str(self.port)],
            directory / f'{name}.log',
            name=name,
            environment=untraced(child_environment(**environment)),
            cwd=REPOSITORY,
        )

    @property
    def url(self) -> str:
        """The endpoint in the catalogue."""
        return f'http://127.0.0.1:{self.port}{_PATHS.get(self.name, "")}'

    def start(self) -> None:
        """Start it without waiting."""
        self.child.start()

    def wait(self) -> None:
        """Return when it takes connections."""
        self.child.wait_for_output(serving(self.port), timeout=90)

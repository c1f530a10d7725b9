# SPDX-License-Identifier: Apache-2.0
"""The real Placement."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.services.keystone import KeystoneServer
from tests.services.process import program, run_to_the_end
from tests.services.server import Server, write_ini

# An empty database takes placement-manage 1.4 s; a copy takes nothing.
_empty_database: bytes | None = None

_REQUEST = re.compile(
    r'"(?P<method>[A-Z]+) (?P<path>\S+)" '
    r'status: (?P<status>\d+) len: \S+ microversion: (?P<version>\S+)'
)


@dataclass(frozen=True)
class Request:
    """A request that Placement has answered."""

    method: str
    path: str
    status: int
    microversion: str


class PlacementServer(Server):
    """Placement on SQLite, a context manager.

    With ``noauth2`` any token will do, and ``admin`` is the one that may do everything. With
    ``keystone`` it registers itself in the catalogue of the (running) Keystone at each start.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        auth: Literal['noauth2', 'keystone'] = 'noauth2',
        keystone: KeystoneServer | None = None,
    ) -> None:
        if (auth == 'keystone') != (keystone is not None):
            raise ValueError("auth='keystone' and keystone= come together")
        directory = directory.resolve()
        super().__init__('placement', directory, port, {'OS_PLACEMENT_CONFIG_DIR': str(directory)})
        self.auth = auth
        self.keystone = keystone

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f'http://127.0.0.1:{self.port}'

    def requests(self) -> list[Request]:
        """Return every request answered so far, in order, from Placement's own request log."""
        text = self.log.read_text(errors='replace') if self.log.exists() else ''
        return [
            Request(found['method'], found['path'], int(found['status']), found['version'])
            for found in _REQUEST.finditer(text)
        ]

    def prepare(self) -> None:
        """Write the configuration and create the database."""
        global _empty_database
        database = self.directory / 'placement.sqlite'
        sections: dict[str, dict[str, object]] = {
            'api': {'auth_strategy': self.auth},
            'placement_database': {
                'connection': f'sqlite:///{database}',
                # Nothing here has to survive a power cut.
                'sqlite_synchronous': False,
            },
        }
        if self.keystone is not None:
            account = self.keystone.create_user(f'placement-{self.port}', roles=['service'])
            sections['keystone_authtoken'] = {
                **account.options(),
                'www_authenticate_uri': self.keystone.url,
                # A cached token would outlive its own end.
                'token_cache_time': -1,
            }
        configuration = write_ini(self.directory / 'placement.conf', sections)
        if _empty_database is None:
            manage = [program('placement-manage'), '--config-file', str(configuration)]
            run_to_the_end([*manage, 'db', 'sync'], self.directory / 'placement-manage.log')
            _empty_database = database.read_bytes()
        else:
            database.write_bytes(_empty_database)

    def started(self) -> None:
        """Be found in the catalogue."""
        if self.keystone is not None:
            self.keystone.set_endpoint('placement', self.url)

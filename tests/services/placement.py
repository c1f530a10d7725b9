# SPDX-License-Identifier: Apache-2.0
"""The real Placement."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.services.keystone import KeystoneServer
from tests.services.server import Server, write_ini

_REQUEST = re.compile(
    r'"(?P<method>[A-Z]+) (?P<path>\S+)" '
    r'status: (?P<status>\d+) len: \S+ microversion: (?P<version>\S+)'
)


@dataclass(frozen=True)
class Request:
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
        super().__init__('placement', directory, port)
        self.auth = auth
        self.keystone = keystone

    def requests(self) -> list[Request]:
        """Return every request answered so far, in order, from Placement's own request log."""
        text = self.log.read_text(errors='replace') if self.log.exists() else ''
        return [
            Request(found['method'], found['path'], int(found['status']), found['version'])
            for found in _REQUEST.finditer(text)
        ]

    def prepare(self) -> None:
        sections: dict[str, dict[str, object]] = {
            'api': {'auth_strategy': self.auth},
            'placement_database': {
                'connection': f'sqlite:///{self.directory}/placement.sqlite',
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
        write_ini(self.directory / 'placement.conf', sections)
        self.create_database('placement-manage', 'db', 'sync')

    def started(self) -> None:
        """Be found in the catalogue."""
        if self.keystone is not None:
            self.keystone.set_endpoint('placement', self.url)

# SPDX-License-Identifier: Apache-2.0
"""The real Keystone."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keystoneauth1 import session as keystone_session
from keystoneauth1.identity import v3

from tests.services.process import PATIENCE, program, run_to_the_end
from tests.services.server import Server, write_ini

REGION = 'RegionOne'
DOMAIN = 'Default'
INTERFACES = ('public', 'internal', 'admin')


@dataclass(frozen=True)
class Account:
    auth_url: str
    username: str
    project_name: str
    password: str = field(default_factory=secrets.token_hex, repr=False)

    def options(self) -> dict[str, str]:
        """Return keystoneauth's options, for a section of a configuration file."""
        return {
            'auth_type': 'password',
            'auth_url': self.auth_url,
            'username': self.username,
            'password': self.password,
            'user_domain_name': DOMAIN,
            'project_name': self.project_name,
            'project_domain_name': DOMAIN,
            'region_name': REGION,
        }

    def environment(self) -> dict[str, str]:
        return {f'OS_{name.upper()}': value for name, value in self.options().items()}

    def session(self) -> keystone_session.Session:
        login = v3.Password(
            self.auth_url,
            username=self.username,
            password=self.password,
            user_domain_name=DOMAIN,
            project_name=self.project_name,
            project_domain_name=DOMAIN,
        )
        session = keystone_session.Session(login, timeout=PATIENCE)
        # No proxy setting of the caller concerns a server on loopback.
        session.session.trust_env = False
        return session


class KeystoneServer(Server):
    """Keystone with fernet tokens, a context manager.

    :param database: its URL; by default that of an SQLite file
    :param password: the administrator's; by default a random one
    :param token_expiration: seconds. keystoneauth asks for a new token before each request once
        less than 120 s are left, so an agent that is to get a 401 needs :meth:`forget_tokens`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        database: str | None = None,
        password: str | None = None,
        token_expiration: int = 3600,
        threads: int = 1,
    ) -> None:
        super().__init__('keystone', directory, threads=threads)
        self.database = database or f'sqlite:///{self.directory}/keystone.sqlite'
        self.token_expiration = token_expiration
        self.admin = Account(self.url, 'admin', 'admin', password or secrets.token_hex())
        self._sessions: dict[Account, keystone_session.Session] = {}

    def prepare(self) -> None:
        """Write the configuration, create keys and database, bootstrap."""
        self.configure()
        self.create_database('keystone-manage', 'db_sync')
        manage = [program('keystone-manage'), '--config-file', f'{self.directory}/keystone.conf']
        run_to_the_end([*manage, *self.bootstrap()], self.directory / 'bootstrap.log')

    def bootstrap(self) -> list[str]:
        """Return keystone-manage's arguments that create the administrator's account."""
        return [
            *('bootstrap', '--bootstrap-password', self.admin.password),
            *(f'--bootstrap-{interface}-url={self.url}' for interface in INTERFACES),
            *('--bootstrap-region-id', REGION),
        ]

    def configure(self) -> None:
        write_ini(
            self.directory / 'keystone.conf',
            {
                'database': {'connection': self.database},
                'token': {
                    'provider': 'fernet',
                    'expiration': self.token_expiration,
                    # A token that is forgotten is so at once.
                    'caching': False,
                    'cache_on_issue': False,
                },
                'fernet_tokens': {'key_repository': self._keys('tokens')},
                'fernet_receipts': {'key_repository': self._keys('tokens')},
                'credential': {'key_repository': self._keys('credentials')},
                # The least that bcrypt knows: these passwords live for seconds.
                'identity': {'password_hash_rounds': 4},
                # Without a cache it is 20 times slower. The cache is this one process's own, and
                # Keystone clears what it changes, so a test never sees yesterday's.
                'cache': {'enabled': True, 'backend': 'dogpile.cache.memory'},
            },
        )
        # fernet_setup and credential_setup do no more, and take 1.6 s each.
        for use in ('tokens', 'credentials'):
            self._new_keys(use)

    def create_user(
        self,
        name: str,
        *,
        roles: Sequence[str] = ('service',),
        project: str = 'service',
        password: str | None = None,
    ) -> Account:
        account = Account(self.url, name, project, password or secrets.token_hex())
        project_id = self._ensure('project', project)
        user = {'name': name, 'password': account.password, 'domain_id': 'default'}
        user_id = self._call('POST', '/users', user=user)['user']['id']
        for role in roles:
            role_id = self._find('role', role)
            assert role_id, f'Keystone has no role {role}'
            self._call('PUT', f'/projects/{project_id}/users/{user_id}/roles/{role_id}')
        return account

    def token(self, account: Account | None = None) -> str:
        token = self._session(account or self.admin).get_token()
        assert token is not None
        return token

    def set_password(self, account: Account, password: str) -> None:
        user_id = self._find('user', account.username)
        self._call('PATCH', f'/users/{user_id}', user={'password': password})

    def set_endpoint(self, service: str, url: str) -> None:
        """Put the service's endpoints into the catalogue, or move those that are there."""
        service_id = self._find('service', service)
        if service_id is None:
            new = {'name': service, 'type': service}
            service_id = self._call('POST', '/services', service=new)['service']['id']
        known = {
            endpoint['interface']: endpoint
            for endpoint in self._call('GET', f'/endpoints?service_id={service_id}')['endpoints']
        }
        for interface in INTERFACES:
            endpoint = {
                'service_id': service_id,
                'interface': interface,
                'url': url,
                'region_id': REGION,
            }
            if interface not in known:
                self._call('POST', '/endpoints', endpoint=endpoint)
            elif known[interface]['url'] != url:
                self._call('PATCH', f'/endpoints/{known[interface]["id"]}', endpoint=endpoint)

    def forget_tokens(self) -> None:
        """Make every token that was ever issued invalid, at once: new keys."""
        self._new_keys('tokens')
        self._sessions.clear()

    def _session(self, account: Account) -> keystone_session.Session:
        # Kept: each log-in is several requests.
        return self._sessions.setdefault(account, account.session())

    def _keys(self, use: str) -> Path:
        return self.directory / f'{use}.keys'

    def _new_keys(self, use: str) -> None:
        directory = self._keys(use)
        directory.mkdir(mode=0o700, exist_ok=True)
        # 0 is staged for the next rotation, the highest number is in use.
        for number in ('0', '1'):
            key = directory / number
            key.write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
            key.chmod(0o600)

    def _call(self, method: str, path: str, **body: Any) -> Any:
        response = self._session(self.admin).request(self.url + path, method, json=body or None)
        return response.json() if response.content else None

    def _find(self, kind: str, name: str) -> str | None:
        found = self._call('GET', f'/{kind}s?name={name}')[f'{kind}s']
        return found[0]['id'] if found else None

    def _ensure(self, kind: str, name: str) -> str:
        identity = self._find(kind, name)
        if identity is None:
            identity = self._call('POST', f'/{kind}s', **{kind: {'name': name}})[kind]['id']
        return identity

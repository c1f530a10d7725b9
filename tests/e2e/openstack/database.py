# SPDX-License-Identifier: Apache-2.0
"""A MariaDB of our own: a data directory, a Unix socket, no port."""

from pathlib import Path
from typing import Any, Self

import pymysql

from tests.services.process import ChildProcess, ProcessError, run_to_the_end

DATABASES = ('keystone', 'placement', 'glance', 'nova_api', 'nova', 'nova_cell0')

# Nothing in it has to survive a power cut, and all of it is small.
_OPTIONS = (
    '--user=root',
    '--skip-networking',
    '--skip-log-bin',
    '--skip-name-resolve',
    '--max-connections=500',
    '--performance-schema=OFF',
    '--innodb-flush-log-at-trx-commit=0',
    '--innodb-flush-method=nosync',
    '--innodb-doublewrite=0',
    '--innodb-log-file-size=16M',
    '--innodb-buffer-pool-size=64M',
    '--innodb-fast-shutdown=0',
)


class MariaDB:
    """The server; a context manager.

    :param directory: for the socket and the log
    :param data: the data directory; :meth:`install` makes it
    """

    def __init__(self, directory: Path, data: Path) -> None:
        self.directory = directory
        self.data = data
        self.socket = directory / 'mariadb.sock'
        self.child = ChildProcess(
            [
                'mariadbd',
                '--no-defaults',
                f'--datadir={data}',
                f'--socket={self.socket}',
                f'--pid-file={directory / "mariadb.pid"}',
                *_OPTIONS,
            ],
            directory / 'mariadb.log',
            name='MariaDB',
        )

    def install(self) -> None:
        self.data.mkdir(mode=0o700)
        run_to_the_end(
            [
                *('mariadb-install-db', '--no-defaults', f'--datadir={self.data}', '--user=root'),
                *('--auth-root-authentication-method=normal', '--skip-test-db'),
            ],
            self.directory / 'mariadb-install.log',
        )

    def __enter__(self) -> Self:
        self.start()
        self.wait()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        self.child.start()

    def wait(self) -> None:
        self.child.wait_until(self._answers, 'answering')

    def stop(self) -> None:
        self.child.stop(30.0)

    def kill(self) -> None:
        """End it at once, when its data are needed no more."""
        if self.child.running:
            self.child.kill()

    def url(self, database: str) -> str:
        """Return what SQLAlchemy needs to know; the directory of the socket keeps others out."""
        return f'mysql+pymysql://root:@localhost/{database}?charset=utf8&unix_socket={self.socket}'

    def execute(self, *statements: str, database: str | None = None) -> list[Any]:
        connection = pymysql.connect(
            unix_socket=str(self.socket), user='root', database=database, autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            self.execute('SELECT 1')
        except pymysql.err.OperationalError:
            return False
        except pymysql.err.Error as exc:
            raise ProcessError(f'MariaDB: {exc}') from exc
        return True

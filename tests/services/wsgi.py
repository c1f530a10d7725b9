# SPDX-License-Identifier: Apache-2.0
"""Serve a WSGI application: python -m tests.services.wsgi placement|keystone PORT."""

import importlib
import sys

import waitress

APPLICATIONS = {'placement': 'placement.wsgi.api', 'keystone': 'keystone.wsgi.api'}


def serving(port: int | str) -> str:
    """Return the line that the server prints as soon as its port takes connections."""
    return f'serving on 127.0.0.1:{port}'


def main() -> None:
    """Serve until a signal ends it."""
    service, port = sys.argv[1:]
    # Keystone parses sys.argv while it is imported, and would not like ours.
    del sys.argv[1:]
    application = importlib.import_module(APPLICATIONS[service]).application
    # One thread: SQLite has one writer; a second one meets "database is locked", a 500.
    server = waitress.create_server(application, host='127.0.0.1', port=int(port), threads=1)
    print(serving(port), flush=True)
    server.run()


if __name__ == '__main__':
    main()

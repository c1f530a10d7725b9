# SPDX-License-Identifier: Apache-2.0
"""Serve a WSGI application: python -m tests.services.wsgi SERVICE PORT THREADS."""

import importlib
import sys

import waitress

APPLICATIONS = {
    'placement': 'placement.wsgi.api',
    'keystone': 'keystone.wsgi.api',
    'glance': 'glance.wsgi.api',
    'nova': 'nova.wsgi.osapi_compute',
    'network': 'tests.services.network',
    'shares': 'tests.services.shares',
}


def serving(port: int | str) -> str:
    return f'serving on 127.0.0.1:{port}'


def main() -> None:
    service, port, threads = sys.argv[1:]
    # Keystone and Nova parse sys.argv while they are imported, and would not accept this one.
    del sys.argv[1:]
    application = importlib.import_module(APPLICATIONS[service]).application
    server = waitress.create_server(
        application, host='127.0.0.1', port=int(port), threads=int(threads)
    )
    print(serving(port), flush=True)
    server.run()


if __name__ == '__main__':
    main()

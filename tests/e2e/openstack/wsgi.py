# SPDX-License-Identifier: Apache-2.0
"""Serve one of the cloud's APIs: python -m tests.e2e.openstack.wsgi NAME PORT."""

import importlib
import sys

import waitress

from tests.services.wsgi import serving

APPLICATIONS = {
    'keystone': 'keystone.wsgi.api',
    'placement': 'placement.wsgi.api',
    'glance': 'glance.wsgi.api',
    'nova': 'nova.wsgi.osapi_compute',
    'network': 'tests.e2e.openstack.network',
}


def main() -> None:
    """Serve until a signal ends it."""
    name, port = sys.argv[1:]
    # Keystone and Nova parse sys.argv while they are imported, and would not like ours.
    del sys.argv[1:]
    application = importlib.import_module(APPLICATIONS[name]).application
    server = waitress.create_server(application, host='127.0.0.1', port=int(port), threads=6)
    print(serving(port), flush=True)
    server.run()


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Manila: one share that is always there, and who has access to it.

Real would be Manila with a back end that serves NFS, and an NFS mount on each host. Nova asks
Manila when a share is attached and detached, and mounts it when the server starts.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

SHARE = '5c23a6f1-3a0e-4a8b-9f0f-7f4a1c0d2e11'

_VERSION = {
    'id': 'v2.0',
    'status': 'CURRENT',
    'version': '2.200',
    'min_version': '2.0',
    'links': [{'rel': 'self', 'href': '/v2/'}],
}
_rules: dict[str, dict[str, Any]] = {}


def _answer(method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    share = {'id': SHARE, 'name': 'share', 'status': 'available', 'share_proto': 'NFS', 'size': 1}
    place = {'id': 'e1', 'path': '127.0.0.1:/share', 'preferred': True}
    pages: dict[str, dict[str, Any]] = {
        f'/shares/{SHARE}': {'share': share},
        f'/shares/{SHARE}/export_locations': {'export_locations': [place]},
        '/share-access-rules': {'access_list': list(_rules.values())},
    }
    if method == 'GET':
        return 200, pages.get(path, {'versions': [_VERSION]})
    if 'allow_access' in body:
        rule = body['allow_access'] | {'id': 'a1', 'share_id': SHARE, 'state': 'active'}
        _rules['a1'] = rule
        return 200, {'access': rule}
    _rules.clear()
    return 202, {}


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    length = int(environ.get('CONTENT_LENGTH') or 0)
    asked = json.loads(environ['wsgi.input'].read(length) or b'{}')
    path = environ['PATH_INFO'].rstrip('/').removeprefix('/v2')
    status, content = _answer(environ['REQUEST_METHOD'], path, asked)
    body = json.dumps(content).encode()
    headers = [('Content-Type', 'application/json'), ('Content-Length', str(len(body)))]
    start_response(f'{status} ', headers)
    return [body]

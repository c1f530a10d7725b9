# SPDX-License-Identifier: Apache-2.0
"""One request to Placement, through keystoneauth: a parsed answer, or one clear error."""

from collections.abc import Callable, Mapping
from typing import Any

import requests
from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import exceptions as ksa_exceptions

from fbm_placement import connection, troubles
from fbm_placement.deadline import deadline

_NO_ANSWER = (
    ksa_exceptions.ClientException,
    requests.RequestException,
    OSError,
    # keystoneauth lets these out when Keystone's answer is JSON, but no token.
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
)


class Requester:
    """Sends requests through a keystoneauth adapter and returns parsed answers."""

    def __init__(
        self,
        adapter: ksa_adapter.Adapter,
        before_request: Callable[[], None] = lambda: None,
    ) -> None:
        """Speak through ``adapter``.

        :param before_request: called before each request; what it raises (StopRequested) ends the
            pass between two requests
        """
        self._adapter = adapter
        self._before_request = before_request

    def get(self, path: str, **params: str) -> Mapping[str, Any]:
        """GET a JSON object.

        :raises PlacementError: or one of its subclasses, see ``troubles.refused``
        """
        return _parsed(self._send('GET', path, params=params), f'GET {path}')

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """PUT a JSON object and return the answer, empty where there is none.

        :raises PlacementError: or one of its subclasses, see ``troubles.refused``
        """
        extra = {} if body is None else {'json': body}
        response = self._send('PUT', path, **extra)
        if response.status_code in (requests.codes.created, requests.codes.no_content) and (
            not response.content
        ):
            return {}
        return _parsed(response, f'PUT {path}')

    def _send(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        self._before_request()
        what = f'{method} {path}'
        try:
            with deadline():
                response = self._adapter.request(
                    path, method, headers={'Accept': 'application/json'}, **kwargs
                )
        except connection.UNUSABLE as exc:
            raise connection.unusable(exc) from exc
        except _NO_ANSWER as exc:
            raise troubles.unreachable(exc, what) from exc
        if not response.ok:
            raise troubles.refused(response, what)
        return response


def _parsed(response: requests.Response, what: str) -> Mapping[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise troubles.not_json(response, what)
    return body

# SPDX-License-Identifier: Apache-2.0
"""One request to Placement over HTTP: the parsed answer, or one clear error."""

import contextlib
import datetime
import email.utils
import http.client
import math
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import requests
from keystoneauth1 import exceptions as ksa_exceptions
from urllib3 import exceptions as urllib3_exceptions

from fbm_placement import constants, errors
from fbm_placement.text import one_line

REQUEST_DEADLINE_SECONDS = 75.0
"""With its token and discovery. Below the unit's TimeoutStopSec, far below its WatchdogSec."""

LONGEST_RETRY_AFTER_SECONDS = 3600.0
_EXCERPT = 120

Json = Mapping[str, Any]
Send = Callable[[str, str, Json | None], requests.Response]
"""Sends one request (method, path with query, body), and may fail in any way."""

_UNREADABLE_ERRORS = (LookupError, TypeError, ValueError, AttributeError)
"""keystoneauth raises these when Keystone's answer is JSON, but no token."""

_NO_USER = (
    '; expected [placement]username, password and project of a valid service user with a role '
    'there'
)
_NO_ENDPOINT = (
    'the service catalogue has no such endpoint; expected one of service type "placement" for '
    '[placement]region_name and valid_interfaces (openstack catalog list), with a token of '
    '[placement]project_name, or [placement]endpoint_override'
)
_UNREADABLE = 'Keystone answered something that is no token'
_NO_SCHEME = 'the URL has no http:// or https://; {url}'
_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (ksa_exceptions.EndpointNotFound, _NO_ENDPOINT),
    (
        ksa_exceptions.ConnectTimeout,
        '{cause}; is the service up, or [placement]timeout too short?',
    ),
    (ksa_exceptions.InvalidResponse, _UNREADABLE),
    (socket.gaierror, 'name lookup failed ({cause}); {url}'),
    (ssl.SSLError, 'TLS failed ({cause}); check [placement]cafile; {url}'),
    (ConnectionRefusedError, 'connection refused (is the service up?); {url}'),
    (http.client.RemoteDisconnected, 'the connection was closed without an answer; {url}'),
    (requests.exceptions.InvalidSchema, _NO_SCHEME),
    (requests.exceptions.MissingSchema, _NO_SCHEME),
    (urllib3_exceptions.IncompleteRead, 'the answer broke off; {url}'),
)
"""What explains a chain of errors: its first link that is one of these."""

_KINDS: Mapping[int, type[errors.PlacementError]] = {
    400: errors.BadRequestError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
}
"""By the status with which Placement itself answers; others are a PlacementError."""

_ADVICE = {
    401: '; the token was refused: check [placement] against the service user in Keystone',
    403: '; the user in [placement] needs the role "service" (or "admin") in its project',
    406: f'; microversion {constants.MICROVERSION} is needed (Placement of Rocky or later)',
}
_FOREIGN = "; this is not Placement's own answer: is it a proxy, or has the endpoint moved?"

_KEYSTONE_AWAY = 'The Keystone service is temporarily unavailable'
"""Of keystonemiddleware (auth_token/__init__.py), which answers in Placement's place."""


def exchange(
    send: Send, method: str, path: str, query: str = '', body: Json | None = None
) -> Json:
    """Return the JSON object that answers; PlacementError or its subclass for the status."""
    request = f'{method} {path}'
    try:
        response = send(method, path + query, body)
    except (errors.FileBackedMemoryError, errors.StopRequested):
        raise
    except Exception as exc:  # an auth plugin raises anything
        retry_after = _retry_after(getattr(exc, 'response', None))
        raise errors.PlacementError(f'{request}: {_cause(exc)}', retry_after) from exc
    return _parsed(response, request)


@contextlib.contextmanager
def deadline(seconds: float = REQUEST_DEADLINE_SECONDS) -> Iterator[None]:
    """Raise TimeoutError in the block, unlike ``requests`` for all bytes; in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f'no complete answer in {seconds:.0f} s')

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _parsed(response: requests.Response, request: str) -> Json:
    if not response.ok:
        raise _refused(response, request)
    if response.status_code in (201, 204) and not response.content:
        return {}
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise errors.PlacementError(
            f'{request}: {response.status_code}, but not a JSON object: {_excerpt(response)}; is '
            'there a proxy or a login page between this host and Placement? '
            f'(requested: {one_line(response.url)})'
        )
    return body


def _refused(response: requests.Response, request: str) -> errors.PlacementError:
    status, code, kind = response.status_code, None, errors.PlacementError
    try:
        error = response.json()['errors'][0]
        detail = one_line(error['detail'])
        code = str(error.get('code', 'placement.undefined_code'))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        detail = _excerpt(response)
    line = f'{status} {response.reason or ""}: {detail}'
    if _KEYSTONE_AWAY in response.text:
        line = f'{status}: Placement cannot check tokens: is Keystone up, and its database?'
    elif code is None:
        line += f'{_ADVICE.get(status, _FOREIGN)} (requested: {one_line(response.url)})'
    else:
        line += _ADVICE.get(status, '')
        if status != 409 or code == 'placement.concurrent_update':
            kind = _KINDS.get(status, kind)
    return kind(f'{request}: {line}', _retry_after(response))


def _cause(exc: Exception) -> str:
    """Return the line that explains why there was no answer: urllib3 wraps it four deep."""
    if isinstance(exc, ksa_exceptions.HttpError):
        advice = _NO_USER if exc.http_status == 401 else ''
        return f'Keystone answered {exc.http_status} ({one_line(exc)}){advice}'
    if not isinstance(exc, (ksa_exceptions.ClientException, OSError)):
        if isinstance(exc, _UNREADABLE_ERRORS):
            return f'{_UNREADABLE} ({type(exc).__name__})'
        return one_line(f'{type(exc).__name__}: {exc}')
    # keystoneauth's message begins with the URL, then repeats urllib3's.
    url = one_line(exc).split(': HTTP', 1)[0].split(': (', 1)[0]
    seen: list[BaseException] = []
    waiting: list[object] = [exc]
    for link in waiting:  # it grows meanwhile, the outermost first
        if not isinstance(link, BaseException) or link in seen:
            continue
        for kind, text in _CAUSES:
            if isinstance(link, kind):
                return text.format(cause=one_line(link), url=url)
        # The exceptions of requests are OSErrors too, but without the system's text.
        if isinstance(link, OSError) and link.strerror:
            return f'{link.strerror}; {url}'
        seen.append(link)
        waiting += [link.__cause__, link.__context__, getattr(link, 'reason', None), *link.args]
    return one_line(exc)


def _excerpt(response: requests.Response) -> str:
    text = one_line(response.text)
    if not text:
        return 'an empty answer'
    kind = one_line(response.headers.get('Content-Type', 'no content type'))
    return f'{kind}, "{text[:_EXCERPT]}{"..." if len(text) > _EXCERPT else ""}"'


def _retry_after(response: requests.Response | None) -> float | None:
    """Return Retry-After in seconds (RFC 9110: a number or a date), None where there is none."""
    value = '' if response is None else response.headers.get('Retry-After', '')
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = email.utils.parsedate_to_datetime(value)
            # A date without a zone is UTC.
            seconds = then.replace(tzinfo=then.tzinfo or datetime.UTC).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None

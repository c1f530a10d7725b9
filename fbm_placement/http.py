# SPDX-License-Identifier: Apache-2.0
"""One request to Placement over HTTP: the parsed answer, or one clear error.

``HttpTransport`` sends through keystoneauth. The scheduler's transport sends through Nova's own
client and shares ``errors_of`` and ``parsed``.
"""

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
from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import exceptions as ksa_exceptions
from oslo_config import cfg
from urllib3 import exceptions as urllib3_exceptions

from fbm_placement import errors, names, words
from fbm_placement.words import one_line

REQUEST_DEADLINE_SECONDS = 75.0
"""With its token and discovery. Below the unit's TimeoutStopSec, far below its WatchdogSec."""

LONGEST_RETRY_AFTER_SECONDS = 3600.0
_EXCERPT = 120

UNUSABLE = (
    ksa_exceptions.MissingRequiredOptions,
    ksa_exceptions.NoMatchingPlugin,
    ksa_exceptions.MissingAuthPlugin,
    cfg.Error,
)
"""Errors that no retry fixes: ``[placement]`` itself is wrong."""

_NO_ANSWER = (
    ksa_exceptions.ClientException,
    requests.RequestException,
    OSError,
    # keystoneauth raises these when Keystone's answer is JSON, but no token.
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
)

_NO_ENDPOINT = (
    'the service catalogue has no such endpoint; expected one of service type "placement" for '
    '[placement]region_name and valid_interfaces (openstack catalog list), with a token of '
    '[placement]project_name, or [placement]endpoint_override'
)

_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (ksa_exceptions.EndpointNotFound, _NO_ENDPOINT),
    (
        ksa_exceptions.ConnectTimeout,
        '{cause}; is the service up, or [placement]timeout too short?',
    ),
    (socket.gaierror, 'name look-up failed ({cause}); {url}'),
    (ssl.SSLError, 'TLS failed ({cause}); check [placement]cafile; {url}'),
    (ConnectionRefusedError, 'connection refused (is the service up?); {url}'),
    (http.client.RemoteDisconnected, 'the connection was closed without an answer; {url}'),
    (requests.exceptions.InvalidSchema, 'the URL has no http:// or https://; {url}'),
    (requests.exceptions.MissingSchema, 'the URL has no http:// or https://; {url}'),
    (urllib3_exceptions.IncompleteRead, 'the answer broke off; {url}'),
)
"""The first of these that is found in a chain of errors explains it."""

_KINDS: Mapping[int, type[errors.PlacementError]] = {
    400: errors.BadRequestError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
}
"""By status, where Placement itself answers."""

_ADVICE = {
    401: '; the token was refused: check [placement] against the service user in Keystone',
    403: '; the user in [placement] needs the role "service" (or "admin") in its project',
    406: f'; microversion {names.MICROVERSION} is needed (Placement of Rocky or later)',
}

_FOREIGN = "; this is not Placement's own answer: is it a proxy, or has the endpoint moved?"

_KEYSTONE_AWAY = 'The Keystone service is temporarily unavailable'
"""Of keystonemiddleware (auth_token/__init__.py), which answers in Placement's place."""
_UNCHECKED = 'Placement cannot check tokens: is Keystone up, and its database?'


class HttpTransport:
    """Sends requests through a keystoneauth adapter."""

    def __init__(
        self,
        adapter: ksa_adapter.Adapter,
        before_request: Callable[[], None] = lambda: None,
    ) -> None:
        """Send through ``adapter``.

        :param before_request: called before each request; what it raises (StopRequested) ends the
            pass between two requests
        """
        self._adapter = adapter
        self._before_request = before_request

    def get(self, path: str, **params: str) -> Mapping[str, Any]:
        """GET a JSON object; raises what ``errors_of`` and ``parsed`` raise."""
        return self._send('GET', path, params=params)

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """PUT a JSON object and return the answer; raises what ``get`` raises."""
        return self._send('PUT', path, **({} if body is None else {'json': body}))

    def _send(self, method: str, path: str, **kwargs: Any) -> Mapping[str, Any]:
        self._before_request()
        request = f'{method} {path}'
        with errors_of(request), deadline():
            response = self._adapter.request(
                path, method, headers={'Accept': 'application/json'}, **kwargs
            )
        return parsed(response, request)


@contextlib.contextmanager
def deadline(seconds: float = REQUEST_DEADLINE_SECONDS) -> Iterator[None]:
    """Raise TimeoutError in the block when the time is over; in the main thread only.

    The timeout of ``requests`` starts again with each byte.
    """
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


@contextlib.contextmanager
def errors_of(request: str) -> Iterator[None]:
    """Turn each failure to get a response into an error of this project.

    :param request: for the message, e.g. ``GET /traits``
    :raises ConfigurationError: ``[placement]`` cannot be used
    :raises PlacementError: there was no answer
    """
    try:
        yield
    except UNUSABLE as exc:
        raise unusable(exc) from exc
    except _NO_ANSWER as exc:
        response = exc.response if isinstance(exc, ksa_exceptions.HttpError) else None
        raise errors.PlacementError(f'{request}: {_cause(exc)}', _retry_after(response)) from exc


def parsed(response: requests.Response, request: str) -> Mapping[str, Any]:
    """Return the JSON object of a response, empty where a 201 or 204 has none.

    :param request: as for ``errors_of``
    :raises PlacementError: or one of its subclasses: it is not a success, or not a JSON object
    """
    if not response.ok:
        raise _refusal(response, request)
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


def unusable(exc: Exception) -> errors.ConfigurationError:
    """Return why ``[placement]`` cannot be used, without its values: one may be the password."""
    if isinstance(exc, (cfg.NoSuchOptError, cfg.TemplateSubstitutionError)):
        why = (
            'a value has a $ that names no option; write $$ for a $ (a password may hold one), '
            'or write the value out'
        )
    else:
        why = words.config_error_text(exc)
    return errors.ConfigurationError([f'[placement]: {why}'])


def _refusal(response: requests.Response, request: str) -> errors.PlacementError:
    status, code, kind = response.status_code, None, errors.PlacementError
    try:
        error = response.json()['errors'][0]
        detail = one_line(error['detail'])
        code = str(error.get('code', 'placement.undefined_code'))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        detail = _excerpt(response)
    line = f'{request}: {status} {response.reason or ""}: {detail}'
    if _KEYSTONE_AWAY in response.text:
        line = f'{request}: {status}: {_UNCHECKED}'
    elif code is None:
        line += f'{_ADVICE.get(status, _FOREIGN)} (requested: {one_line(response.url)})'
    else:
        line += _ADVICE.get(status, '')
        if status != 409 or code == 'placement.concurrent_update':
            kind = _KINDS.get(status, kind)
    return kind(line, _retry_after(response))


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


def _cause(exc: Exception) -> str:
    """Return the line that explains why there was no answer; urllib3 wraps it four deep."""
    if isinstance(exc, ksa_exceptions.HttpError):
        line = f'Keystone answered {exc.http_status} ({one_line(exc)})'
        if exc.http_status == 401:
            line += (
                '; expected [placement]username, password and project of a valid service user '
                'with a role there'
            )
        return line
    if isinstance(exc, ksa_exceptions.InvalidResponse):
        return f'Keystone answered something that is no token: {_excerpt(exc.response)}'
    if not isinstance(exc, (ksa_exceptions.ClientException, OSError)):
        return f'Keystone answered something that is no token ({type(exc).__name__})'
    # keystoneauth's message begins with the URL, then repeats urllib3's.
    url = one_line(exc).split(': HTTP', 1)[0].split(': (', 1)[0]
    for link in _chain(exc):
        for kind, text in _CAUSES:
            if isinstance(link, kind):
                return text.format(cause=one_line(link), url=url)
        # The exceptions of requests are OSErrors too, but without the system's text.
        if isinstance(link, OSError) and link.strerror:
            return f'{link.strerror}; {url}'
    return one_line(exc)


def _chain(exc: BaseException) -> list[BaseException]:
    """Return the error and all that it wraps, the outermost first."""
    links: list[BaseException] = []
    waiting: list[object] = [exc]
    for link in waiting:  # it grows meanwhile
        if isinstance(link, BaseException) and link not in links:
            links.append(link)
            waiting += [link.__cause__, link.__context__, getattr(link, 'reason', None)]
            waiting += link.args
    return links

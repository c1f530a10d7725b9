# SPDX-License-Identifier: Apache-2.0
"""Every way in which a request to Placement can fail, as one clear line of the right error."""

import datetime
import email.utils
import http.client
import math
import socket
import ssl

import requests
from keystoneauth1 import exceptions as ksa_exceptions
from urllib3 import exceptions as urllib3_exceptions

from fbm_placement import errors, names
from fbm_placement.words import one_line

LONGEST_RETRY_AFTER_SECONDS = 3600.0
_EXCERPT = 120

_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, 'name look-up failed ({})'),
    (ssl.SSLError, 'TLS failed ({}); check [placement]cafile'),
    (ConnectionRefusedError, 'connection refused (is the service up?)'),
    (http.client.RemoteDisconnected, 'the connection was closed without an answer'),
    (requests.exceptions.InvalidSchema, 'the URL has no http:// or https://'),
    (requests.exceptions.MissingSchema, 'the URL has no http:// or https://'),
    (urllib3_exceptions.IncompleteRead, 'the answer broke off'),
)


def unreachable(exc: Exception, what: str) -> errors.PlacementError:
    """Tell why no answer from Placement came.

    :param what: the request, e.g. ``GET /traits``
    """
    retry_after = None
    if isinstance(exc, ksa_exceptions.HttpError):
        retry_after = _retry_after(exc.response)
        line = f'Keystone answered {exc.http_status} ({one_line(exc)})'
        if exc.http_status == requests.codes.unauthorized:
            line += (
                '; expected [placement]username, password and project of a valid service user '
                'with a role there'
            )
    elif isinstance(exc, ksa_exceptions.EndpointNotFound):
        line = (
            'the service catalogue has no such endpoint; expected one of service type '
            '"placement" for [placement]region_name and valid_interfaces (openstack catalog '
            'list), with a token of [placement]project_name, or [placement]endpoint_override'
        )
    elif isinstance(exc, ksa_exceptions.ConnectTimeout):
        line = f'{one_line(exc)}; is the service up, or [placement]timeout too short?'
    elif isinstance(exc, ksa_exceptions.InvalidResponse):
        line = f'Keystone answered something that is no token: {_excerpt(exc.response)}'
    elif isinstance(exc, (ksa_exceptions.ClientException, requests.RequestException, OSError)):
        line = _cause(exc)
    else:
        line = f'Keystone answered something that is no token ({type(exc).__name__})'
    return errors.PlacementError(f'{what}: {line}', retry_after)


_KEYSTONE_AWAY = 'The Keystone service is temporarily unavailable'
"""Of keystonemiddleware (auth_token/__init__.py), which answers in Placement's place."""


def refused(response: requests.Response, what: str) -> errors.PlacementError:
    """Turn an answer that isn't a success into the error that says what to do."""
    code, detail = _error_of(response)
    status = response.status_code
    line = f'{what}: {status} {response.reason or ""}: {detail}'
    if status == requests.codes.conflict and code == 'placement.concurrent_update':
        return errors.ConflictError(line)
    if status == requests.codes.bad_request and code is not None:
        return errors.BadRequestError(line)
    if status == requests.codes.not_found and code is not None:
        return errors.NotFoundError(line)
    if _KEYSTONE_AWAY in response.text:
        return errors.PlacementError(
            f'{what}: {status}: Placement cannot check tokens: is Keystone up, and its database?',
            _retry_after(response),
        )
    asked = '' if code else f' (asked: {one_line(response.url)})'
    if status == requests.codes.forbidden and code is not None:
        return errors.ForbiddenError(line + _advice(status, code))
    return errors.PlacementError(line + _advice(status, code) + asked, _retry_after(response))


def not_json(response: requests.Response, what: str) -> errors.PlacementError:
    """Tell that a success was none: a proxy, a login page, or half an answer."""
    return errors.PlacementError(
        f'{what}: {response.status_code}, but not a JSON object: {_excerpt(response)}; is there a '
        f'proxy or a login page between this host and Placement? (asked: {one_line(response.url)})'
    )


def _advice(status: int, code: str | None) -> str:
    if status == requests.codes.unauthorized:
        return '; the token was refused: check [placement] against the service user in Keystone'
    if status == requests.codes.forbidden:
        return '; the user in [placement] needs the role "service" (or "admin") in its project'
    if status == requests.codes.not_acceptable:
        return f'; microversion {names.MICROVERSION} is needed (Placement of Rocky or later)'
    if code is None:
        return "; this is not Placement's own answer: is it a proxy, or has the endpoint moved?"
    return ''


def _error_of(response: requests.Response) -> tuple[str | None, str]:
    """Return Placement's error code and detail; no code where somebody else answered."""
    try:
        error = response.json()['errors'][0]
        detail, code = str(error['detail']), str(error.get('code', 'placement.undefined_code'))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None, _excerpt(response)
    return code, one_line(detail)


def _excerpt(response: requests.Response) -> str:
    text = one_line(response.text)
    if not text:
        return 'an empty answer'
    kind = one_line(response.headers.get('Content-Type', 'no content type'))
    return f'{kind}, "{text[:_EXCERPT]}{"..." if len(text) > _EXCERPT else ""}"'


def _retry_after(response: requests.Response | None) -> float | None:
    """Return Retry-After in seconds (RFC 9110: a number or a date), None where there is none."""
    value = None if response is None else response.headers.get('Retry-After')
    if value is None:
        return None
    try:
        seconds = _seconds(value)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None


def _seconds(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        then = email.utils.parsedate_to_datetime(value)
    if then.tzinfo is None:
        then = then.replace(tzinfo=datetime.UTC)
    return (then - datetime.datetime.now(datetime.UTC)).total_seconds()


def _cause(exc: BaseException) -> str:
    """Return the telling line of a connection's failure: urllib3 wraps it four deep."""
    for link in _chain(exc):
        for kind, told in _CAUSES:
            if isinstance(link, kind):
                return f'{told.format(one_line(link))}; {_target(exc)}'
        # requests' exceptions are OSErrors too, but have no text of the operating system.
        if isinstance(link, OSError) and link.strerror:
            return f'{link.strerror}; {_target(exc)}'
    return one_line(exc)


def _chain(exc: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    waiting: list[object] = [exc]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and link not in links:
            links.append(link)
            waiting += [link.__cause__, link.__context__, getattr(link, 'reason', None)]
            waiting += list(link.args)
    return links


def _target(exc: BaseException) -> str:
    """Return which URL it was: keystoneauth begins with it, then repeats what urllib3 says."""
    return one_line(exc).split(': HTTP', 1)[0].split(': (', 1)[0]

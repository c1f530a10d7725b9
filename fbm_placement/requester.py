# SPDX-License-Identifier: Apache-2.0
"""One request to Placement: every way in which it can fail becomes one clear line, here."""

import datetime
import email.utils
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import requests
from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from oslo_config import cfg

import fbm_placement
from fbm_placement import errors, names
from fbm_placement.conf import nova

LONGEST_RETRY_AFTER_SECONDS = 3600.0
_EXCERPT = 120

# What can't heal by waiting: the [placement] section itself is wrong.
_UNUSABLE_CONFIGURATION = (
    ksa_exceptions.MissingRequiredOptions,
    ksa_exceptions.NoMatchingPlugin,
    ksa_exceptions.MissingAuthPlugin,
    cfg.Error,
)

_NO_AUTH_TYPE = (
    '[placement]auth_type is not set: expected the same [placement] section as nova-compute has, '
    'e.g. auth_type = password with auth_url, username, ...'
)


def connect(conf: cfg.ConfigOpts) -> ksa_adapter.Adapter:
    """Build the adapter that ``[placement]`` describes, as nova-compute does; asks nobody yet.

    :raises ConfigurationError: the section lacks something, or names what doesn't exist
    """
    group = nova.PLACEMENT_GROUP
    try:
        auth = loading.load_auth_from_conf_options(conf, group)
        if auth is None:
            raise errors.ConfigurationError([_NO_AUTH_TYPE])
        session = loading.load_session_from_conf_options(conf, group, auth=auth)
        return loading.load_adapter_from_conf_options(
            conf,
            group,
            session=session,
            auth=auth,
            client_name='fbm-agent',
            client_version=fbm_placement.version(),
            default_microversion=names.MICROVERSION,
            raise_exc=False,
        )
    except _UNUSABLE_CONFIGURATION as exc:
        raise errors.ConfigurationError([f'[placement]: {_one_line(exc)}']) from exc


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

        :raises PlacementError: or one of its subclasses, see ``_refused``
        """
        return _parsed(self._send('GET', path, params=params), f'GET {path}')

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """PUT a JSON object and return the answer, empty where there is none.

        :raises PlacementError: or one of its subclasses, see ``_refused``
        """
        extra = {} if body is None else {'json': body}
        response = self._send('PUT', path, **extra)
        if response.status_code in (201, 204) and not response.content:
            return {}
        return _parsed(response, f'PUT {path}')

    def _send(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        self._before_request()
        what = f'{method} {path}'
        try:
            response = self._adapter.request(
                path, method, headers={'Accept': 'application/json'}, **kwargs
            )
        except _UNUSABLE_CONFIGURATION as exc:
            raise errors.ConfigurationError([f'[placement]: {_one_line(exc)}']) from exc
        except (ksa_exceptions.ClientException, requests.RequestException, OSError) as exc:
            _unreachable(exc, what)
        if not response.ok:
            _refused(response, what)
        return response


def _unreachable(exc: Exception, what: str) -> NoReturn:
    """Tell why no answer from Placement came, most telling cause first."""
    retry_after = None
    if isinstance(exc, ksa_exceptions.HttpError):
        retry_after = _retry_after(exc.response)
        line = f'Keystone answered {exc.http_status} ({_one_line(exc)})'
        if exc.http_status == 401:
            line += '; expected [placement]username, password and project of a valid service user'
    elif isinstance(exc, ksa_exceptions.EndpointNotFound):
        line = (
            'the service catalogue has no such endpoint; expected one of service type '
            '"placement" for [placement]region_name and valid_interfaces '
            '(openstack catalog list), or [placement]endpoint_override'
        )
    elif isinstance(exc, ksa_exceptions.ConnectTimeout):
        line = f'{_one_line(exc)}; is the service up, or [placement]timeout too short?'
    else:
        line = _cause(exc)
    raise errors.PlacementError(f'{what}: {line}', retry_after) from exc


def _refused(response: requests.Response, what: str) -> NoReturn:
    """Turn an answer that isn't a success into the error that says what to do."""
    code, detail = _error_of(response)
    status = response.status_code
    line = f'{what}: {status} {response.reason or ""}: {detail}'
    retry_after = _retry_after(response)
    if status == 409 and code == 'placement.concurrent_update':
        raise errors.ConflictError(line)
    if status == 400 and code is not None:
        raise errors.BadRequestError(line)
    if status == 404 and code is not None:
        raise errors.NotFoundError(line)
    raise errors.PlacementError(line + _advice(status, code), retry_after)


def _advice(status: int, code: str | None) -> str:
    if status == 401:
        return '; the token was refused: check [placement] against the service user in Keystone'
    if status == 403:
        return '; the user in [placement] needs the role "service" (or "admin") in its project'
    if status == 406:
        return f'; microversion {names.MICROVERSION} is needed (Placement of Rocky or later)'
    if code is None:
        return "; this is not Placement's own answer: is it a proxy, or has the endpoint moved?"
    return ''


def _error_of(response: requests.Response) -> tuple[str | None, str]:
    """Return Placement's error code and detail; no code where somebody else answered."""
    try:
        error = response.json()['errors'][0]
        detail, code = str(error['detail']), str(error.get('code', 'placement.undefined_code'))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None, _excerpt(response)
    return code, ' '.join(detail.split())


def _parsed(response: requests.Response, what: str) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise errors.PlacementError(
            f'{what}: {response.status_code}, but not a JSON object: {_excerpt(response)}; is '
            'there a proxy or a login page between this host and Placement?'
        )
    return body


def _excerpt(response: requests.Response) -> str:
    kind = response.headers.get('Content-Type', 'no content type')
    text = ' '.join(response.text.split())
    return f'{kind}, "{text[:_EXCERPT]}{"..." if len(text) > _EXCERPT else ""}"'


def _retry_after(response: requests.Response | None) -> float | None:
    """Return Retry-After in seconds (RFC 9110: a number or a date), None where there is none."""
    value = None if response is None else response.headers.get('Retry-After')
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        if then.tzinfo is None:
            then = then.replace(tzinfo=datetime.UTC)
        seconds = (then - datetime.datetime.now(datetime.UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _cause(exc: BaseException) -> str:
    """Return the telling line of a connection's failure: urllib3 wraps it four deep."""
    for link in _chain(exc):
        if isinstance(link, socket.gaierror):
            return f'name look-up failed ({link.strerror}); {_target(exc)}'
        if isinstance(link, ssl.SSLError):
            return f'TLS failed ({_one_line(link)}); check [placement]cafile; {_target(exc)}'
        if isinstance(link, ConnectionRefusedError):
            return f'connection refused; is the service up? {_target(exc)}'
    return _one_line(exc)


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
    return _one_line(exc).split(': HTTP', 1)[0]


def _one_line(exc: BaseException) -> str:
    return ' '.join(str(exc).split())

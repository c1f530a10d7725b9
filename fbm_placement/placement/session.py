# SPDX-License-Identifier: Apache-2.0
"""The client for Placement that ``[placement]`` describes, made as nova-compute makes its own."""

import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import requests
from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from oslo_config import cfg

import fbm_placement
from fbm_placement import constants, errors
from fbm_placement.placement import http
from fbm_placement.placement.client import PlacementClient
from fbm_placement.text import config_error_text, one_line

LONGEST_TIMEOUT_SECONDS = 60
"""For one exchange. A larger ``[placement]timeout`` is cut to this."""

_URLS = ('url', 'endpoint', 'endpoint_override')
"""How the names of the options end whose values are URLs."""

_NO_PACKAGE = (
    'a Python package that it needs is missing here: install keystoneauth1[kerberos], [saml2] or '
    '[oauth1]'
)
_NO_AUTH_TYPE = (
    '[placement]auth_type is not set: expected the same [placement] section as nova-compute has, '
    'e.g. auth_type = password with auth_url, username, ...'
)


def connect(
    conf: cfg.ConfigOpts, before_request: Callable[[], None] = lambda: None
) -> PlacementClient:
    """Return a client for the Placement that the section describes; sends nothing yet.

    :param before_request: called before each request; what it raises (StopRequested) ends the pass
        between two requests
    :raises ConfigurationError: the section lacks something, or names what doesn't exist
    """
    if conf.source_errors:
        # What is missing in the section may be there.
        raise errors.ConfigurationError(conf.source_errors)
    sender = adapter(conf)

    def send(method: str, url: str, body: Mapping[str, Any] | None) -> requests.Response:
        before_request()
        json = {} if body is None else {'json': body}
        with http.deadline():
            return sender.request(url, method, headers={'Accept': 'application/json'}, **json)

    return PlacementClient(send)


def adapter(conf: cfg.ConfigOpts) -> ksa_adapter.Adapter:
    """Return the keystoneauth adapter that the section describes; raises as ``connect``."""
    try:
        _check(conf)
        auth = loading.load_auth_from_conf_options(conf, 'placement')
        timeout = _timeout(conf.placement.timeout)
        session = loading.load_session_from_conf_options(
            conf, 'placement', auth=auth, timeout=timeout
        )
        return loading.load_adapter_from_conf_options(
            conf,
            'placement',
            session=session,
            auth=auth,
            client_name='fbm-agent',
            client_version=fbm_placement.version(),
            default_microversion=constants.MICROVERSION,
            raise_exc=False,
            # keystoneauth's own retries sleep where no signal ends it; the loop tries again.
            connect_retries=0,
            status_code_retries=0,
        )
    except errors.ConfigurationError:
        raise
    except Exception as exc:  # an auth plugin raises anything
        raise errors.ConfigurationError([f'[placement]: {_without_values(exc)}']) from exc


def _check(conf: cfg.ConfigOpts) -> None:
    """Check what keystoneauth finds wrong with the first request, as something else, or never."""
    group = conf.placement.auth_section or 'placement'
    auth_type = conf[group].auth_type
    if not auth_type:
        raise errors.ConfigurationError([_NO_AUTH_TYPE])
    try:
        available = loading.get_plugin_loader(auth_type).available
    except ksa_exceptions.NoMatchingPlugin as exc:
        raise errors.ConfigurationError([f'[{group}]auth_type: {one_line(exc)}']) from exc
    except Exception:  # noqa: BLE001 - of its modules, where a package of theirs is missing
        available = False
    if not available:
        raise errors.ConfigurationError([f'[{group}]auth_type is {auth_type}: {_NO_PACKAGE}'])
    reasons = []
    options = loading.get_auth_plugin_conf_options(auth_type)
    conf.register_opts(options, group=group)
    values = {f'[{group}]{opt.dest}': conf[group][opt.dest] for opt in options}
    # A public client of OpenID Connect has no secret.
    needed = {
        f'[{group}]{opt.dest}'
        for opt in options
        if opt.required or (opt.secret and opt.dest != 'client_secret')
    }
    values['[placement]endpoint_override'] = conf.placement.endpoint_override
    for name, value in values.items():
        if name in needed and not value:
            reasons.append(f'{name} is not set: auth_type {auth_type} needs it')
        if value and name.endswith(_URLS) and not _is_url(value):
            seen = one_line(value).rpartition('@')[2]
            reasons.append(f'{name} is {seen}: expected http:// or https:// and a host')
    if reasons:
        raise errors.ConfigurationError(reasons)


def _is_url(value: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ('http', 'https') and bool(parts.hostname)


def _timeout(seconds: float | None) -> float:
    if seconds is not None and seconds <= 0:
        raise errors.ConfigurationError(
            [f'[placement]timeout is {seconds}: expected seconds, more than 0']
        )
    return min(seconds or LONGEST_TIMEOUT_SECONDS, LONGEST_TIMEOUT_SECONDS)


def _without_values(exc: Exception) -> str:
    """Return the reason without a part of a value: it may be of the password."""
    if isinstance(exc, (cfg.NoSuchOptError, cfg.TemplateSubstitutionError)):
        return (
            'a value has a $ that names no option; write $$ for a $ (a password may hold one), '
            'or write the value out'
        )
    return config_error_text(exc) or type(exc).__name__

# SPDX-License-Identifier: Apache-2.0
"""The client for Placement that ``[placement]`` describes, made as nova-compute makes its own."""

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
from fbm_placement.text import config_error_text

LONGEST_TIMEOUT_SECONDS = 60
"""For one exchange. A larger ``[placement]timeout`` is cut to this."""

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
        auth = loading.load_auth_from_conf_options(conf, 'placement')
        if auth is None:
            raise errors.ConfigurationError([_NO_AUTH_TYPE])
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
    # keystoneauth's own checks of the section end in TypeError and ValueError.
    except (ksa_exceptions.ClientException, cfg.Error, TypeError, ValueError) as exc:
        raise errors.ConfigurationError([f'[placement]: {_without_values(exc)}']) from exc


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
    return config_error_text(exc)

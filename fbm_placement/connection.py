# SPDX-License-Identifier: Apache-2.0
"""The client for Placement that ``[placement]`` describes, made as nova-compute makes its own."""

from collections.abc import Callable

from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import loading
from oslo_config import cfg

import fbm_placement
from fbm_placement import errors, http, names
from fbm_placement.placement import PlacementClient

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

    :param before_request: see ``HttpTransport``
    :raises ConfigurationError: the section lacks something, or names what doesn't exist
    """
    return PlacementClient(http.HttpTransport(adapter(conf), before_request))


def adapter(conf: cfg.ConfigOpts) -> ksa_adapter.Adapter:
    """Return the keystoneauth adapter that the section describes; raises as ``connect``."""
    group = names.PLACEMENT_GROUP
    try:
        auth = loading.load_auth_from_conf_options(conf, group)
        if auth is None:
            raise errors.ConfigurationError([_NO_AUTH_TYPE])
        _limit_one_request(conf)
        return loading.load_adapter_from_conf_options(
            conf,
            group,
            session=loading.load_session_from_conf_options(conf, group, auth=auth),
            auth=auth,
            client_name='fbm-agent',
            client_version=fbm_placement.version(),
            default_microversion=names.MICROVERSION,
            raise_exc=False,
        )
    # keystoneauth's own checks of the section end in TypeError and ValueError.
    except (*http.UNUSABLE, TypeError, ValueError) as exc:
        raise http.unusable(exc) from exc


def _limit_one_request(conf: cfg.ConfigOpts) -> None:
    """Keep one request short: keystoneauth's own retries sleep where no signal ends it.

    The loop tries again by itself, and notifies systemd's watchdog between requests.
    """
    section = conf[names.PLACEMENT_GROUP]
    if section.timeout is None or section.timeout > LONGEST_TIMEOUT_SECONDS:
        conf.set_override('timeout', LONGEST_TIMEOUT_SECONDS, names.PLACEMENT_GROUP)
    elif section.timeout <= 0:
        raise errors.ConfigurationError(
            [f'[placement]timeout is {section.timeout}: expected seconds, more than 0']
        )
    for option in ('connect_retries', 'status_code_retries'):
        conf.set_override(option, 0, names.PLACEMENT_GROUP)

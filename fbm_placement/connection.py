# SPDX-License-Identifier: Apache-2.0
"""The connection that ``[placement]`` describes, made as nova-compute makes its own."""

from keystoneauth1 import adapter as ksa_adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from oslo_config import cfg

import fbm_placement
from fbm_placement import errors, names, words
from fbm_placement.conf import nova

UNUSABLE = (
    ksa_exceptions.MissingRequiredOptions,
    ksa_exceptions.NoMatchingPlugin,
    ksa_exceptions.MissingAuthPlugin,
    cfg.Error,
)
"""What no waiting mends: the section itself is wrong."""

LONGEST_TIMEOUT_SECONDS = 60
"""For one exchange. A larger ``[placement]timeout`` is cut to this."""

_NO_AUTH_TYPE = (
    '[placement]auth_type is not set: expected the same [placement] section as nova-compute has, '
    'e.g. auth_type = password with auth_url, username, ...'
)


def connect(conf: cfg.ConfigOpts) -> ksa_adapter.Adapter:
    """Build the adapter that the section describes; asks nobody yet.

    :raises ConfigurationError: the section lacks something, or names what doesn't exist
    """
    group = nova.PLACEMENT_GROUP
    try:
        auth = loading.load_auth_from_conf_options(conf, group)
        if auth is None:
            raise errors.ConfigurationError([_NO_AUTH_TYPE])
        _bound(conf)
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
    # keystoneauth's own checks of the section end in TypeError and ValueError.
    except (*UNUSABLE, TypeError, ValueError) as exc:
        raise unusable(exc) from exc


def _bound(conf: cfg.ConfigOpts) -> None:
    """Keep one request short: keystoneauth's own retries sleep where no signal ends it.

    The loop tries again by itself, and systemd's watchdog hears of the agent between requests.
    """
    section = conf[nova.PLACEMENT_GROUP]
    if section.timeout is None or section.timeout > LONGEST_TIMEOUT_SECONDS:
        conf.set_override('timeout', LONGEST_TIMEOUT_SECONDS, nova.PLACEMENT_GROUP)
    elif section.timeout <= 0:
        raise errors.ConfigurationError(
            [f'[placement]timeout is {section.timeout}: expected seconds, more than 0']
        )
    for option in ('connect_retries', 'status_code_retries'):
        conf.set_override(option, 0, nova.PLACEMENT_GROUP)


def unusable(exc: Exception) -> errors.ConfigurationError:
    """Tell why the section can't be used, without repeating a value: it may be the password."""
    if isinstance(exc, (cfg.NoSuchOptError, cfg.TemplateSubstitutionError)):
        why = (
            'a value has a $ that names no option; write $$ for a $ (a password may hold one), '
            'or write the value out'
        )
    else:
        why = words.of_oslo_config(exc)
    return errors.ConfigurationError([f'[placement]: {why}'])

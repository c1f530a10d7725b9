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
        timeout = conf[group].timeout
        if timeout is not None and timeout <= 0:
            raise errors.ConfigurationError(
                [f'[placement]timeout is {timeout}: expected seconds, more than 0']
            )
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
    except UNUSABLE as exc:
        raise unusable(exc) from exc


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

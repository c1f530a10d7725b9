# SPDX-License-Identifier: Apache-2.0
"""What a check returns."""

import functools

from oslo_upgradecheck.upgradecheck import Code, Result

from fbm_placement.doctor.facts import Facts

success = functools.partial(Result, Code.SUCCESS)
warning = functools.partial(Result, Code.WARNING)
failure = functools.partial(Result, Code.FAILURE)


def required(facts: Facts, details: str) -> Result:
    """Fail if the host is enabled; on a disabled one warn of what has to be done before."""
    if facts.settings.enabled:
        return failure(details)
    return warning(f'before it is turned on: {details}')

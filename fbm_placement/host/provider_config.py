# SPDX-License-Identifier: Apache-2.0
"""The files (provider.yaml) whose traits nova-compute adds to its provider at each report."""

import glob
import os
import re

from fbm_placement import constants

_COMMENT = re.compile(r'#.*')


def naming_own_traits(directory: str) -> tuple[str, ...]:
    """Return the paths of those files that name one of the agent's traits, in order.

    They are found as by ``get_provider_configs`` in nova/compute/provider_config.py.

    :param directory: ``[compute]provider_config_location``
    """
    paths = sorted(glob.glob(os.path.join(glob.escape(directory), '*.yaml')))
    return tuple(path for path in paths if not constants.OWN_TRAITS.isdisjoint(_words(path)))


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return re.findall(r'\w+', _COMMENT.sub('', file.read()))
    except OSError:
        return []

# SPDX-License-Identifier: Apache-2.0
"""Keep instances where their memory can be what it should be: nova-scheduler's side.

``rules.py`` holds the decision table; ``facts.py`` and ``live_migration.py`` read a request;
``prefilter.py`` and ``host_filter.py`` are what Nova calls.
"""

import importlib

__all__ = ('FileBackedMemoryFilter',)


def __getattr__(name: str) -> object:
    """Import what needs Nova only when it is asked for: the options' documentation has no Nova."""
    if name in __all__:
        return getattr(importlib.import_module('fbm_filters.host_filter'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

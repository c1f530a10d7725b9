# SPDX-License-Identifier: Apache-2.0
"""The scheduler's side: keeps instances off hosts whose file-backed memory does not fit them.

``rules.py`` holds the decision table; ``facts.py`` and ``moves.py`` read a request;
``prefilter.py`` and ``host_filter.py`` are what Nova calls.
"""

import importlib

__all__ = ('FileBackedMemoryFilter',)


def __getattr__(name: str) -> object:
    """Import what needs Nova when it is used: the options' documentation is built without Nova."""
    if name in __all__:
        return getattr(importlib.import_module('fbm_filters.host_filter'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

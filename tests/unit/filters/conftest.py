# SPDX-License-Identifier: Apache-2.0
"""The rules and the options are tested everywhere, the rest where Nova is (tox -e nova34)."""

import importlib.util
from pathlib import Path

WITHOUT_NOVA = {'test_policy.py', 'test_rules.py'}

collect_ignore = (
    []
    if importlib.util.find_spec('nova')
    else sorted({path.name for path in Path(__file__).parent.glob('test_*.py')} - WITHOUT_NOVA)
)

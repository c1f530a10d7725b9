# SPDX-License-Identifier: Apache-2.0
"""The tests' own rule: what several modules need is in a helper, not in one of them."""

import pathlib
import re

TESTS = pathlib.Path(__file__).parents[1]
IMPORT = re.compile(r'^\s*(?:from|import) tests\b[^#\n]*\btest_\w+', re.MULTILINE)


def test_no_module_imports_a_test_module():
    found = {path: IMPORT.findall(path.read_text()) for path in TESTS.rglob('*.py')}
    assert {path: imports for path, imports in found.items() if imports} == {}

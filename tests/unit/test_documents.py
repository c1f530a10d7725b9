# SPDX-License-Identifier: Apache-2.0
"""Files that the documents at the root name exist."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NAMED = re.compile(r'(?:``|<)(?!build/)([\w./-]+\.(?:rst|txt|py|yaml|svg))(?:``|>)')


@pytest.mark.parametrize('name', ['README', 'CONTRIBUTING', 'HACKING', 'SECURITY'])
def test_named_files_exist(name):
    named = set(NAMED.findall((REPOSITORY / f'{name}.rst').read_text()))
    rooms = [REPOSITORY, REPOSITORY / 'fbm_placement']
    assert [one for one in named if not any((room / one).exists() for room in rooms)] == []

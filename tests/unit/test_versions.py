# SPDX-License-Identifier: Apache-2.0
"""The oldest versions that pyproject.toml allows are the ones that are tested."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / 'pyproject.toml').read_text())['project']
PINS = dict(
    line.split('==')
    for line in (REPOSITORY / 'constraints-oldest.txt').read_text().splitlines()
    if '==' in line
)


@pytest.mark.parametrize(
    'line', [*PROJECT['dependencies'], *PROJECT['optional-dependencies']['test']]
)
def test_the_oldest_is_tested(line) -> None:
    """``tox -e oldest`` installs just it."""
    requirement = Requirement(line)
    (bound,) = requirement.specifier
    assert bound.operator == '>='
    pinned = PINS[requirement.name.lower()]
    assert requirement.specifier.contains(pinned)
    # 2.3 and 2.3.1 are the same in that sense: the first release of that number.
    assert pinned.split('.')[:2] == bound.version.split('.')[:2]

# SPDX-License-Identifier: Apache-2.0
"""Sizes that keep a module one thing: the directions of imports are import-linter's."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MODULES = sorted(
    path
    for package in ('fbm_placement', 'fbm_filters')
    for path in (REPOSITORY / package).rglob('*.py')
)
ONE_FILE_BY_DESIGN = REPOSITORY / 'fbm_placement/hook/program.py'
"""libvirt runs a copy of it, which finds nothing else of this project."""


def length(node):
    return (node.end_lineno or 0) - node.lineno + 1


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_modules_and_functions_stay_small(path):
    source = path.read_text()

    long_functions = [
        f'{node.name} ({length(node)} lines)'
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and length(node) > 40
    ]

    assert long_functions == []
    assert len(source.splitlines()) <= 300 or path == ONE_FILE_BY_DESIGN


@pytest.mark.parametrize(
    'room', sorted({path.parent for path in MODULES}), ids=lambda path: path.name
)
def test_the_map_of_the_packages_names_each_module(room):
    """CONTRIBUTING.rst, where a newcomer finds what is where."""
    text = (REPOSITORY / 'CONTRIBUTING.rst').read_text().partition('The packages\n')[2]
    names = {path.stem for path in room.glob('*.py')} - {'__init__', '__main__'}

    assert {name for name in names if not re.search(rf'\b{name}\b', text)} == set()


def test_there_are_at_most_20_rooms():
    """A room is a folder with modules in it, or a module at a package's root."""
    rooms = {
        path.parent if path.parent.parent != REPOSITORY else path
        for path in MODULES
        if path.parent.name != 'fbm_filters' and path.name != '__init__.py'
    } | {REPOSITORY / 'fbm_filters'}

    assert len(rooms) <= 20, sorted(map(str, rooms))

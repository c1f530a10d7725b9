# SPDX-License-Identifier: Apache-2.0
"""Mutation tests of the pure rules: how many one-step faults their unit tests notice.

The faults are those of cosmic-ray's operators. Each mutant runs in a fork of this process, which
has imported pytest already, so that it costs a third of a second; the file on disk stays as it is.

``make mutants`` runs all, ``.venv/bin/tox run -e mutants -- fbm_placement/rules/store.py`` one
module. It takes a few minutes, so CI does not run it; HACKING.rst has the last score.
"""

import ast
import concurrent.futures
import contextlib
import difflib
import importlib.machinery
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import hypothesis
import pytest
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import MutationVisitor

REPOSITORY = Path(__file__).parents[1]
SECONDS = 20
"""For one test of a mutant; one that never ends has been noticed."""
WORKERS = 2
NO_FAULTS = (
    'core/ReplaceComparisonOperator_Is_Eq',  # the same for None and for members of an enum
    'core/ReplaceComparisonOperator_IsNot_NotEq',
)

RULES = {
    'fbm_placement/rules/config.py': ('tests/unit/rules/test_config.py',),
    'fbm_placement/rules/draining.py': ('tests/unit/rules/test_draining.py',),
    'fbm_placement/rules/hysteresis.py': ('tests/unit/rules/test_hysteresis.py',),
    'fbm_placement/rules/publish.py': ('tests/unit/rules/test_publish.py',),
    'fbm_placement/rules/restarts.py': ('tests/unit/rules/test_restarts.py',),
    'fbm_placement/rules/store.py': ('tests/unit/rules/test_store.py',),
    'fbm_placement/hook/program.py': ('tests/unit/hook/test_decision.py',),
    'fbm_filters/rules.py': ('tests/unit/filters/test_rules.py',),
}
"""The modules, and the unit tests that must notice a fault in them."""

DECISIONS = {
    'fbm_placement/hook/program.py': frozenset(
        ('decide', 'wrong_kind', 'needs_store', 'unfit_store', 'lacks_room', 'unchecked')
    ),
}
"""Of a module that does more than to decide: its functions that do."""


def mutants(path: str) -> Iterator[tuple[str, str]]:
    """Return the diff and the source of every mutant of a module."""
    source = (REPOSITORY / path).read_text()
    only = DECISIONS.get(path)
    for name in plugins.operator_names():
        operator_class = plugins.get_operator(name)
        if name in NO_FAULTS or operator_class.arguments():
            continue
        positions = [
            ASTQuery(node).get_definition_name()
            for node in ast_nodes(get_ast(source))
            for _ in operator_class().mutation_positions(node)
        ]
        for occurrence, definition in enumerate(positions):
            if only is not None and definition not in only:
                continue
            visitor = MutationVisitor(occurrence, operator_class())
            mutated = visitor.walk(get_ast(source)).get_code()
            with contextlib.suppress(SyntaxError):
                if _meaning(mutated) == _meaning(source):
                    continue
            diff = difflib.unified_diff(
                source.splitlines(), mutated.splitlines(), lineterm='', n=0
            )
            yield f'{name}: ' + ' '.join(list(diff)[2:]), mutated


def _meaning(source: str) -> str:
    """Return what a module does: annotations and ``dataclass(frozen=True)`` are no rules."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ('annotation', 'returns'):
            if hasattr(node, name):
                setattr(node, name, ast.Constant(None))
        if isinstance(node, ast.ClassDef):
            node.decorator_list = []
    return ast.dump(tree)


def is_noticed(path: str, mutated: str) -> bool:
    """Run the module's tests over the mutant in a fork; whether they fail."""
    child = os.fork()
    if child == 0:
        _run(path, mutated)
    _, status = os.waitpid(child, 0)
    return status != 0


def _run(path: str, mutated: str) -> None:
    """Run in the fork; never returns."""
    code = 1
    with contextlib.suppress(BaseException):
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        hypothesis.settings.register_profile('mutants', database=None, derandomize=True)
        hypothesis.settings.load_profile('mutants')
        _load_instead(path, mutated)
        options = ['-q', '-x', '-p', 'no:cacheprovider', '-p', 'no:xdist', f'--timeout={SECONDS}']
        code = int(pytest.main([*options, *RULES[path]]))
    os._exit(code)


def _load_instead(path: str, mutated: str) -> None:
    real = importlib.machinery.SourceFileLoader.get_code
    where = str(REPOSITORY / path)

    def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> CodeType | None:
        if os.path.realpath(self.path) == where:
            return compile(mutated, where, 'exec', dont_inherit=True)
        return real(self, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[assignment]


def score(path: str) -> tuple[int, int]:
    """Return how many mutants were noticed, of how many; print those that were not."""
    source = (REPOSITORY / path).read_text()
    if is_noticed(path, source):
        sys.exit(f'{path}: its tests fail without a fault: {" ".join(RULES[path])}')
    found = list(mutants(path))
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        noticed = list(pool.map(lambda one: is_noticed(path, one[1]), found))
    for (fault, _), seen in zip(found, noticed, strict=True):
        if not seen:
            print(f'  survived: {fault}')
    print(f'{path}: {sum(noticed)} of {len(found)} ({sum(noticed) / len(found):.1%})', flush=True)
    return sum(noticed), len(found)


def main() -> int:
    """Print the score of each module and of all."""
    os.chdir(REPOSITORY)
    scores = [score(path) for path in sys.argv[1:] or RULES]
    noticed, of_all = (sum(column) for column in zip(*scores, strict=True))
    print(f'noticed: {noticed} of {of_all} ({noticed / of_all:.1%})')
    return 0


if __name__ == '__main__':
    sys.exit(main())

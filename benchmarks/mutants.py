# SPDX-License-Identifier: Apache-2.0
"""Mutation tests of the pure rules: how many one-step faults their unit tests notice.

The faults are those of cosmic-ray's operators. Each mutant runs in a fork of this process, which
has imported what the tests use, so that it costs a third of a second. The file on disk stays as it
is.

``make mutants`` runs all and writes the scores to ``benchmarks/mutants.rst``;
``.venv/bin/tox run -e mutants -- fbm_placement/rules/store.py`` runs one. The exit code is 1
where a module scores less than LEAST. ``benchmarks/mutants.toml`` has the mutants that change
nothing, each with the reason. They do not count, unless a test notices one: then its entry is
wrong. An entry is for one mutant: it has the function, the line, and what the line becomes.
"""

import ast
import concurrent.futures
import contextlib
import difflib
import importlib.machinery
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import hypothesis
import oslo_log.log  # noqa: F401 - imported once, not in each fork
import pytest
import requests_mock  # noqa: F401
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import MutationVisitor

REPOSITORY = Path(__file__).parents[1]
SECONDS = 20
"""For one test of a mutant; one that never ends has been noticed."""
WORKERS = 2
LEAST = 0.95
"""Of a module's mutants, those that change nothing aside, so many must be noticed."""
EQUIVALENT = Path(__file__).with_suffix('.toml')
RECORD = Path(__file__).with_suffix('.rst')
NO_FAULTS = (
    'core/ReplaceComparisonOperator_Is_Eq',  # the same for None and for members of an enum
    'core/ReplaceComparisonOperator_IsNot_NotEq',
)

RULES = {
    'fbm_placement/rules/author.py': ('tests/unit/rules/test_author.py',),
    'fbm_placement/rules/config.py': ('tests/unit/rules/test_config.py',),
    'fbm_placement/rules/draining.py': ('tests/unit/rules/test_draining.py',),
    'fbm_placement/rules/edit.py': ('tests/unit/rules/test_edit.py',),
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


@dataclass(frozen=True)
class Mutant:
    """A fault in one line of a function, or of the module itself."""

    function: str | None
    line: str
    becomes: str
    operator: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What an entry in the list of equivalent mutants names."""
        return self.function or '', self.line, self.becomes

    def __str__(self) -> str:
        where = f'in = {self.function!r}, ' if self.function else ''
        return f'{where}line = {self.line!r}, becomes = {self.becomes!r} ({self.operator})'


def mutants(path: str) -> Iterator[Mutant]:
    """Return every mutant of a module, each once."""
    source = (REPOSITORY / path).read_text()
    only = DECISIONS.get(path)
    seen = {source}
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
            if mutated in seen:
                continue
            seen.add(mutated)
            with contextlib.suppress(SyntaxError):
                if _meaning(mutated) == _meaning(source):
                    continue
            lines = difflib.ndiff(source.splitlines(), mutated.splitlines())
            changed = [line for line in lines if line[0] in '-+']
            line, becomes = (
                ' '.join(one[2:].strip() for one in changed if one[0] == sign) for sign in '-+'
            )
            yield Mutant(definition, line, becomes, name, mutated)


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


@dataclass(frozen=True)
class Score:
    """How many mutants of a module there are, which were noticed, and which change nothing."""

    path: str
    mutants: int
    noticed: int
    equivalent: int

    @property
    def share(self) -> float:
        """Of the mutants that do change something, those that were noticed."""
        return self.noticed / (self.mutants - self.equivalent)

    def __str__(self) -> str:
        return (
            f'{self.path}: {self.noticed} of {self.mutants} noticed, {self.equivalent} change '
            f'nothing: {self.share:.1%}'
        )


def score(path: str) -> tuple[Score, list[str]]:
    """Return the score of a module, and what is wrong with the list of equivalent mutants."""
    source = (REPOSITORY / path).read_text()
    if is_noticed(path, source):
        sys.exit(f'{path}: its tests fail without a fault: {" ".join(RULES[path])}')
    found = list(mutants(path))
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        noticed = list(pool.map(lambda one: is_noticed(path, one.source), found))
    survivors = [one for one, seen in zip(found, noticed, strict=True) if not seen]
    entries, errors = _equivalent(path, found, survivors)
    for one in survivors:
        if one.key not in entries:
            print(f'  survived: {one}')
    result = Score(path, len(found), sum(noticed), len(entries))
    print(result, flush=True)
    return result, errors


def _equivalent(
    path: str, found: Sequence[Mutant], survivors: Sequence[Mutant]
) -> tuple[set[tuple[str, str, str]], list[str]]:
    """Return the keys that stand for one survivor each, and an error for every other entry."""
    listed = tomllib.loads(EQUIVALENT.read_text())
    errors = [f'{EQUIVALENT.name}: {name} is not tested' for name in set(listed) - set(RULES)]
    right: set[tuple[str, str, str]] = set()
    for entry in listed.get(path, ()):
        key = entry.get('in', ''), entry['line'], entry['becomes']
        count = sum(one.key == key for one in found)
        if count != 1:
            errors.append(f'{EQUIVALENT.name}: {count} mutants of {path} are {key}, expected 1')
        elif key in right:
            errors.append(f'{EQUIVALENT.name}: {key} of {path} is there twice')
        elif not entry['reason'].strip():
            errors.append(f'{EQUIVALENT.name}: {key} of {path} has no reason')
        elif all(one.key != key for one in survivors):
            errors.append(f'{EQUIVALENT.name}: a test notices {key} of {path}: delete the entry')
        else:
            right.add(key)
    return right, errors


def _write_record(scores: Sequence[Score]) -> None:
    rows = [('Module', 'Mutants', 'Change nothing', 'Noticed', 'Score')]
    rows += [
        (s.path, str(s.mutants), str(s.equivalent), str(s.noticed), f'{s.share:.1%}')
        for s in scores
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ' '.join('=' * width for width in widths)
    lines = [
        ' '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    text = 'Written by ``make mutants``: faults in the rules that the unit tests notice.'
    RECORD.write_text('\n'.join((text, '', rule, lines[0], rule, *lines[1:], rule, '')))


def main() -> int:
    """Print the score of each module; return 1 where one is too low or the list is wrong."""
    os.chdir(REPOSITORY)
    results = [score(path) for path in sys.argv[1:] or RULES]
    scores = [result for result, _ in results]
    errors = dict.fromkeys(error for _, errors in results for error in errors)
    if not sys.argv[1:]:
        _write_record(scores)
    low = [f'{one.path}: less than {LEAST:.0%}' for one in scores if one.share < LEAST]
    for line in (*errors, *low):
        print(line, file=sys.stderr)
    return 1 if low or errors else 0


if __name__ == '__main__':
    sys.exit(main())

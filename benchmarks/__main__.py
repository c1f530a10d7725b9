# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks: ``python -m benchmarks [NAME ...]``."""

import argparse
import ast
import importlib
import sys
from pathlib import Path

from benchmarks.measurement import Measurement, table

BENCHMARKS = {
    'requests': 'requests_per_pass',
    'memory': 'memory',
    'passes': 'passes',
    'hook': 'hook',
    'guests': 'guests',
    'store': 'store',
    'filter': 'filter',
    'prefilter': 'prefilter',
    'snapshot': 'snapshot',
}
"""Modules by the names that a user knows."""

NEED_NOVA = frozenset({'filter', 'prefilter', 'snapshot'})


def main() -> int:
    """Run those that were named, or all; return 1 where a budget is missed."""
    known = '\n'.join(f'  {name:<10} {_summary(name)}' for name in BENCHMARKS)
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks',
        description='Measures what this project costs, and prints it beside its budgets.',
        epilog=f'benchmarks:\n{known}\n\nExit code 1: a budget is missed.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('names', nargs='*', metavar='NAME', help='which; all if none is named')
    chosen = parser.parse_args().names or list(BENCHMARKS)
    if unknown := sorted(set(chosen) - set(BENCHMARKS)):
        parser.error(f'no such benchmark: {", ".join(unknown)}; there are {", ".join(BENCHMARKS)}')
    measurements: list[Measurement] = []
    for name in chosen:
        if name in NEED_NOVA and (missing := _missing()):
            print(f'{name}: skipped, it needs Nova with its tests: no {missing}', file=sys.stderr)
            continue
        print(f'{name} ...', file=sys.stderr, flush=True)
        measurements += importlib.import_module(f'benchmarks.{BENCHMARKS[name]}').run()
    if measurements:
        print(table(measurements))
    return 0 if all(measurement.kept for measurement in measurements) else 1


def _missing() -> str | None:
    """Import what Nova's benchmarks need, in its order; return what isn't installed."""
    try:
        importlib.import_module('tests.functional.nova.harness')
        importlib.import_module('placement.tests.functional.fixtures.placement')
    except ModuleNotFoundError as exc:
        return exc.name
    return None


def _summary(name: str) -> str:
    """Read it from the source: the modules import much, and some what may not be there."""
    source = Path(__file__).with_name(f'{BENCHMARKS[name]}.py').read_text(encoding='utf-8')
    return (ast.get_docstring(ast.parse(source)) or '').splitlines()[0]


if __name__ == '__main__':
    sys.exit(main())

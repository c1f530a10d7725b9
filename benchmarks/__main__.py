# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks: ``python -m benchmarks [NAME ...]``."""

import argparse
import sys
from types import ModuleType

from benchmarks import memory, passes, requests_per_pass
from benchmarks.measurement import Measurement, table

BENCHMARKS: dict[str, ModuleType] = {
    'requests': requests_per_pass,
    'memory': memory,
    'passes': passes,
}


def main() -> int:
    """Run those that were named, or all; return 1 where a budget is missed."""
    known = '\n'.join(f'  {name:<10} {_summary(part)}' for name, part in BENCHMARKS.items())
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
        print(f'{name} ...', file=sys.stderr, flush=True)
        measurements += BENCHMARKS[name].run()
    print(table(measurements))
    return 0 if all(measurement.kept for measurement in measurements) else 1


def _summary(part: ModuleType) -> str:
    return (part.__doc__ or '').strip().splitlines()[0]


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""``fbm-status guests``."""

import argparse
import os
import sys
import time
from dataclasses import replace

from oslo_config import cfg

from fbm_placement import errors
from fbm_placement.cmd import exit_codes
from fbm_placement.guests import orphans, output, report
from fbm_placement.guests.report import Report
from fbm_placement.text import count, printable

_DESCRIPTION = (
    'Lists the guests of libvirt that run on this host: how much memory they have, what it is '
    'backed by, in which file, and how much of the file is allocated. It reads the mappings of '
    'their processes, not their XML. Lists orphans, too: RAM files of no running guest. Needs '
    'root. Exit code 1: a guest is not as new ones on this host are, there is an orphan, or '
    'something is not known.'
)


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    parser = subparsers.add_parser(
        'guests', help='list guests, how they are backed, and orphans', description=_DESCRIPTION
    )
    parser.add_argument(
        '-f',
        '--format',
        choices=('table', 'json'),
        default='table',
        help='a table for people, or JSON for programs (default: %(default)s)',
    )
    parser.add_argument(
        '--remove-orphans',
        action='store_true',
        help='remove the RAM files of no running guest; asks first. A file that any process has '
        f'open, or that was written in the last {orphans.YOUNG_SECONDS} s, is left alone.',
    )
    parser.add_argument('--yes', action='store_true', help='with --remove-orphans: do not ask')
    parser.set_defaults(func=run)


def run(conf: cfg.ConfigOpts) -> int:
    """Print the report; HostError: this is not root; or orphans shall be removed, and must not."""
    if os.geteuid() != 0:
        raise errors.HostError(
            "the mappings of guests' processes can be read by root only: expected user id 0, this "
            f'is {os.geteuid()}; run sudo fbm-status guests'
        )
    seen = report.scan(conf)
    refusal = None
    if conf.command.remove_orphans:
        refusal = _refusal(seen, asks=not conf.command.yes)
        if refusal is None and _agreed(seen, conf.command.yes):
            seen = replace(seen, orphans=orphans.remove(seen.orphans or (), time.time()))
    if conf.command.format == 'json':
        exit_codes.show(output.as_json(seen), sys.stdout)
    else:
        exit_codes.show(output.as_text(seen), sys.stdout)
        for error in seen.errors:
            exit_codes.show(printable(error), sys.stderr)
    if refusal is not None:
        raise errors.HostError(refusal)
    return exit_codes.GOOD if seen.good else exit_codes.NOT_GOOD


def _refusal(seen: Report, *, asks: bool) -> str | None:
    if seen.orphans is None:
        return f'nothing is removed: {seen.orphans_unknown}'
    if seen.orphans and asks and not sys.stdin.isatty():
        return 'nothing is removed: there is no terminal to ask on; run it in one, or add --yes'
    return None


def _agreed(seen: Report, yes: bool) -> bool:
    """Return whether the operator wants the orphans removed; the young ones would be left."""
    old = [one for one in seen.orphans or () if not one.is_young]
    if yes or not old:
        return True
    # Not stdout: that is for the report, which a program may read.
    total = output.mib(sum(orphan.allocated_bytes for orphan in old))
    files = count(len(old), 'file', 'files')
    question = f'Remove {files} of no running guest, {total} MiB? [y/N] '
    print(*map(output.orphan_line, old), question, sep='\n', end='', file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ('y', 'yes')

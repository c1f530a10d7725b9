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
from fbm_placement.host.probe import Probe
from fbm_placement.inspection import files_in_use, removal, rendering, report
from fbm_placement.inspection.orphans import YOUNG_SECONDS
from fbm_placement.inspection.report import Orphan, Places, Report
from fbm_placement.words import count, printable

_DESCRIPTION = (
    'Lists the guests of libvirt that run on this host: how much memory they have, what it really '
    'is, in which file, and how much of that is allocated. It looks at the mappings of their '
    'processes, not at their XML. Lists RAM files of no running guest, too. Needs root. '
    'Exit code 1: a guest is not as new ones on this host are, a file is without its guest, or '
    'something could not be seen.'
)


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add ``guests`` to the parsers of a command line."""
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
        f'open, or that was written in the last {YOUNG_SECONDS} s, is left alone.',
    )
    parser.add_argument('--yes', action='store_true', help='with --remove-orphans: do not ask')
    parser.set_defaults(func=run)


def run(conf: cfg.ConfigOpts) -> int:
    """Print what was seen.

    :raises HostError: this is not root
    :raises RefusedError: orphans shall be removed, and must not
    """
    if os.geteuid() != 0:
        raise errors.HostError(
            "the mappings of guests' processes can be read by root only: expected user id 0, this "
            f'is {os.geteuid()}; run sudo fbm-status guests'
        )
    places = Places()
    seen = report.look(conf, places)
    refused = None
    if conf.command.remove_orphans:
        refused = _refused(seen, asks=not conf.command.yes)
        if refused is None:
            seen = _remove_agreed(seen, places, agreed=conf.command.yes)
    _print(seen, conf.command.format)
    if refused is not None:
        raise removal.RefusedError(refused)
    return exit_codes.GOOD if seen.good else exit_codes.NOT_GOOD


def _refused(seen: Report, *, asks: bool) -> str | None:
    if seen.orphans is None:
        return f'nothing is removed: {seen.orphans_unknown}'
    if seen.orphans and asks and not sys.stdin.isatty():
        return (
            'nothing is removed: nobody is there to be asked; run it in a terminal, or add --yes'
        )
    return None


def _remove_agreed(seen: Report, places: Places, *, agreed: bool) -> Report:
    """Ask and remove; return the report with what became of the orphans."""
    old = [one for one in seen.orphans or () if one.age_seconds >= YOUNG_SECONDS]
    if old and not agreed and not _agrees(old):
        return seen
    guests = [one.guest for one in seen.guests]
    probe, this = Probe(report.PROBE_SECONDS), os.getpid()
    checks = removal.Checks(
        in_use=lambda: files_in_use.ask_files_in_use(probe, places.proc, but_of=this),
        domains=lambda: report.running_domains(guests, places),
        now=time.time,
    )
    return replace(seen, orphans=tuple(_removed(one, checks) for one in seen.orphans or ()))


def _removed(orphan: Orphan, checks: removal.Checks) -> Orphan:
    try:
        return replace(orphan, freed_bytes=removal.remove(orphan.file, checks))
    except removal.LeftError as exc:
        return replace(orphan, left_because=str(exc))


def _agrees(orphans: list[Orphan]) -> bool:
    # Not stdout: that is for the report, which a program may read.
    total = rendering.mib(sum(orphan.file.allocated_bytes for orphan in orphans))
    lines = [rendering.orphan_line(orphan) for orphan in orphans]
    files = count(len(orphans), 'file', 'files')
    question = f'Remove {files} of no running guest, {total} MiB? [y/N] '
    print(*lines, question, sep='\n', end='', file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ('y', 'yes')


def _print(seen: Report, output_format: str) -> None:
    if output_format == 'json':
        exit_codes.show(rendering.as_json(seen), sys.stdout)
        return
    exit_codes.show(rendering.as_text(seen), sys.stdout)
    for error in seen.troubles:
        exit_codes.show(printable(error), sys.stderr)

# SPDX-License-Identifier: Apache-2.0
"""The same requests with and without our parts, and the table that shows both."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.openstack.api import LATEST, Server
from tests.e2e.openstack.cloud import Cloud
from tests.services.process import wait_until

Boot = Callable[..., Server]


@dataclass(frozen=True)
class Outcome:
    status: str
    """The server's, in the end."""
    host: str | None
    moved: bool
    seconds: float
    reason: str
    """What the administrator reads in the server's event or fault."""
    intact: bool | None
    """Whether the guest has counted on, its memory whole; None: there is none."""

    def text(self) -> str:
        took = f'{self.seconds:.1f} s'
        if self.moved:
            came = f'moved to {self.host} in {took}'
        elif self.status == 'ACTIVE':
            came = f'refused after {took}'
        else:
            came = f'failed after {took}'
        guest = {True: ', the guest unharmed', False: ', the guest harmed', None: ''}[self.intact]
        reason = f': "{_escaped(self.reason)}"' if self.reason else '; no reason is given'
        return f'**{self.status}**, {came}{guest}{"" if self.moved else reason}'


def live_migration(source: str, target: str | None, *, force: bool = False):
    def run(cloud: Cloud, boot: Boot, _create: Boot) -> Outcome:
        server = boot(host=source)
        counted = server.guest().counter()
        began = time.monotonic()
        microversion = '2.60' if force else LATEST
        ended = server.live_migrate(target, microversion=microversion, force=force)
        seconds = time.monotonic() - began
        if not ended.succeeded and ended.event != 'conductor_live_migrate_instance':
            # It comes after the end of the event; what the conductor refuses stays ACTIVE.
            wait_until(lambda: server.status == 'ERROR', 'in ERROR')
        shown = server.show()
        host = shown['OS-EXT-SRV-ATTR:host']
        guest = server.guest()
        intact = guest.counts(since=counted) and guest.has_pattern()
        return Outcome(shown['status'], host, host != source, seconds, ended.details, intact)

    return run


def page_size(cloud: Cloud, _boot: Boot, create: Boot) -> Outcome:
    cloud.flavor('pages', **{'hw:mem_page_size': 'small'})
    began = time.monotonic()
    refused = create('pages', host='disk')
    seconds = time.monotonic() - began
    return Outcome('ERROR', None, False, seconds, refused.refusal(), None)


CASES: Mapping[str, Callable[[Cloud, Boot, Boot], Outcome]] = {
    'A file-backed guest moves live; the scheduler chooses between another enabled host and an '
    'emptier disabled one': live_migration('disk', None),
    'A file-backed guest is to move live to a disabled host': live_migration('disk', 'plain'),
    'A DRAM guest is to move live to an enabled host': live_migration('plain', 'disk'),
    'A DRAM guest is to move live; all other hosts are enabled': live_migration('plain', None),
    'The same to a disabled host, forced (microversion 2.60)': live_migration(
        'disk', 'plain', force=True
    ),
    'A server with a page size is to start on an enabled host': page_size,
}


def write(path: Path, rows: Mapping[str, Mapping[bool, Outcome]]) -> None:
    """Write the table as reStructuredText; `rows` has outcomes without and with our parts."""
    lines = [
        '.. Written by tests/e2e/openstack: a run of "make e2e" writes it.',
        '',
        '.. list-table:: The same requests in the same cloud',
        '   :header-rows: 1',
        '   :widths: 28 36 36',
        '',
        '   * - What is asked for',
        '     - Nova alone',
        '     - With fbm-placement',
    ]
    for case, outcomes in rows.items():
        lines.append(f'   * - {case}')
        lines += [f'     - {outcomes[ours].text()}' for ours in (False, True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')


def without_times(table: str) -> str:
    """Return what is the same in each run."""
    return re.sub(r'\b\d+\.\d s', 'N s', table)


def _escaped(text: str) -> str:
    """Return one line, in which reStructuredText finds no markup, without the server's UUID."""
    line = re.sub(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '…', ' '.join(text.split()))
    return re.sub(r'([\\*`_|])', r'\\\1', line)

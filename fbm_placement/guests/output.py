# SPDX-License-Identifier: Apache-2.0
"""The report of ``fbm-status guests``: a table for people, JSON for programs."""

import json
from collections.abc import Sequence
from typing import Any

import prettytable  # type: ignore[import-untyped,unused-ignore]
from oslo_utils import units

from fbm_placement.guests.mappings import Ram
from fbm_placement.guests.orphans import Orphan
from fbm_placement.guests.report import GuestMemory, Report, State
from fbm_placement.rules import draining
from fbm_placement.text import count, printable, state_name

_GUEST_COLUMNS = ('guest', 'uuid', 'owner', 'memory MiB', 'backed by', 'file', 'allocated MiB')
_ORPHAN_COLUMNS = ('orphan', 'size MiB', 'allocated MiB', 'age')
_ORPHAN_KEYS = (
    *('path', 'size_bytes', 'allocated_bytes', 'age_seconds'),
    *('removed', 'freed_bytes', 'left_because'),
)
_AGES = ((86400, 'd'), (3600, 'h'), (60, 'min'))


def as_json(report: Report) -> str:
    """Return one object; each key names its unit."""
    left = report.orphans
    return json.dumps(
        {
            'state': {'configured': _configured(report.state), 'source': report.state.source},
            'guests': [_guest(one, report.state) for one in report.guests],
            'orphans': None
            if left is None
            else [{key: getattr(one, key) for key in _ORPHAN_KEYS} for one in left],
            'freed_bytes': _freed_bytes(report),
            'trouble': list(report.errors),
        },
        indent=2,
    )


def as_text(report: Report) -> str:
    """Return tables and their summaries, without the errors."""
    configured = _configured(report.state) or 'unknown'
    parts = [f'file-backed memory on this host: {configured} ({printable(report.state.source)})']
    parts.append(_guest_table(report) if report.guests else 'No guest runs here.')
    draining_problem = draining.problem(bool(report.state.enabled), report.remaining)
    if draining_problem is not None:
        parts.append(printable(draining_problem.text))
    if report.orphans:
        parts.append(_orphan_table(report.orphans))
    elif report.orphans is not None:
        parts.append('There are no orphans.')
    if removed := sum(orphan.removed for orphan in report.orphans or ()):
        files = count(removed, 'file', 'files')
        parts.append(f'{files} removed, {mib(_freed_bytes(report))} MiB freed')
    return '\n'.join(parts)


def orphan_line(orphan: Orphan) -> str:
    """Return a description of an orphan in one line."""
    size, age = mib(orphan.allocated_bytes), format_age(orphan.age_seconds)
    return f'{printable(orphan.path)} ({size} MiB, {age} old)'


def mib(size_bytes: int) -> str:
    """Return bytes as MiB."""
    return f'{size_bytes / units.Mi:.1f}'.removesuffix('.0')


def format_age(seconds: int) -> str:
    """Return an age in the largest unit of which it is at least two."""
    for length, unit in _AGES:
        if seconds >= 2 * length:
            return f'{seconds // length} {unit}'
    return f'{seconds} s'


def _freed_bytes(report: Report) -> int:
    return sum(orphan.freed_bytes or 0 for orphan in report.orphans or ())


def _configured(state: State) -> str | None:
    return None if state.enabled is None else state_name(state.enabled)


def _guest(one: GuestMemory, state: State) -> dict[str, Any]:
    guest = one.guest
    return {
        'name': guest.name,
        'uuid': guest.uuid,
        'pid': guest.pid,
        'owner': _owner(one),
        'memory_mib': guest.memory_mib,
        'backing': None if one.error else one.backing.value,
        'composition': [
            {'kind': kind.value, 'size_mib': size} for kind, size in one.composition.items()
        ],
        'files': [
            {
                'path': ram.path,
                'kind': ram.kind.value,
                'deleted': ram.deleted,
                'mapped_bytes': ram.size_bytes,
                'allocated_bytes': ram.allocated_bytes,
            }
            for ram in one.files
        ],
        'as_state_says': one.matches(state),
        'trouble': one.error,
    }


def _guest_table(report: Report) -> str:
    rows = [
        (
            printable(one.guest.name),
            one.guest.uuid,
            _owner(one),
            str(one.guest.memory_mib),
            _backed_by(one),
            '\n'.join(_file(ram) for ram in one.files) or '-',
            '\n'.join(_allocated(ram) for ram in one.files) or '-',
            _note(one, report.state),
        )
        for one in report.guests
    ]
    return _table(_GUEST_COLUMNS, rows)


def _owner(one: GuestMemory) -> str:
    return 'nova' if one.guest.is_nova else 'other'


def _backed_by(one: GuestMemory) -> str:
    parts = one.composition.items()
    with_size = len(parts) > 1
    lines = (f'{kind.value} {size} MiB' if with_size else kind.value for kind, size in parts)
    return '\n'.join(lines) or '?'


def _file(ram: Ram) -> str:
    return printable(ram.path) + (' (deleted)' if ram.deleted else '')


def _allocated(ram: Ram) -> str:
    return '?' if ram.allocated_bytes is None else mib(ram.allocated_bytes)


def _note(one: GuestMemory, state: State) -> str:
    notes = ['not known'] if one.error else []
    if one.matches(state) is False:
        notes.append(f'not as on a host that is {_configured(state)}')
    if any(ram.deleted for ram in one.files):
        notes.append('its file is freed when it ends')
    return '\n'.join(notes)


def _orphan_table(orphans: Sequence[Orphan]) -> str:
    rows = [
        (
            printable(orphan.path),
            mib(orphan.size_bytes),
            mib(orphan.allocated_bytes),
            format_age(orphan.age_seconds),
            _outcome(orphan),
        )
        for orphan in orphans
    ]
    return _table(_ORPHAN_COLUMNS, rows)


def _outcome(orphan: Orphan) -> str:
    if orphan.freed_bytes is not None:
        return f'removed, {mib(orphan.freed_bytes)} MiB freed'
    return f'left: {printable(orphan.left_because)}' if orphan.left_because else ''


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the last cell of each row is a note, a column only if there is one."""
    table = prettytable.PrettyTable([*columns, 'note'])
    table.align = 'l'
    for name in columns:
        if name.endswith('MiB'):
            table.align[name] = 'r'
    for row in rows:
        table.add_row(list(row))
    noted = any(row[-1] for row in rows)
    return str(table.get_string(fields=[*columns, 'note'] if noted else columns))

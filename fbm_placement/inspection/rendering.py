# SPDX-License-Identifier: Apache-2.0
"""The report of ``fbm-status guests``: a table for people, JSON for programs."""

import json
from collections.abc import Sequence
from typing import Any

import prettytable  # type: ignore[import-untyped,unused-ignore]

from fbm_placement.host import draining
from fbm_placement.inspection.report import File, GuestMemory, Orphan, Report, State
from fbm_placement.words import count, printable, state_name

MIB = 2**20

_GUEST_COLUMNS = ('guest', 'uuid', 'whose', 'memory MiB', 'backed by', 'file', 'allocated MiB')
_ORPHAN_COLUMNS = ('orphan', 'size MiB', 'allocated MiB', 'age')
_NUMBERS = ('memory MiB', 'allocated MiB', 'size MiB')
_UNKNOWN = '?'
_AGES = ((86400, 'd'), (3600, 'h'), (60, 'min'), (1, 's'))


def as_json(report: Report) -> str:
    """Return one object; each key says its unit."""
    left = report.orphans
    return json.dumps(
        {
            'state': {'configured': _configured(report.state), 'source': report.state.source},
            'guests': [_guest(one, report.state) for one in report.guests],
            'orphans': None if left is None else [_orphan(one) for one in left],
            'freed_bytes': freed_bytes(report),
            'trouble': list(report.troubles),
        },
        indent=2,
    )


def as_text(report: Report) -> str:
    """Return tables, and what is to be said below them; trouble is not among it."""
    enabled = 'unknown' if report.state.enabled is None else _configured(report.state)
    parts = [f'file-backed memory on this host: {enabled} ({printable(report.state.source)})']
    parts.append(_guest_table(report) if report.guests else 'No guest runs here.')
    draining_problem = draining.problem(bool(report.state.enabled), report.remaining)
    if draining_problem is not None:
        parts.append(printable(draining_problem.text))
    if report.orphans:
        parts.append(_orphan_table(report.orphans))
    elif report.orphans is not None:
        parts.append('No RAM file is without its guest.')
    removed = [orphan for orphan in report.orphans or () if orphan.removed]
    if removed:
        files = count(len(removed), 'file', 'files')
        parts.append(f'{files} removed, {mib(freed_bytes(report))} MiB freed')
    return '\n'.join(parts)


def freed_bytes(report: Report) -> int:
    """Return what was freed of the store."""
    return sum(orphan.freed_bytes or 0 for orphan in report.orphans or ())


def orphan_line(orphan: Orphan) -> str:
    """Return what is said of an orphan where there is no table."""
    path = printable(orphan.file.path)
    return f'{path} ({mib(orphan.file.allocated_bytes)} MiB, {age(orphan.age_seconds)} old)'


def mib(size_bytes: int) -> str:
    """Return bytes as MiB."""
    return f'{size_bytes / MIB:.1f}'.removesuffix('.0')


def age(seconds: int) -> str:
    """Return how old something is, in the largest unit of which that is two at least."""
    for length, unit in _AGES:
        if seconds >= 2 * length:
            return f'{seconds // length} {unit}'
    return f'{seconds} s'


def _configured(state: State) -> str | None:
    if state.enabled is None:
        return None
    return state_name(state.enabled)


def _guest(one: GuestMemory, state: State) -> dict[str, Any]:
    guest = one.guest
    return {
        'name': guest.name,
        'uuid': guest.uuid,
        'pid': guest.pid,
        'owner': 'nova' if guest.is_nova else 'other',
        'memory_mib': guest.memory_mib,
        'backing': None if one.trouble else one.backing.value,
        'composition': [
            {'kind': kind.value, 'size_mib': size} for kind, size in one.composition.items()
        ],
        'files': [
            {
                'path': file.ram.path,
                'kind': file.ram.kind.value,
                'deleted': file.ram.deleted,
                'mapped_bytes': file.ram.size_bytes,
                'allocated_bytes': file.allocated_bytes,
            }
            for file in one.files
        ],
        'as_state_says': one.is_as(state),
        'trouble': one.trouble,
    }


def _orphan(orphan: Orphan) -> dict[str, Any]:
    return {
        'path': orphan.file.path,
        'size_bytes': orphan.file.size_bytes,
        'allocated_bytes': orphan.file.allocated_bytes,
        'age_seconds': orphan.age_seconds,
        'removed': orphan.removed,
        'freed_bytes': orphan.freed_bytes,
        'left_because': orphan.left_because,
    }


def _guest_table(report: Report) -> str:
    rows = [
        (
            printable(one.guest.name),
            one.guest.uuid,
            'nova' if one.guest.is_nova else 'other',
            str(one.guest.memory_mib),
            _backed_by(one),
            '\n'.join(_file(file) for file in one.files) or '-',
            '\n'.join(_allocated(file) for file in one.files) or '-',
            _note(one, report.state),
        )
        for one in report.guests
    ]
    return _table((*_GUEST_COLUMNS, 'note'), rows)


def _backed_by(one: GuestMemory) -> str:
    parts = one.composition
    if len(parts) > 1:
        return '\n'.join(f'{kind.value} {size} MiB' for kind, size in parts.items())
    return next((kind.value for kind in parts), _UNKNOWN)


def _file(file: File) -> str:
    return printable(file.ram.path) + (' (deleted)' if file.ram.deleted else '')


def _allocated(file: File) -> str:
    return _UNKNOWN if file.allocated_bytes is None else mib(file.allocated_bytes)


def _note(one: GuestMemory, state: State) -> str:
    if one.trouble:
        return 'not seen'
    notes = []
    if one.is_as(state) is False:
        notes.append(f'not as on a host that is {_configured(state)}')
    if any(file.ram.deleted for file in one.files):
        notes.append('its file is freed when it ends')
    return '\n'.join(notes)


def _orphan_table(orphans: Sequence[Orphan]) -> str:
    rows = [
        (
            printable(orphan.file.path),
            mib(orphan.file.size_bytes),
            mib(orphan.file.allocated_bytes),
            age(orphan.age_seconds),
            _fate(orphan),
        )
        for orphan in orphans
    ]
    return _table((*_ORPHAN_COLUMNS, 'note'), rows)


def _fate(orphan: Orphan) -> str:
    if orphan.freed_bytes is not None:
        return f'removed, {mib(orphan.freed_bytes)} MiB freed'
    return f'left: {printable(orphan.left_because)}' if orphan.left_because else ''


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # A note that nobody has would only make the lines longer.
    noted = any(row[-1] for row in rows)
    shown = len(columns) if noted else len(columns) - 1
    table = prettytable.PrettyTable(list(columns[:shown]))
    table.align = 'l'
    for name in _NUMBERS:
        if name in columns:
            table.align[name] = 'r'
    for row in rows:
        table.add_row(list(row[:shown]))
    return str(table.get_string())

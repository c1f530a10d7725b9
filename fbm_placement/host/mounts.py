# SPDX-License-Identifier: Apache-2.0
"""Which mount a path is on, by the hook's rules, and what fstab mounts."""

import os
from collections.abc import Iterable

from fbm_placement.hook import program
from fbm_placement.model import Mount

FSTAB = '/etc/fstab'

is_under = program.is_under


def read_mounts(path: str | None = None) -> tuple[Mount, ...]:
    """Return all mounts of a namespace, this process's own by default."""
    path = path or program.MOUNTINFO
    with open(path, encoding='utf-8', errors='surrogateescape', newline='\n') as file:
        return parse_mountinfo(file)


def parse_mountinfo(lines: Iterable[str]) -> tuple[Mount, ...]:
    """Return the mounts in these lines; one that isn't as documented is left out."""
    return tuple(Mount(*fields) for fields in program.parse_mountinfo(lines))


def mount_of(real_path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount that holds this path, in which no link is left."""
    found = program.mount_of(real_path, list(mounts))
    return Mount(*found) if found else None


def read_fstab(path: str = FSTAB) -> tuple[str, ...]:
    """Return the mount points in fstab; none where there is no fstab to read."""
    try:
        with open(path, encoding='utf-8', errors='surrogateescape') as file:
            lines = [line.split() for line in file]
    except OSError:
        return ()
    return tuple(
        os.path.normpath(program.unescaped(fields[1]))
        for fields in lines
        if len(fields) > 1 and not fields[0].startswith('#') and fields[1].startswith('/')
    )

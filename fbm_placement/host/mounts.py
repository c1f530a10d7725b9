# SPDX-License-Identifier: Apache-2.0
"""Which mount a path is on, from /proc/self/mountinfo (proc_pid_mountinfo(5))."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

MOUNTINFO = '/proc/self/mountinfo'
FSTAB = '/etc/fstab'

_ESCAPE = re.compile(r'\\([0-7]{3})')


@dataclass(frozen=True)
class Mount:
    """One mounted filesystem."""

    mount_point: str
    filesystem: str
    """Its type, as ``mount -t`` takes it."""
    source: str
    """The device, or what stands in its place."""
    device: str = ''
    """``major:minor``."""
    root: str = '/'
    """Which directory of the filesystem is mounted."""
    options: frozenset[str] = frozenset()
    """Of the filesystem itself: a sandbox that shows it read-only doesn't change these."""


def read_mounts(path: str = MOUNTINFO) -> tuple[Mount, ...]:
    """Return all mounts of this process's namespace, in the order in which they were made."""
    with open(path, encoding='utf-8', errors='surrogateescape') as file:
        return tuple(parse_mountinfo(file))


def parse_mountinfo(lines: Iterable[str]) -> Iterable[Mount]:
    """Read the lines of mountinfo; one that isn't as documented is left out."""
    for line in lines:
        left, separator, right = line.partition(' - ')
        fields, filesystem = left.split(' '), right.split()
        if separator and len(fields) > 4 and len(filesystem) > 2:
            yield Mount(
                mount_point=_unescaped(fields[4]),
                filesystem=filesystem[0],
                source=_unescaped(filesystem[1]),
                device=fields[2],
                root=_unescaped(fields[3]),
                options=frozenset(filesystem[2].split(',')),
            )


def mount_of(real_path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount that holds this path, in which no link is left.

    A directory that is bound onto itself is no mount of its own: that is how systemd makes parts
    of a unit's view read-only.
    """
    # Of those that begin the path the longest is seen, of equal ones the last.
    stack = sorted(
        (mount for mount in mounts if is_under(real_path, mount.mount_point)),
        key=lambda mount: len(mount.mount_point),
    )
    while len(stack) > 1 and _is_bound_onto_itself(stack[-1], stack[-2]):
        stack.pop()
    return stack[-1] if stack else None


def _is_bound_onto_itself(mount: Mount, below: Mount) -> bool:
    there = os.path.relpath(mount.mount_point, below.mount_point)
    same = os.path.normpath(os.path.join(below.root, there))
    return (mount.device, mount.root) == (below.device, same)


def read_fstab(path: str = FSTAB) -> tuple[str, ...]:
    """Return the mount points in fstab; none where there is no fstab to read."""
    try:
        with open(path, encoding='utf-8', errors='surrogateescape') as file:
            lines = [line.split() for line in file]
    except OSError:
        return ()
    return tuple(
        os.path.normpath(_unescaped(fields[1]))
        for fields in lines
        if len(fields) > 1 and not fields[0].startswith('#') and fields[1].startswith('/')
    )


def is_under(path: str, mount_point: str) -> bool:
    """Whether the path is the mount point or lies below it."""
    return path == mount_point or path.startswith(mount_point.rstrip('/') + '/')


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)

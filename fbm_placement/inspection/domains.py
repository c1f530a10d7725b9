# SPDX-License-Identifier: Apache-2.0
"""Which guests libvirt runs, by the names of their directories in the store.

libvirt calls such a directory ``<id>-<name>``, with at most 20 characters of the name
(virDomainDefGetShortName in src/conf/domain_conf.c). After a reboot ids begin at 1 again, so the
same name with another id is what the reboot left behind.
"""

import os
import re
from dataclasses import dataclass

RUN_DIRECTORY = '/run/libvirt/qemu'
"""Holds NAME.pid and NAME.xml of each running domain."""

GUEST_DIRECTORY = re.compile(r'^[0-9]+-.')
_SHORT = 20
_DOMAIN_ID = re.compile(r"<domain\s[^>]*\bid='([0-9]+)'")


@dataclass(frozen=True)
class Domains:
    """Those that run."""

    directories: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    """Of those whose id can't be told: any directory with that name may be theirs."""

    def use(self, directory: str) -> bool:
        """Whether a directory of this name is, or may be, that of a running domain."""
        short = directory.partition('-')[2]
        return directory in self.directories or short in {name[:_SHORT] for name in self.names}


def running_domains(run_directory: str, proc: str) -> Domains:
    """Read libvirt's run directory; where there is none, libvirt runs no guest.

    :raises OSError: it is there, but not for us
    """
    directories, names = set(), set()
    try:
        entries = os.listdir(run_directory)
    except FileNotFoundError:
        return Domains()
    for entry in entries:
        name, extension = os.path.splitext(entry)
        if extension != '.pid' or not _lives(os.path.join(run_directory, entry), proc):
            continue
        number = _id(os.path.join(run_directory, f'{name}.xml'))
        if number is None:
            names.add(name)
        else:
            directories.add(f'{number}-{name[:_SHORT]}')
    return Domains(frozenset(directories), frozenset(names))


def _lives(pid_file: str, proc: str) -> bool:
    try:
        pid = _read(pid_file).strip()
    except FileNotFoundError:
        return False
    # libvirt is just writing it.
    return not pid.isdigit() or os.path.exists(os.path.join(proc, pid))


def _id(status: str) -> str | None:
    try:
        match = _DOMAIN_ID.search(_read(status))
    except FileNotFoundError:
        return None
    return match and match[1]


def _read(path: str) -> str:
    with open(path, encoding='utf-8', errors='surrogateescape') as file:
        return file.read()

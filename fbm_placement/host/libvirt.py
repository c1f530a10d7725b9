# SPDX-License-Identifier: Apache-2.0
"""Where libvirt puts guests' RAM files: qemu.conf, and what it takes where that is silent."""

import os
import pwd
import re
from dataclasses import dataclass

from fbm_placement import errors

QEMU_CONF = '/etc/libvirt/qemu.conf'
DEFAULT_MEMORY_BACKING_DIR = '/var/lib/libvirt/qemu/ram'
DEFAULT_USERS = ('libvirt-qemu', 'qemu')
"""Of Debian and Ubuntu, and of the RPM distributions."""
DAEMONS = frozenset({'libvirtd', 'virtqemud'})
"""The programs that run guests: the one for all, and the one of libvirt's modular daemons."""
RAM_DIRECTORY = 'libvirt/qemu'
"""Below memory_backing_dir; libvirt makes it, and in it a directory for each guest."""

_SETTING = re.compile(r"""^\s*(?P<name>\w+)\s*=\s*(?P<quote>["'])(?P<value>.*?)(?P=quote)""")


@dataclass(frozen=True)
class QemuConf:
    """What qemu.conf says of memory."""

    memory_backing_dir: str = DEFAULT_MEMORY_BACKING_DIR
    user: str | None = None
    """Whom QEMU runs as; None: the distribution's default."""

    @property
    def uids(self) -> frozenset[int]:
        """The user ids that QEMU may run as."""
        names = (self.user,) if self.user is not None else DEFAULT_USERS
        found = (_uid(name) for name in names)
        return frozenset(uid for uid in found if uid is not None)


def read_qemu_conf(path: str = QEMU_CONF) -> QemuConf:
    """Read it; where there is none, libvirt's defaults hold.

    :raises HostError: it is there, but not for us
    """
    try:
        with open(path, encoding='utf-8', errors='surrogateescape') as file:
            return parse_qemu_conf(file.read())
    except FileNotFoundError:
        return QemuConf()
    except OSError as exc:
        raise errors.HostError(
            f'{path}: {exc.strerror}; expected to read memory_backing_dir in it: run as root or '
            'with CAP_DAC_READ_SEARCH (as the unit does), or set '
            '[file_backed_memory]memory_backing_dir'
        ) from exc


def parse_qemu_conf(text: str) -> QemuConf:
    """Read the settings that matter here. Of several, libvirt takes the first."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := _SETTING.match(line):
            found.setdefault(match['name'], match['value'])
    return QemuConf(
        memory_backing_dir=found.get('memory_backing_dir') or DEFAULT_MEMORY_BACKING_DIR,
        user=found.get('user') or None,
    )


def ram_directory(memory_backing_dir: str) -> str:
    """Return the directory that holds a directory for each guest."""
    return os.path.join(memory_backing_dir, RAM_DIRECTORY)


def _uid(name: str) -> int | None:
    # "+0" is how qemu.conf writes a number that must not be taken for a name.
    number = name.removeprefix('+')
    if number.isdigit():
        return int(number)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None

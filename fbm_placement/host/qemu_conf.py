# SPDX-License-Identifier: Apache-2.0
"""Where libvirt puts guests' RAM files: qemu.conf, or libvirt's defaults."""

import contextlib
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

_SETTING = re.compile(r"""^\s*(\w+)\s*=\s*(["'])(.*?)\2""", re.MULTILINE)


@dataclass(frozen=True)
class QemuConf:
    """The settings of qemu.conf that concern memory."""

    memory_backing_dir: str = DEFAULT_MEMORY_BACKING_DIR
    user: str | None = None
    """Whom QEMU runs as; None: the distribution's default."""

    @property
    def uids(self) -> frozenset[int]:
        """The user ids that QEMU may run as; none: not known."""
        found = set()
        for name in (self.user,) if self.user is not None else DEFAULT_USERS:
            # "+0" is how qemu.conf writes a number that must not be taken for a name.
            number = name.removeprefix('+')
            with contextlib.suppress(KeyError):
                found.add(int(number) if number.isdigit() else pwd.getpwnam(name).pw_uid)
        return frozenset(found)


def read_qemu_conf(path: str = QEMU_CONF) -> QemuConf:
    """Return its settings, without a file the defaults; HostError: it can't be read."""
    try:
        with open(path, encoding='utf-8', errors='surrogateescape') as file:
            lines = _SETTING.findall(file.read())
    except FileNotFoundError:
        return QemuConf()
    except OSError as exc:
        raise errors.HostError(
            f'{path}: {exc.strerror}; expected to read memory_backing_dir in it: run as root or '
            'with CAP_DAC_READ_SEARCH (as the unit does), or set '
            '[file_backed_memory]memory_backing_dir'
        ) from exc
    found = {name: value for name, _, value in reversed(lines)}
    directory = found.get('memory_backing_dir') or DEFAULT_MEMORY_BACKING_DIR
    return QemuConf(directory, found.get('user') or None)


def dram_mib() -> int | None:
    """Return this host's DRAM in MiB, as libvirt and so Nova count it; None: unknown."""
    try:
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2**20
    except (ValueError, OSError):
        return None

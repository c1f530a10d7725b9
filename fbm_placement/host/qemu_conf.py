# SPDX-License-Identifier: Apache-2.0
"""Where libvirt puts guests' RAM files: qemu.conf, or libvirt's defaults."""

import contextlib
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

# The grammar of src/util/virconf.c. A triple quote is one if four more characters follow.
_COMMENT = re.compile(r'[ \t\r\n]*#[^\r\n]*')
_NAME = re.compile(r'[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t]*=[ \t]*')
_STRING = re.compile(
    r"""'([^'\r\n]*)'"""
    r'''|(?=.{7})"""(.*?)"""'''
    r'|"([^"\r\n]*)"',
    re.DOTALL,
)
_NUMBER = re.compile(r'[+-]?[0-9]+')
_SEPARATOR = re.compile(r'[ \t]*(?:#[^\r\n]*)?(?:\Z|[;\r\n][ \t\r\n]*)')
_LIST_BEGIN = re.compile(r'\[[ \t\r\n]*')
_IN_LIST = re.compile(r'[ \t\r\n]*(?:,[ \t\r\n]*|(?=\]))')


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
    """Return its settings, of several the first as libvirt does; without a file the defaults.

    :raises HostError: there is one, but it can't be read, or libvirt could not read it
    """
    try:
        with open(path, encoding='utf-8', errors='surrogateescape', newline='') as file:
            text = file.read()
    except FileNotFoundError:
        return QemuConf()
    except OSError as exc:
        raise errors.HostError(
            f'{path}: {exc.strerror}; expected to read memory_backing_dir in it: run as root or '
            'with CAP_DAC_READ_SEARCH (as the unit does), or set '
            '[file_backed_memory]memory_backing_dir'
        ) from exc
    try:
        found = parse(text)
    except (ValueError, RecursionError) as exc:
        raise _refused(path, exc) from exc
    for name in ('memory_backing_dir', 'user'):
        if found.get(name, '') is None:
            raise _refused(path, f'{name} is not a text in quotes')
    # libvirt appends /libvirt/qemu to whatever the directory is.
    directory = found.get('memory_backing_dir', DEFAULT_MEMORY_BACKING_DIR) or '/'
    return QemuConf(directory, found.get('user') or None)


def _refused(path: str, reason: object) -> errors.HostError:
    return errors.HostError(
        f'{path}: {reason}; libvirtd does not start with that: correct it, then restart libvirtd'
    )


def parse(text: str) -> dict[str, str | None]:
    """Return the settings, of several the first; None: its value is a number or a list.

    :raises ValueError: libvirt could not read it
    """
    found: dict[str, str | None] = {}
    at = 0
    while at < len(text):
        if comment := _COMMENT.match(text, at):
            at = comment.end()
        else:
            name = _expect(_NAME, text, at)
            value, at = _value(text, name.end())
            found.setdefault(name[1], value)
        at = _expect(_SEPARATOR, text, at).end()
    return found


def _value(text: str, at: int) -> tuple[str | None, int]:
    """Return a string, None for another value, and where the value ends."""
    if string := _STRING.match(text, at):
        return string[string.lastindex or 0].partition('\0')[0], string.end()
    begin = _LIST_BEGIN.match(text, at)
    if begin is None:
        return None, _expect(_NUMBER, text, at).end()
    at = begin.end()
    while not text.startswith(']', at):
        at = _expect(_IN_LIST, text, _value(text, at)[1]).end()
    return None, at + 1


def _expect(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    if match := pattern.match(text, at):
        return match
    line = text.count('\n', 0, at) + 1
    raise ValueError(f'line {line} is not NAME = VALUE')

# SPDX-License-Identifier: Apache-2.0
"""Which QEMU and libvirt run on this host, asked as an operator would."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

Version = tuple[int, ...]

ANSWER_SECONDS = 10.0

_QEMU = re.compile(r'(?:Running hypervisor: QEMU|QEMU emulator version) (\d+(?:\.\d+)+)')
_LIBVIRT = re.compile(r'(?:Running against daemon: |\(libvirt\) )(\d+(?:\.\d+)+)')
_PROGRAMS = (
    ('libvirtd', '--version'),
    ('virtqemud', '--version'),
    ('qemu-system-x86_64', '--version'),
    ('/usr/libexec/qemu-kvm', '--version'),
    ('qemu-system-aarch64', '--version'),
)


@dataclass(frozen=True)
class Versions:
    """What runs here; None: nobody could tell."""

    qemu: Version | None
    libvirt: Version | None


def read_versions(connection_uri: str) -> Versions:
    """Ask the libvirt that nova-compute asks; where it doesn't answer, the installed programs."""
    # C: the words are looked for in English.
    running = _output(('virsh', '-c', connection_uri, 'version', '--daemon'))
    versions = parse(running)
    if versions.qemu is None or versions.libvirt is None:
        installed = parse('\n'.join(_output(program) for program in _PROGRAMS))
        versions = Versions(versions.qemu or installed.qemu, versions.libvirt or installed.libvirt)
    return versions


def parse(text: str) -> Versions:
    """Find the versions in what ``virsh version`` and ``--version`` print."""
    return Versions(_first(_QEMU, text), _first(_LIBVIRT, text))


def told(version: Version) -> str:
    """Return it as people write it."""
    return '.'.join(str(part) for part in version)


def _first(pattern: re.Pattern[str], text: str) -> Version | None:
    match = pattern.search(text)
    return tuple(int(part) for part in match[1].split('.')) if match else None


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs; the URI is nova.conf's
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors='replace',
            timeout=ANSWER_SECONDS,
            check=False,
            env={'LC_ALL': 'C', 'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout

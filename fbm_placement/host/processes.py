# SPDX-License-Identifier: Apache-2.0
"""The running guests, from /proc. libvirt isn't asked: it may be what doesn't work."""

import functools
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from fbm_placement import errors
from fbm_placement.host import mounts, origin
from fbm_placement.host.guests import guest_of
from fbm_placement.host.probe import Probe
from fbm_placement.model import Guest, Mount

PROC = '/proc'
HOST_NAMESPACE = 'pid:[4026531836]'
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""

_PYTHON = re.compile(r'(platform-)?(python|pypy)')
_FLAGS = re.compile(r'-[^-cmWX]*(?:([cmWX])(.*))?', re.DOTALL)
"""Of Python: some that need no value, then one that does, and its value if that is attached."""

T = TypeVar('T')


def running_guests(
    name_template: str, proc: str = PROC, run_time_xml: str = origin.RUN_TIME_XML
) -> tuple[Guest, ...]:
    """Return every guest that runs here, Nova's and others', of whatever user.

    :param name_template: ``[DEFAULT]instance_name_template``
    :param run_time_xml: libvirt's directory
    """
    found = []
    for pid, argv in command_lines(proc):
        guest = guest_of(
            pid,
            argv,
            is_nova=lambda name, uuid: origin.is_nova(name, uuid, name_template, run_time_xml),
            is_on_hugetlbfs=functools.partial(_is_on_hugetlbfs, proc, pid),
        )
        if guest is not None:
            found.append(guest)
    return tuple(found)


def _is_on_hugetlbfs(proc: str, pid: int, path: str) -> bool:
    """Return whether this process sees the path on hugetlbfs."""
    try:
        seen = mounts.read_mounts(os.path.join(proc, str(pid), 'mountinfo'))
    except OSError:
        return False  # It has ended since.
    mount = mounts.mount_of(path, seen)
    return mount is not None and mount.filesystem == 'hugetlbfs'


def ask(probe: Probe, function: Callable[[], T]) -> T:
    """Read command lines in a child process, as a hung guest's hang; HostError: it took long."""
    try:
        return probe.ask(function)
    except errors.NoAnswerError as exc:
        raise errors.HostError(
            f'the running guests cannot be seen: reading their command lines gave {exc}; a guest '
            'hangs in its store: check the device (dmesg)'
        ) from exc


def command_lines(proc: str = PROC) -> Iterator[tuple[int, list[str]]]:
    """Return the arguments of every process that has some; kernel threads and zombies don't."""
    for entry in os.listdir(proc):
        if entry.isdigit() and (argv := command_line(int(entry), proc)):
            yield int(entry), argv


def command_line(pid: int, proc: str = PROC) -> list[str]:
    """Return the arguments of a process; none: it has ended, is hidden, or has no memory."""
    try:
        with open(os.path.join(proc, str(pid), 'cmdline'), 'rb') as file:
            line = file.read()
    except OSError:
        return []
    return os.fsdecode(line).rstrip('\0').split('\0') if line else []


def started_at(pid: int, proc: str = PROC) -> float:
    """Return when a process was started, seconds since the epoch; OSError: it has ended."""
    with open(os.path.join(proc, str(pid), 'stat'), encoding='ascii', errors='replace') as file:
        # The name in parentheses may have spaces in it; the start is the 22nd field.
        ticks = int(file.read().rpartition(')')[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - since_boot + ticks / os.sysconf('SC_CLK_TCK')


def running(programs: Collection[str], proc: str = PROC) -> Iterator[int]:
    """Return the pids of these programs, also of those that an interpreter runs."""
    for pid, argv in command_lines(proc):
        if program_of(argv) in programs:
            yield pid


def program_of(argv: Sequence[str]) -> str:
    """Return the name of the program, of Python's the script's; '' where there is none."""
    words = iter(argv)
    word = next(words, '')
    if os.path.basename(word) == 'env':
        word = next((one for one in words if not one.startswith('-') and '=' not in one), '')
    if _PYTHON.match(os.path.basename(word)):
        word = _script(words)
    # setproctitle(3): "nova-compute: master process [...]".
    return os.path.basename(word.partition(': ')[0])


def _script(words: Iterator[str]) -> str:
    """Return the script among the arguments of Python; '' where it runs a module or code."""
    for word in words:
        if word == '--':
            return next(words, '')
        flags = _FLAGS.fullmatch(word)
        if flags is None and word != '--check-hash-based-pycs':
            return word
        flag, value = flags.groups() if flags else ('X', '')
        if flag in ('c', 'm'):
            return ''
        if flag and not value:
            next(words, '')
    return ''


def hidden_reason(mounts: Iterable[Mount], proc: str = PROC) -> str | None:
    """Return why other users' processes can't be seen (hidepid, proc(5)); None: they can."""
    options = {option for mount in mounts if mount.mount_point == proc for option in mount.options}
    hiding = [option for option in options - {'hidepid=0', 'hidepid=off'} if 'hidepid=' in option]
    if not hiding or command_line(1, proc):
        return None
    return (
        f'{proc} is mounted with {hiding[-1]}, so the running guests cannot be seen; mount it '
        'with gid= of a group that the agent has (SupplementaryGroups= in a drop-in), or run the '
        'agent as root'
    )


def unseen_reason(daemons: Collection[str], proc: str = PROC) -> str | None:
    """Return why guests may run that have no process here; None: none may."""
    namespace = os.readlink(os.path.join(proc, 'self/ns/pid'))
    if namespace == HOST_NAMESPACE or any(running(daemons, proc)):
        return None
    return (
        f'guests may run that cannot be seen here: this is {namespace}, not the host (whose is '
        f'{HOST_NAMESPACE}), and no {" or ".join(sorted(daemons))} runs in it; run fbm-status on '
        "the host, or in a container that has the host's processes"
    )

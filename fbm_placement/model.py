# SPDX-License-Identifier: Apache-2.0
"""The dataclasses that all packages share."""

import enum
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fbm_placement import constants


@dataclass(frozen=True)
class Problem:
    """A reason why the host takes no new instance."""

    key: str
    """Names the problem; unlike the text it stays the same from check to check."""
    text: str
    """What was seen, what was expected, and how to fix it."""
    recovering: bool = False
    """The problem is over, but a few more checks must succeed before the host reopens."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Settings:
    """The options of nova-compute that concern this host's memory."""

    capacity_mib: int
    """``[libvirt]file_backed_memory``, MiB. 0: the host's configured state is ``disabled``."""
    reserved_mib: int
    """``[DEFAULT]reserved_host_memory_mb``, MiB."""
    virt_type: str
    ram_allocation_ratio: float | None
    instance_name_template: str = 'instance-%08x'
    """``[DEFAULT]instance_name_template``: how Nova names its guests."""

    @property
    def enabled(self) -> bool:
        return self.capacity_mib > 0

    @property
    def allocatable_mib(self) -> int:
        """What instances may be allocated, MiB: the store has to hold it."""
        return self.capacity_mib - self.reserved_mib

    def __str__(self) -> str:
        """Return the configured state, e.g. ``enabled, 4096 MiB, 512 MiB of it reserved``."""
        if not self.enabled:
            return 'disabled'
        reserved = f', {self.reserved_mib} MiB of it reserved' if self.reserved_mib else ''
        return f'enabled, {self.capacity_mib} MiB{reserved}'


DISABLED = Settings(capacity_mib=0, reserved_mib=0, virt_type='', ram_allocation_ratio=None)
"""A host that offers no file-backed memory, whatever is configured."""


@dataclass(frozen=True)
class AgentOptions:
    """``[file_backed_memory]``: what may change while the agent runs."""

    resource_provider: str | None = None
    interval: int = 60
    """Seconds."""
    memory_backing_dir: str | None = None
    """Of libvirt; None: from its qemu.conf."""
    hook_mode: str = 'enforce'
    """What libvirt's hook does with a guest that breaks a rule: ``enforce``, ``warn``, ``off``."""


@dataclass(frozen=True)
class Inventory:
    """The six fields of an inventory. A field left out of a PUT would fall back to a default."""

    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    allocation_ratio: float

    @classmethod
    def reported(cls, total: int, reserved: int, allocation_ratio: float = 1.0) -> 'Inventory':
        """Return what nova-compute reports.

        As ``LibvirtDriver.update_provider_tree`` in nova/virt/libvirt/driver.py, which always
        gives min_unit, max_unit and step_size these values.
        """
        return cls(total, reserved, 1, total, 1, allocation_ratio)

    @property
    def capacity_mib(self) -> int:
        """What can be allocated, MiB, as Placement counts it."""
        return int((self.total - self.reserved) * self.allocation_ratio)

    def __str__(self) -> str:
        """Return the four fields that may differ between writers."""
        return (
            f'total={self.total} reserved={self.reserved} max_unit={self.max_unit} '
            f'allocation_ratio={self.allocation_ratio}'
        )


@dataclass(frozen=True)
class HostFacts:
    """What was observed on the host itself."""

    store_is_disk: bool | None = True
    """The store is neither tmpfs nor hugetlbfs, or its place is unknown; None: it is not there."""
    settling: bool = False
    """The store has not been fit since the start: it may be mounted soon."""
    draining: bool = False
    """Guests of the other state than the configured one run here, or may do so."""
    guests_enabled: bool | None = None
    """Of a draining host: all of its guests are file-backed, or none is. None: they differ, or
    can't be seen."""
    guests_seen: bool = True
    unhealthy: tuple[Problem, ...] = ()
    """Why the host takes no new instance, draining included."""


@dataclass(frozen=True)
class Provider:
    uuid: str
    name: str
    is_root: bool


class Backing(enum.Enum):
    """What a guest's memory, or a part of it, is backed by; the value is for people and JSON."""

    FILE = 'file, shared'
    """What every guest of an enabled host has."""
    PRIVATE_FILE = 'file, private'
    """Writes land in DRAM, which no capacity covers."""
    HUGE_PAGES = 'huge pages'
    MEMFD = 'memfd'
    """Of a part; the whole is DRAM."""
    ANONYMOUS = 'anonymous'
    """Of a part; the whole is DRAM."""
    DRAM = 'DRAM'
    """Of a whole."""
    MIXED = 'file and other'
    """Of a whole: its NUMA cells differ."""

    @property
    def in_files(self) -> bool:
        """Whether libvirt calls its memory source ``file``, at least in part."""
        return self in (Backing.FILE, Backing.PRIVATE_FILE, Backing.MIXED)

    @classmethod
    def of_whole(cls, parts: Iterable['Backing']) -> 'Backing':
        """Return the backing of a guest that has these parts; none: all is anonymous."""
        in_dram = (cls.MEMFD, cls.ANONYMOUS)
        found = {cls.DRAM if part in in_dram else part for part in parts} or {cls.DRAM}
        if len(found) == 1:
            return found.pop()
        return cls.MIXED if any(part.in_files for part in found) else cls.HUGE_PAGES


@dataclass(frozen=True)
class Guest:
    """A running QEMU."""

    pid: int
    name: str
    """libvirt's name of the domain."""
    uuid: str
    """Of the domain; for Nova guests that is the instance's."""
    is_nova: bool
    memory_mib: int
    backing: Backing
    ram_files: tuple[str, ...] = ()
    """Paths of the files that hold its memory, one for each NUMA cell."""

    def __str__(self) -> str:
        return f'{self.name} ({self.uuid})'


class Mount(NamedTuple):
    """One mounted filesystem; the order of the fields is that of the hook's program."""

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
    mount_id: str = ''
    parent_id: str = ''
    """Of the mount that it lies on."""


@dataclass(frozen=True)
class Recovery:
    """What was wrong, and for how many passes it has been right since."""

    reason: str
    good_looks: int


@dataclass(frozen=True)
class Directory:
    """One directory as ``stat`` shows it."""

    path: str
    mode: int
    """The permission bits."""
    uid: int

    def lets_in(self, uid: int) -> bool:
        """Whether this user can enter it."""
        return uid == 0 or bool(self.mode & (0o100 if uid == self.uid else 0o001))


@dataclass(frozen=True)
class Store:
    """What was observed of the store."""

    path: str
    """memory_backing_dir."""
    mount: Mount | None = None
    """Where it is mounted; None: the directory doesn't exist."""
    is_directory: bool = True
    directories: tuple[Directory, ...] = ()
    """memory_backing_dir, and those of the two that libvirt makes below it that exist."""
    size_bytes: int = 0
    """0: the filesystem has no limit of its own."""
    free_bytes: int = 0
    """For users other than root (f_bavail)."""
    ram_bytes: int = 0
    """Held by the RAM files of running Nova guests: so much of the capacity is in the store."""
    exposed: tuple[str, ...] = ()
    """RAM files that every user of the host can read."""
    expected_mount: str | None = None
    """Where it was seen mounted earlier, or where fstab mounts it."""
    error: str | None = None
    """Why nothing could be observed."""

    @property
    def is_disk(self) -> bool:
        """Whether its pages aren't DRAM, so that post-copy and VFIO fail on them, or unknown."""
        return self.mount is None or self.mount.filesystem not in ('tmpfs', 'hugetlbfs')

    @property
    def ram_directory(self) -> str:
        """The directory that holds a directory for each guest."""
        return os.path.join(self.path, constants.RAM_DIRECTORY)

# SPDX-License-Identifier: Apache-2.0
"""Options of this host; ``conf/reader.py`` reads them, ``rules/config.py`` checks them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The options of nova-compute that concern this host's memory."""

    capacity_mib: int
    """``[libvirt]file_backed_memory``, MiB. 0: the host's configured state is ``disabled``."""
    reserved_mib: int
    """``[DEFAULT]reserved_host_memory_mb``, MiB."""
    virt_type: str
    ram_allocation_ratio: float | None

    @property
    def enabled(self) -> bool:
        """Whether file-backed memory is configured on this host."""
        return self.capacity_mib > 0

    @property
    def allocatable_mib(self) -> int:
        """What instances may be allocated, MiB: the store has to hold it."""
        return self.capacity_mib - self.reserved_mib

    def __str__(self) -> str:
        """Return the configured state, e.g. ``enabled, 4096 MiB``."""
        return f'enabled, {self.capacity_mib} MiB' if self.enabled else 'disabled'


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

# SPDX-License-Identifier: Apache-2.0
"""The domain XML of a guest, as Nova 34 writes it (config.py, driver.py in nova/virt/libvirt)."""

import itertools
import uuid
from dataclasses import dataclass, field
from typing import Literal
from xml.sax.saxutils import escape

NOVA_NAMESPACE = 'http://openstack.org/xmlns/libvirt/nova/1.1'

KERNEL = '/var/lib/libvirt/images/kernel'
"""On every host, so that the XML is the same where a guest comes from and where it goes to."""


@dataclass(frozen=True)
class MemoryBacking:
    """The content of <memoryBacking>; the default is an empty one, which is not written at all."""

    source: Literal['file', 'memfd', 'anonymous'] | None = None
    access: Literal['shared', 'private'] | None = None
    immediate: bool = False
    discard: bool = False
    huge_pages: int | None = None
    """KiB."""
    locked: bool = False

    def xml(self) -> str:
        parts = []
        if self.huge_pages is not None:
            parts.append(f'<hugepages><page size="{self.huge_pages}" unit="KiB"/></hugepages>')
        if self.locked:
            parts.append('<nosharepages/><locked/>')
        if self.source:
            parts.append(f'<source type="{self.source}"/>')
        if self.access:
            parts.append(f'<access mode="{self.access}"/>')
        if self.immediate:
            parts.append('<allocation mode="immediate"/>')
        if self.discard:
            parts.append('<discard/>')
        return f'<memoryBacking>{"".join(parts)}</memoryBacking>' if parts else ''


DRAM = MemoryBacking()
"""What Nova writes on a host without file-backed memory: nothing."""

FILE_BACKED = MemoryBacking(source='file', access='shared', immediate=True, discard=True)
"""What Nova writes on a host with it."""


_numbers = itertools.count(1)


@dataclass(frozen=True)
class Domain:
    """A guest: by default what Nova boots on a host without file-backed memory."""

    name: str = field(default_factory=lambda: f'instance-{next(_numbers):08x}')
    memory: int = 32
    """MiB."""
    backing: MemoryBacking = DRAM
    cells: tuple[int, ...] = ()
    """The memory of each NUMA cell, MiB."""
    cell_access: Literal['shared', 'private'] | None = None
    nova: bool = True
    """Whether it carries Nova's marks: the metadata and the SMBIOS strings."""
    display_name: str = 'a guest'
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    def xml(self) -> str:
        return f"""\
<domain type="qemu">
  <uuid>{self.uuid}</uuid>
  <name>{self.name}</name>
  <memory>{self.memory * 1024}</memory>
  {self.backing.xml()}
  <vcpu>{len(self.cells) or 1}</vcpu>
  {self._metadata() if self.nova else ''}
  {self._sysinfo() if self.nova else ''}
  <os>
    <type arch="x86_64" machine="pc">hvm</type>
    <kernel>{KERNEL}</kernel>
    {'<smbios mode="sysinfo"/>' if self.nova else ''}
  </os>
  <features><acpi/><apic/></features>
  <clock offset="utc"/>
  {self._numa()}
  <devices>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
  </devices>
</domain>
"""

    def _metadata(self) -> str:
        return f"""\
<metadata>
    <nova:instance xmlns:nova="{NOVA_NAMESPACE}">
      <nova:package version="34.0.0"/>
      <nova:name>{escape(self.display_name)}</nova:name>
      <nova:creationTime>2026-01-01 00:00:00</nova:creationTime>
      <nova:flavor name="tiny" id="1">
        <nova:memory>{self.memory}</nova:memory>
        <nova:disk>0</nova:disk>
        <nova:swap>0</nova:swap>
        <nova:ephemeral>0</nova:ephemeral>
        <nova:vcpus>{len(self.cells) or 1}</nova:vcpus>
        <nova:extraSpecs/>
      </nova:flavor>
    </nova:instance>
  </metadata>"""

    def _sysinfo(self) -> str:
        return f"""\
<sysinfo type="smbios">
    <system>
      <entry name="manufacturer">OpenStack Foundation</entry>
      <entry name="product">OpenStack Nova</entry>
      <entry name="version">34.0.0</entry>
      <entry name="serial">{self.uuid}</entry>
      <entry name="uuid">{self.uuid}</entry>
      <entry name="family">Virtual Machine</entry>
    </system>
  </sysinfo>"""

    def _numa(self) -> str:
        if not self.cells:
            return ''
        access = f' memAccess="{self.cell_access}"' if self.cell_access else ''
        cells = ''.join(
            f'<cell id="{number}" cpus="{number}" memory="{memory * 1024}"{access}/>'
            for number, memory in enumerate(self.cells)
        )
        return f'<cpu><numa>{cells}</numa></cpu>'

# SPDX-License-Identifier: Apache-2.0
"""The image that every server boots: a disk whose boot sector holds the lab's whole guest.

The lab's kernel (:mod:`tests.e2e.lab.kernel`) is a multiboot file, which a disk's boot sector is
not; this loads it where it would have been loaded. So the lab's eyes see Nova's guests as well.
"""

import struct

from tests.e2e.lab import kernel

SIZE = 1 << 20
"""Bytes of the disk."""

_SECTOR = 512
_PARTITION_TABLE = 446
_BOOT_ADDRESS = 0x7C00
_MULTIBOOT_ENTRY = 28
_CODE_SEGMENT, _DATA_SEGMENT = 0x08, 0x10


def disk() -> bytes:
    sector = _loader(kernel.assemble(kernel.Pattern()))
    if len(sector) > _PARTITION_TABLE:
        raise ValueError(f'{len(sector)} bytes do not fit before the partition table')
    sector = sector.ljust(_PARTITION_TABLE, b'\0') + _partition() + bytes(3 * 16) + b'\x55\xaa'
    return sector.ljust(SIZE, b'\0')


def _partition() -> bytes:
    # Without one Glance doesn't take the disk for one (415). Bootable, type 0x83, all of the rest.
    return struct.pack('<B3sB3sII', 0x80, b'\0\2\0', 0x83, b'\xff\xff\xff', 1, SIZE // _SECTOR - 1)


def _loader(program: bytes) -> bytes:
    """Return 16-bit code that goes to 32 bits, copies the program and jumps into it."""
    (entry,) = struct.unpack_from('<I', program, _MULTIBOOT_ENTRY)
    # First with the tables anywhere, to learn how long the code is.
    length = len(_loader_code(0, 0, len(program), entry))
    gdt_at = _BOOT_ADDRESS + length
    gdt = struct.pack('<3Q', 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF)
    register = struct.pack('<HI', len(gdt) - 1, gdt_at)
    register_at = gdt_at + len(gdt)
    program_at = register_at + len(register)
    code = _loader_code(register_at, program_at, len(program), entry)
    return code + gdt + register + program


def _loader_code(register_at: int, program_at: int, size: int, entry: int) -> bytes:
    start = b''.join(
        [
            b'\xfa',  # cli
            b'\xfc',  # cld
            b'\x31\xc0',  # xor ax, ax
            b'\x8e\xd8',  # mov ds, ax
            # Address line 20, without which odd MiB are not reached.
            b'\xe4\x92\x0c\x02\xe6\x92',  # in al, 0x92; or al, 2; out 0x92, al
            b'\x0f\x01\x16' + struct.pack('<H', register_at & 0xFFFF),  # lgdt [register]
            b'\x0f\x20\xc0\x0c\x01\x0f\x22\xc0',  # mov eax, cr0; or al, 1; mov cr0, eax
        ]
    )
    # A far jump loads CS; with a 32-bit offset it is 8 bytes long and goes to what follows it.
    after_jump = _BOOT_ADDRESS + len(start) + 8
    far_jump = b'\x66\xea' + struct.pack('<IH', after_jump, _CODE_SEGMENT)
    rest = b''.join(
        [
            b'\x66\xb8' + struct.pack('<H', _DATA_SEGMENT),  # mov ax, data segment
            b'\x8e\xd8',  # mov ds, ax
            b'\x8e\xc0',  # mov es, ax
            b'\x8e\xd0',  # mov ss, ax
            b'\xbe' + struct.pack('<I', program_at),  # mov esi, program
            b'\xbf' + struct.pack('<I', kernel.LOAD_ADDRESS),  # mov edi, load address
            b'\xb9' + struct.pack('<I', size),  # mov ecx, size
            b'\xf3\xa4',  # rep movsb
            b'\xb8' + struct.pack('<I', entry),  # mov eax, entry
            b'\xff\xe0',  # jmp eax
        ]
    )
    return start + far_jump + rest

# SPDX-License-Identifier: Apache-2.0
"""A guest's whole operating system: 300 bytes that mark its memory and count.

It is a multiboot kernel (version 1 of that specification), which QEMU's -kernel loads without a
disk. It writes a pattern into its memory, and then counts the ticks of its timer. Whoever reads
the guest's memory sees by the pattern that it is this guest's memory, all of it, and by the
counter that the guest runs. Between two ticks the CPU sleeps, so that a guest costs nothing.
"""

import struct
from dataclasses import dataclass

# Guest-physical addresses, in bytes. Below 3 GiB they are the offsets in QEMU's RAM file, too.
LOAD_ADDRESS = 0x100000
COUNTER = 0x1F0000
STACK_TOP = 0x1F8000
PATTERN_START = 0x200000
PATTERN_END = 0xA00000
PAGE = 4096
# The guest needs this much memory (MiB): the pattern's end and something for the BIOS.
LEAST_MEMORY = 16

_MULTIBOOT_MAGIC = 0x1BADB002
# Bit 16: the header has the addresses itself, so that no ELF file is needed.
_MULTIBOOT_FLAGS = 0x00010000
_CODE_SEGMENT = 0x08
_DATA_SEGMENT = 0x10


@dataclass(frozen=True)
class Pattern:
    """What the guest writes: into the first four bytes of each page its address, xor the key."""

    key: int = 0x5EED5EED

    def expected(self) -> dict[int, int]:
        return {address: address ^ self.key for address in range(PATTERN_START, PATTERN_END, PAGE)}


def assemble(pattern: Pattern) -> bytes:
    # First with the tables anywhere, to learn how long the code is.
    length = len(_code(pattern, gdtr=0, idtr=0))
    code_at = LOAD_ADDRESS + 32
    tables_at = code_at + length
    handler = tables_at - len(_TIMER_HANDLER)
    gdt, idt = _global_descriptors(), _interrupt_descriptors(handler)
    # LGDT and LIDT take a 6-byte operand: limit (length less one), and address.
    gdtr = struct.pack('<HI', len(gdt) - 1, tables_at)
    idtr = struct.pack('<HI', len(idt) - 1, tables_at + len(gdt))
    registers_at = tables_at + len(gdt) + len(idt)
    code = _code(pattern, gdtr=registers_at, idtr=registers_at + len(gdtr))
    body = code + gdt + idt + gdtr + idtr
    return _header(code_at, code_at + len(body)) + body


def _header(entry: int, end: int) -> bytes:
    checksum = -(_MULTIBOOT_MAGIC + _MULTIBOOT_FLAGS) & 0xFFFFFFFF
    return struct.pack(
        '<8I',
        _MULTIBOOT_MAGIC,
        _MULTIBOOT_FLAGS,
        checksum,
        LOAD_ADDRESS,  # header_addr: where this header comes to lie
        LOAD_ADDRESS,  # load_addr: where the file's first byte goes, here the header
        end,  # load_end_addr
        end,  # bss_end_addr: nothing to be zeroed after it
        entry,  # entry_addr
    )


def _dword(value: int) -> bytes:
    return struct.pack('<I', value)


# IRQ 0: it counts. The CPU has pushed the flags and CS:EIP; IRETD takes them back.
_TIMER_HANDLER = b''.join(
    [
        b'\x50',  # push eax
        b'\xff\x05' + _dword(COUNTER),  # inc dword [COUNTER]
        b'\xb0\x20',  # mov al, 0x20     end of interrupt ...
        b'\xe6\x20',  # out 0x20, al     ... to the first interrupt controller
        b'\x58',  # pop eax
        b'\xcf',  # iretd
    ]
)


def _code(pattern: Pattern, *, gdtr: int, idtr: int) -> bytes:
    """32-bit code; multiboot enters it in protected mode, without paging and with IRQs off."""
    page_loop = b''.join(
        [
            b'\x89\xf8',  # mov eax, edi         the page's address
            b'\x35' + _dword(pattern.key),  # xor eax, key
            b'\x89\x07',  # mov [edi], eax
            b'\x81\xc7' + _dword(PAGE),  # add edi, PAGE
            b'\x81\xff' + _dword(PATTERN_END),  # cmp edi, PATTERN_END
        ]
    )
    # The jump's distance counts from its own end: 2 bytes.
    page_loop += b'\x75' + struct.pack('b', -len(page_loop) - 2)  # jne page_loop
    start = b''.join(
        [
            b'\xfa',  # cli
            # The loader's segments work, but its table may be gone: an IRQ needs one of ours.
            b'\x0f\x01\x15' + _dword(gdtr),  # lgdt [gdtr]
        ]
    )
    # A far jump loads CS; it is 7 bytes long and goes to what follows it.
    after_jump = LOAD_ADDRESS + 32 + len(start) + 7
    far_jump = b'\xea' + _dword(after_jump) + struct.pack('<H', _CODE_SEGMENT)
    rest = b''.join(
        [
            b'\x66\xb8' + struct.pack('<H', _DATA_SEGMENT),  # mov ax, data segment
            b'\x8e\xd8',  # mov ds, ax
            b'\x8e\xc0',  # mov es, ax
            b'\x8e\xd0',  # mov ss, ax
            b'\xbc' + _dword(STACK_TOP),  # mov esp, STACK_TOP
            b'\xbf' + _dword(PATTERN_START),  # mov edi, PATTERN_START
            page_loop,
            # The BIOS left the timer at 18.2 Hz and IRQ 0 at vector 8: only let it through.
            b'\x0f\x01\x1d' + _dword(idtr),  # lidt [idtr]
            b'\xb0\xfe',  # mov al, 0xfe     all masked but IRQ 0 ...
            b'\xe6\x21',  # out 0x21, al     ... in the first interrupt controller
            b'\xb0\xff',  # mov al, 0xff     all masked ...
            b'\xe6\xa1',  # out 0xa1, al     ... in the second
            b'\xfb',  # sti
            b'\xf4',  # idle: hlt        until the next tick
            b'\xeb\xfd',  # jmp idle         (3 bytes back)
        ]
    )
    return start + far_jump + rest + _TIMER_HANDLER


def _global_descriptors() -> bytes:
    """The null segment, and all 4 GiB once as code and once as data, for ring 0."""
    return struct.pack('<3Q', 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF)


def _interrupt_descriptors(handler: int) -> bytes:
    """Vectors 0 to 7 are absent; 8, where the BIOS puts IRQ 0, is a 32-bit interrupt gate."""
    gate = struct.pack('<HHBBH', handler & 0xFFFF, _CODE_SEGMENT, 0, 0x8E, handler >> 16)
    return bytes(8 * 8) + gate

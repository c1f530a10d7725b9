# SPDX-License-Identifier: Apache-2.0
"""Huge pages of this machine, while a test needs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.process import ProcessError

SIZE_KIB = 2048

_PAGES = Path(f'/sys/kernel/mm/hugepages/hugepages-{SIZE_KIB}kB')


@contextmanager
def reserved(mib: int) -> Iterator[None]:
    """Have so many MiB of free huge pages; what the machine had to be given for it goes again."""
    wanted = mib * 1024 // SIZE_KIB
    before = _count('nr_hugepages')
    # Those of a run that was killed are still there, and do.
    missing = max(0, wanted - _count('free_hugepages'))
    (_PAGES / 'nr_hugepages').write_text(str(before + missing))
    try:
        if _count('free_hugepages') < wanted:
            raise ProcessError(
                f'this machine has no {mib} MiB left for huge pages: its memory is full, or in '
                'too many pieces; end what uses it, or: echo 1 >/proc/sys/vm/compact_memory'
            )
        yield
    finally:
        (_PAGES / 'nr_hugepages').write_text(str(before))


def _count(name: str) -> int:
    return int((_PAGES / name).read_text())

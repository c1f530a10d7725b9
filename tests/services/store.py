# SPDX-License-Identifier: Apache-2.0
"""A store for agents that run without root: a directory on the tmpfs that every Linux has."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

from tests.services.process import ProcessError

TMPFS = Path('/dev/shm')
CAPACITY_MIB = 48
"""Fits into what a container gets by default (64 MiB)."""


@functools.cache
def small_store() -> Path:
    """Return a memory_backing_dir as libvirtd prepares it; it goes when this process ends."""
    if not os.path.ismount(TMPFS):
        raise ProcessError(f'{TMPFS} is not a mounted tmpfs: mount one there')
    free_mib = shutil.disk_usage(TMPFS).free // 2**20
    if free_mib < CAPACITY_MIB:
        raise ProcessError(f'{TMPFS} has {free_mib} MiB free, expected {CAPACITY_MIB}: empty it')
    store = Path(tempfile.mkdtemp(prefix='fbm-store-', dir=TMPFS))
    atexit.register(shutil.rmtree, store, ignore_errors=True)
    (store / 'libvirt' / 'qemu').mkdir(parents=True)
    # As libvirtd leaves it: QEMU's user has to get in.
    store.chmod(0o755)
    return store

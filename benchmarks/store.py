# SPDX-License-Identifier: Apache-2.0
"""How long one check of the store takes, with the child process that may hang in it."""

import functools
import os

from benchmarks.measurement import Measurement, least_ms
from fbm_placement.host.probe import Probe
from fbm_placement.host.store import observe_store
from fbm_placement.model import Backing, Guest
from tests.services.store import small_store

ROUNDS = 20
RAM_FILES = 200


def run() -> list[Measurement]:
    """Take turns with the least that such a check can cost: a process and its answer."""
    store, probe = small_store(), Probe()
    directory = store / 'libvirt' / 'qemu'
    files = [str(directory / f'{number}.ram') for number in range(RAM_FILES)]
    guest = Guest(1, 'guest', 'uuid', True, RAM_FILES, Backing.FILE, tuple(files))
    for path in files:
        with open(path, 'wb') as file:
            file.write(bytes(4096))
    check = functools.partial(observe_store, str(store), [guest], probe)
    least = least_ms({'check': check, 'fork': _fork_and_wait}, ROUNDS)
    for path in files:
        os.unlink(path)
    return [
        Measurement(
            f'check of a store with {RAM_FILES} guests',
            least['check'],
            least['fork'],
            'a fork that ends at once',
            # Not in the design: once a minute, and well below what a request costs.
            budget=20,
            unit='ms',
        )
    ]


def _fork_and_wait() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

# SPDX-License-Identifier: Apache-2.0
"""How long libvirt waits for the hook, next to the shell and the Python that it runs on."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measurement import Measurement, least_ms
from tests import hook_lab as labs

ROUNDS = 20

DEVICES = ''.join(
    f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    f"<source file='/d{number}'/><target dev='vd{number}' bus='virtio'/>"
    f"<address type='pci' bus='0x00' slot='{number}'/></disk>"
    for number in range(30)
)
"""What makes a domain's XML as long as that of a guest with many devices: 6 KiB."""

SHELL = ['/bin/sh', '-c', ':']
PYTHON = [labs.PYTHON, '-IS', '-c', 'pass']


def run() -> list[Measurement]:
    """Compare the least of each."""
    store = labs.new_store()
    directory = Path(tempfile.mkdtemp(prefix='fbm-benchmarks-'))
    try:
        return _measure(labs.Lab(directory), store)
    finally:
        shutil.rmtree(directory)
        if store:
            shutil.rmtree(store)


def _measure(lab: labs.Lab, store: Path | None) -> list[Measurement]:
    # Without a mounted store, observing it is left out.
    lab.write_state(store=labs.store_state(store) if store else None)
    xml = labs.domain(more=DEVICES).encode()
    works = {
        'sh -c :': _work(SHELL, xml),
        'python3 -IS -c pass': _work(PYTHON, xml),
        'started': _work(_hook(lab, 'started'), xml),
        'prepare': _work(_hook(lab, 'prepare'), xml),
        'migrate': _work(_hook(lab, 'migrate'), xml),
    }
    least = least_ms(works, ROUNDS)
    budgets = {
        'started': ('sh -c :', 1.5),
        'prepare': ('python3 -IS -c pass', 2.2),
        'migrate': ('python3 -IS -c pass', 2.2),
    }
    return [
        Measurement(f'hook, {name}', least[name], least[beside], beside, budget=budget, unit='ms')
        for name, (beside, budget) in budgets.items()
    ]


def _hook(lab: labs.Lab, operation: str) -> list[str]:
    return [str(lab.hook), labs.NAME, operation, 'begin', '-']


def _work(command: list[str], xml: bytes) -> Callable[[], None]:
    def work() -> None:
        done = subprocess.run(command, input=xml, capture_output=True, check=False)
        if done.returncode or done.stderr:
            raise RuntimeError(f'{command} ended with status {done.returncode}: {done.stderr!r}')

    return work

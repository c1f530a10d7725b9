# SPDX-License-Identifier: Apache-2.0
"""The lab itself leaves nothing behind."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.services.process import REPOSITORY, ChildProcess, run, wait_until

# A host with a guest and a loop device, and then silence.
HOST = """
import sys, time
from pathlib import Path
from tests.e2e.lab.domain import FILE_BACKED, Domain
from tests.e2e.lab.guest import Guest
from tests.e2e.lab.host import LibvirtHost
from tests.e2e.lab.store import Disk
directory, cache = map(Path, sys.argv[1:])
with LibvirtHost('doomed', directory, store=Disk(80), cache=cache) as host:
    guest = Guest.start(host, Domain(backing=FILE_BACKED))
    print('first', host.namespaces.first, flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_killed(tmp_path_factory, cache, number):
    """What is killed takes its hosts along: processes, mounts, loop devices."""
    directory = tmp_path_factory.mktemp('doomed')
    before = loop_devices()
    argv = [sys.executable, '-c', HOST, str(directory), str(cache)]
    with ChildProcess(argv, directory / 'log', cwd=REPOSITORY) as doomed:
        doomed.wait_for_output('first')
        first = int(doomed.output.split()[-1])
        names = {kind: os.readlink(f'/proc/{first}/ns/{kind}') for kind in ('pid', 'mnt')}
        assert members(names)
        assert loop_devices() > before
        doomed.send_signal(number)
        doomed.wait()
    wait_until(lambda: not members(names) and loop_devices() == before, 'all gone', 10)
    assert str(directory) not in Path('/proc/self/mountinfo').read_text()


def loop_devices():
    return set(run(['losetup', '--list', '--noheadings', '--output', 'NAME']).stdout.split())


def members(names):
    found = []
    for process in Path('/proc').glob('[0-9]*'):
        try:
            if any(os.readlink(process / 'ns' / kind) == name for kind, name in names.items()):
                found.append((process.name, (process / 'cmdline').read_bytes()))
        except OSError:
            continue
    return found

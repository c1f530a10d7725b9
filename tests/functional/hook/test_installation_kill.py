# SPDX-License-Identifier: Apache-2.0
"""Installing and removing the hook, killed at each step."""

import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from fbm_placement.hook import install
from tests.hook_lab import HOOK, MODES, NEW, OLD, PROGRAM

KILLED_AT = """
    import os, signal, sys
    from fbm_placement.hook import install

    left = int(sys.argv[3])

    def counted(function):
        def call(*args, **kwargs):
            global left
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)
        return call

    for name in ('makedirs', 'open', 'unlink', 'rmdir', 'fchmod', 'fsync', 'rename', 'close'):
        setattr(os, name, counted(getattr(os, name)))
    getattr(install, sys.argv[1])(sys.argv[2])
    print(left)
"""


def run_killed_at(what, hooks_dir, step):
    """Run it in a process that ends before its system call number ``step``; return its output."""
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(KILLED_AT), what, str(hooks_dir), str(step)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.stdout


@pytest.mark.parametrize('before', [{}, OLD], ids=['nothing', 'an old version'])
@pytest.mark.parametrize('what', ['install', 'remove'])
def test_killed_at_any_step_it_leaves_whole_files_and_no_hook_without_its_program(
    tmp_path, what, before
):
    hooks_dir = tmp_path / 'hooks'
    qemu_d = hooks_dir / 'qemu.d'

    def start_over():
        shutil.rmtree(qemu_d, ignore_errors=True)
        qemu_d.mkdir(parents=True)
        for name, data in before.items():
            (qemu_d / name).write_bytes(data)
            (qemu_d / name).chmod(MODES[name])

    start_over()
    steps = 1000 - int(run_killed_at(what, hooks_dir, 1000))
    assert steps >= (2 if what == 'remove' else 9)
    seen = set()
    for step in range(steps):
        start_over()
        assert run_killed_at(what, hooks_dir, step) == ''
        files = {path.name: path.read_bytes() for path in qemu_d.glob('*')}
        for name, data in files.items():
            assert data in (NEW[name], OLD[name])
            assert (qemu_d / name).stat().st_mode & 0o777 == MODES[name]
        assert PROGRAM in files or HOOK not in files
        # A new hook may rely on its own program, an old one on that it still works with a new.
        assert files.get(HOOK) != NEW[HOOK] or files[PROGRAM] == NEW[PROGRAM]
        seen.add(tuple(sorted(files.items())))
        getattr(install, what)(str(hooks_dir))
        files = {path.name: path.read_bytes() for path in qemu_d.glob('*')}
        assert files == (NEW if what == 'install' else {})
        assert hooks_dir.exists() == (what == 'install')
    assert len(seen) >= (2 if before or what == 'install' else 1)

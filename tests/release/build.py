# SPDX-License-Identifier: Apache-2.0
"""Building and installing, for the tests of what is released."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*command, cwd, **environment):
    kept = {key: value for key, value in os.environ.items() if not key.startswith('PBR_')}
    done = subprocess.run(
        command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
    return done.stdout


def build(source, target):
    run(sys.executable, '-m', 'build', '--outdir', str(target), str(source), cwd=target.parent)
    (sdist,) = target.glob('*.tar.gz')
    (wheel,) = target.glob('*.whl')
    return sdist, wheel

# SPDX-License-Identifier: Apache-2.0
"""A script of Python in a mount namespace of its own."""

import json
import subprocess
import sys
from typing import Any

from tests.services.process import REPOSITORY


def output_of(script: str, *arguments: str) -> Any:
    """Return what it prints as JSON; an error of the script fails the test."""
    done = subprocess.run(
        ['unshare', '--mount', sys.executable, '-c', script, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)

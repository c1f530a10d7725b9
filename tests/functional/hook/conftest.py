# SPDX-License-Identifier: Apache-2.0
"""The hook's files, copied for one test, and a store for them."""

import shutil

import pytest

from tests import hook_lab

SHELLS = {'sh': ['/bin/sh'], 'bash': ['/bin/bash', '--posix']}


@pytest.fixture(params=SHELLS)
def lab(request, tmp_path):
    shell = SHELLS[request.param]
    if not shutil.which(shell[0]):
        pytest.skip(f'no {shell[0]}')
    made = hook_lab.Lab(tmp_path, shell)
    made.write_state()
    return made


@pytest.fixture
def sh(tmp_path):
    """The same by one shell, for what the shell has no part in."""
    made = hook_lab.Lab(tmp_path)
    made.write_state()
    return made


@pytest.fixture
def store():
    """A directory as libvirt leaves it in a mounted store."""
    path = hook_lab.new_store()
    if path is None:
        pytest.skip('/dev/shm is no mount')
    yield path
    shutil.rmtree(path)

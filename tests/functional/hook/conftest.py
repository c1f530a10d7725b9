# SPDX-License-Identifier: Apache-2.0
"""The hook's files, copied for one test, and a store for them."""

import shutil

import pytest

from tests import hook_lab as labs

SHELLS = {'sh': ['/bin/sh'], 'bash': ['/bin/bash', '--posix']}


@pytest.fixture(scope='session')
def program():
    """The .py as a module."""
    return labs.load()


@pytest.fixture(params=SHELLS)
def lab(request, tmp_path):
    """The real files with an enabled host, by each shell that is there."""
    shell = SHELLS[request.param]
    if not shutil.which(shell[0]):
        pytest.skip(f'no {shell[0]}')
    made = labs.Lab(tmp_path, shell=shell)
    made.write_state()
    return made


@pytest.fixture
def store():
    """A directory as libvirt leaves it in a mounted store."""
    path = labs.new_store()
    if path is None:
        pytest.skip('/dev/shm is no mount')
    yield path
    shutil.rmtree(path)

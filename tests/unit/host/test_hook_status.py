# SPDX-License-Identifier: Apache-2.0
"""A hook of which a half is missing."""

import pytest

from fbm_placement.hook import install
from fbm_placement.host import hook_status


@pytest.fixture
def hooks(tmp_path):
    (tmp_path / 'hooks').mkdir()
    (tmp_path / 'python3').touch()
    install.install(str(tmp_path / 'hooks'))
    return tmp_path


def found(hooks, mode='enforce'):
    return hook_status.problems(mode, str(hooks / 'hooks'), str(hooks / 'python3'))


def test_a_whole_hook_is_no_problem(hooks):
    assert found(hooks) == ()


@pytest.mark.parametrize('missing', ['hooks/qemu.d/50-file-backed-memory.py', 'python3'])
def test_half_a_hook_closes_the_host(hooks, missing):
    (hooks / missing).unlink()
    (reason,) = found(hooks)
    assert f'refuses every Nova guest: {hooks / missing} is missing' in reason.text
    assert found(hooks, 'warn') == found(hooks, 'off') == ()


def test_without_a_hook_no_guest_is_refused(hooks):
    install.remove(str(hooks / 'hooks'))
    (hooks / 'python3').unlink()
    assert found(hooks) == ()

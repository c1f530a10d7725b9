# SPDX-License-Identifier: Apache-2.0
"""devstack's plugin: its style, and what is written about its variables."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.devstack.node import PLUGIN


def tool(name):
    """Find a checker; a CI without it must fail, not skip."""
    path = shutil.which(name, path=f'{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}')
    if path is None and not os.environ.get('CI'):
        pytest.skip(f'{name} is not installed')
    assert path, f'{name} is not installed; CI needs it'
    return path


SHELL = sorted(
    [
        PLUGIN / 'plugin.sh',
        PLUGIN / 'settings',
        *(PLUGIN / 'lib').iterdir(),
        *pathlib.Path(__file__).parent.glob('*.sh'),
    ]
)


@pytest.mark.parametrize(
    'command',
    [['bashate', '-i', 'E006', '-e', 'E005,E042'], ['shellcheck', '-x']],
    ids=lambda x: x[0],
)
def test_style(command):
    """E006 is the length of lines, which devstack ignores too."""
    ended = subprocess.run(
        [tool(command[0]), *command[1:], *SHELL], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def variables(text):
    return set(re.findall(r'^#?(FBM_[A-Z_]+)=', text, re.MULTILINE))


def test_each_variable_has_its_default_and_its_comment():
    lines = (PLUGIN / 'settings').read_text().splitlines()
    settings = variables('\n'.join(lines))
    assert settings
    for number, line in enumerate(lines):
        if line.startswith('FBM_') and not lines[number - 1].startswith('FBM_'):
            assert lines[number - 1].startswith('# '), f'{line} has no comment above it'


def test_samples_name_only_variables_that_exist():
    settings = variables((PLUGIN / 'settings').read_text())
    samples = sorted((PLUGIN / 'samples').iterdir())
    assert len(samples) == 3
    for sample in samples:
        named = variables(sample.read_text())
        assert named
        assert named <= settings, sample

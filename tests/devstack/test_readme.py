# SPDX-License-Identifier: Apache-2.0
"""devstack's plugin: the commands and settings in its README and its samples."""

import os
import re
import subprocess

import pytest

from tests.devstack.node import AGENT, PLUGIN

README = (PLUGIN / 'README.rst').read_text()
SAMPLES = sorted((PLUGIN / 'samples').iterdir())


def command(word):
    lines = re.findall(r'^   \$ (.+)$', README, re.MULTILINE)
    (found,) = (line for line in lines if word in line)
    return found


def test_commands_can_be_typed_as_written(new_node):
    """Program and file are those of the plugin's own call, which the stub logs literally."""
    node = new_node()
    node.run('stack')
    assert f'{command("systemctl").split()[-1]}.service' == AGENT
    assert AGENT in node.state('running')
    assert command('fbm-status') in node.calls
    sudo, *words = command('fbm-status').split()
    assert sudo == 'sudo'
    calls = len(node.calls)
    below = [f'{node.root}{word}' if word.startswith('/') else word for word in words]
    assert all(os.path.exists(word) for word in below if word.startswith('/'))
    subprocess.run(below, check=True, env={'PATH': os.environ['PATH'], 'ROOT': str(node.root)})
    assert [call.split()[0] for call in node.calls[calls:]] == ['doctor']


@pytest.mark.parametrize(
    'text',
    [README, *(sample.read_text() for sample in SAMPLES)],
    ids=['README', *(sample.name for sample in SAMPLES)],
)
def test_plugin_is_enabled_with_its_branch(text):
    """The default of devstack is master; and its own clone is no place to clone from."""
    lines = re.findall(r'^ *enable_plugin fbm-placement (.+)$', text, re.MULTILINE)
    assert lines
    for line in lines:
        assert line.endswith(' main')
        assert not line.startswith('/opt/stack')


def test_what_a_second_node_needs_is_named():
    for text in ('$NOVA_CONF]]', '$NOVA_CPU_CONF]]'):
        assert f'[[post-config|{text}' in README
    assert './tools/discover_hosts.sh' in README
    assert 'authorized_keys' in README
    for sample in SAMPLES:
        text = sample.read_text()
        assert ('./tools/discover_hosts.sh' in text) == ('SERVICE_HOST=' in text), sample

# SPDX-License-Identifier: Apache-2.0
"""devstack's plugin: what its README and its samples tell people to type."""

import os
import re
import subprocess

import pytest

from tests.devstack.node import AGENT, PLUGIN

README = (PLUGIN / 'README.rst').read_text()
SAMPLES = sorted((PLUGIN / 'samples').iterdir())


def command(word):
    """Return the README's one command with this word."""
    lines = re.findall(r'^   \$ (.+)$', README, re.MULTILINE)
    (found,) = (line for line in lines if word in line)
    return found


def test_doctor_is_called_as_the_plugin_does_itself(new_node):
    """Program and file are those of the plugin's own call, which the stub notes to the word."""
    node = new_node()
    node.run('stack')
    assert command('fbm-status') in node.calls


def test_doctor_can_be_called_as_written(new_node):
    node = new_node()
    node.run('stack')
    sudo, *words = command('fbm-status').split()
    assert sudo == 'sudo'
    calls = len(node.calls)
    below = [f'{node.root}{word}' if word.startswith('/') else word for word in words]
    assert all(os.path.exists(word) for word in below if word.startswith('/'))
    subprocess.run(below, check=True, env={'PATH': os.environ['PATH'], 'ROOT': str(node.root)})
    assert [call.split()[0] for call in node.calls[calls:]] == ['doctor']


def test_unit_is_the_agents(new_node):
    node = new_node()
    node.run('stack')
    assert f'{command("systemctl").split()[-1]}.service' == AGENT
    assert AGENT in node.state('running')


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


@pytest.mark.parametrize(
    'words',
    [
        '[[post-config|$NOVA_CONF]]',
        '[[post-config|$NOVA_CPU_CONF]]',
        './tools/discover_hosts.sh',
        'authorized_keys',
    ],
)
def test_readme_names(words):
    assert words in README


def test_sample_of_a_node_that_joins_says_so():
    for sample in SAMPLES:
        text = sample.read_text()
        assert ('./tools/discover_hosts.sh' in text) == ('SERVICE_HOST=' in text), sample

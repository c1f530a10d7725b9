# SPDX-License-Identifier: Apache-2.0
"""Nodes of devstack, one test each."""

import pytest

from tests.devstack.node import ALL_IN_ONE, NODES, PLUGIN, Node


@pytest.fixture
def new_node(tmp_path):
    def new(services=ALL_IN_ONE, name='node', plugin=PLUGIN, **variables):
        return Node(tmp_path / name, services, variables, plugin)

    return new


@pytest.fixture
def without_plugin(new_node):
    """Make the same node without the plugin, stacked and unstacked."""

    def new(*args, **variables):
        node = new_node(*args, name='without', plugin=None, **variables)
        node.run('stack', 'unstack')
        return node

    return new


@pytest.fixture(params=NODES)
def any_node(request, new_node):
    services, variables = NODES[request.param]
    return new_node(services, **variables)

# SPDX-License-Identifier: Apache-2.0
"""Nodes of devstack, one test each."""

import pytest

from tests.devstack.node import ALL_IN_ONE, NODES, PLUGIN, Node


@pytest.fixture
def new_node(tmp_path):
    def new(services=ALL_IN_ONE, name='node', plugin=PLUGIN, **variables):
        return Node(tmp_path / name, services, variables, plugin)

    return new


@pytest.fixture(params=NODES)
def any_node(request, new_node):
    services, variables = NODES[request.param]
    return new_node(services, **variables)

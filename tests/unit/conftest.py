# SPDX-License-Identifier: Apache-2.0
"""A home with nova.conf in it, and a Placement in memory. Nothing here is used unasked."""

import logging
import os
import sys

import pytest
import requests_mock as requests_mock_module
from oslo_config import cfg

from fbm_placement import conf as configuration
from fbm_placement.agent import agent
from fbm_placement.cmd import agent as command
from tests.fitting_host import FittingHost
from tests.unit import fake_placement, nova_conf_text


class Home:
    """The directories that oslo.config searches, and no others."""

    def __init__(self, path):
        self.path = path
        self.folder = path / '.nova'
        self.folder.mkdir()
        (path / 'state').mkdir()

    def write(self, text, name='nova.conf'):
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def load(self, *args):
        return configuration.load(
            args, prog='fbm-agent', description='...', cli_opts=command.CLI_OPTS
        )


@pytest.fixture(autouse=True)
def fitting_host(monkeypatch, tmp_path):
    """Let no agent observe the machine that the test runs on, or write into its /run."""
    monkeypatch.setenv('RUNTIME_DIRECTORY', str(tmp_path / 'run'))
    monkeypatch.setattr(agent, 'HostObserver', FittingHost)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    dirs = [str(tmp_path / '.nova'), str(tmp_path)]
    monkeypatch.setattr(cfg, '_get_config_dirs', lambda project=None: dirs)
    return Home(tmp_path)


@pytest.fixture
def nova_conf(home):
    def write(text='', *args):
        home.write(
            f'[DEFAULT]\nstate_path = {home.path}/state\n{nova_conf_text.PLACEMENT}{text}',
        )
        return home.load(*args)

    return write


@pytest.fixture
def http():
    with requests_mock_module.Mocker() as mocker:
        yield mocker


@pytest.fixture
def placement(http):
    fake = fake_placement.FakePlacement()
    fake.install(http)
    return fake


@pytest.fixture
def kept_logging(monkeypatch):
    """Undo what a command's own logging set-up does to this process."""
    root = logging.getLogger()
    handlers, root_level = list(root.handlers), root.level
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    before = _levels()
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(root_level)
    for name in _levels():
        logging.getLogger(name).setLevel(before.get(name, logging.NOTSET))


def _levels():
    loggers = logging.root.manager.loggerDict.items()
    return {name: logger.level for name, logger in loggers if isinstance(logger, logging.Logger)}


@pytest.fixture
def compute_id(home):
    def write(content=fake_placement.UUID):
        path = os.path.join(home.path, 'state', 'compute_id')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(content)
        return path

    return write

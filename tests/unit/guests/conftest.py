# SPDX-License-Identifier: Apache-2.0
"""A host on which nothing runs, and the command."""

import argparse
import functools
import os

import pytest
from oslo_config import cfg

from fbm_placement import conf as configuration
from fbm_placement.cmd import guests
from fbm_placement.guests import report
from tests.unit.guests.fake_host import FakeHost


@pytest.fixture
def host(tmp_path):
    return FakeHost(tmp_path / 'host')


@pytest.fixture
def command(home, host, monkeypatch):
    scan = functools.partial(report.scan, proc=str(host.proc), qemu_path=str(host.qemu_conf))
    monkeypatch.setattr(report, 'scan', scan)
    monkeypatch.setattr(os, 'geteuid', lambda: 0)

    def run(*args, nova_conf=''):
        home.write(f'[DEFAULT]\nram_allocation_ratio = 1.0\n{nova_conf}')
        conf = configuration.load(
            ['guests', *args], prog='fbm-status', description='', cli_opts=(_subcommand(),)
        )
        return conf.command.func(conf)

    return run


def _subcommand():
    def add(subparsers: argparse._SubParsersAction):
        guests.add_parser(subparsers)

    return cfg.SubCommandOpt('command', handler=add)

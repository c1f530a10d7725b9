# SPDX-License-Identifier: Apache-2.0
"""A host on which nothing runs, processes that hold files, and the command."""

import argparse
import os
import subprocess
import sys

import pytest
from oslo_config import cfg

from fbm_placement import conf as configuration
from fbm_placement.cmd import guests_commands
from tests.unit.inspection.fake_host import HOLDERS, FakeHost


@pytest.fixture
def host(tmp_path):
    """Return a host on which nothing runs."""
    return FakeHost(tmp_path / 'host')


@pytest.fixture
def hold(host):
    """Return a function that starts a real process which holds a file."""
    processes = []

    def start(path, how, *, seen=True):
        code = f'import mmap, sys, time; path = sys.argv[1]; {HOLDERS[how]}; print(1, flush=True)'
        process = subprocess.Popen(
            [sys.executable, '-I', '-S', '-c', f'{code}; time.sleep(60)', str(path)],
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout.readline() == b'1\n'
        if seen:
            host.add_real(process.pid)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def command(home, host, monkeypatch):
    """Return a function that runs ``guests ARGS`` as root on that host."""
    monkeypatch.setattr(guests_commands, 'Places', lambda: host.places)
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
        guests_commands.add_parser(subparsers)

    return cfg.SubCommandOpt('command', handler=add)

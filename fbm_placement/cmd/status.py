# SPDX-License-Identifier: Apache-2.0
"""``fbm-status``: checks this host for an operator. Only ``hook`` and ``guests`` write."""

import argparse
import sys
from collections.abc import Sequence

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from fbm_placement import conf as configuration
from fbm_placement.agent import logs
from fbm_placement.cmd import exit_codes, guests, hook
from fbm_placement.conf import reader
from fbm_placement.doctor.checks import Doctor
from fbm_placement.doctor.facts import Facts
from fbm_placement.rules import config

PROG = 'fbm-status'

DESCRIPTION = (
    "Checks this compute host's file-backed memory and shows how to fix what is wrong. It reads "
    'the files that nova-compute reads; name others before the command: fbm-status --config-file '
    'PATH guests.'
)


def main(args: Sequence[str] | None = None) -> int:
    return exit_codes.run(PROG, lambda: _run(sys.argv[1:] if args is None else args))


def _run(args: Sequence[str]) -> int:
    commands = cfg.SubCommandOpt(
        'command', title='commands', description='What to do.', handler=_add_parsers
    )
    conf = configuration.load(
        args,
        prog=PROG,
        description=DESCRIPTION,
        cli_opts=(commands,),
        # The hook knows nova.conf from the agent.
        needs_files=lambda conf: conf.command.name != 'hook',
    )
    logs.to_stderr(conf, PROG)
    code: int = conf.command.func(conf)
    return code


def _add_parsers(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    upgrade = subparsers.add_parser(
        'upgrade',
        help='check whether file-backed memory can be turned on here, or works',
        description='Exit codes: 0 success; 1 there are warnings; 2 there are failures.',
    )
    upgrade.add_argument('--json', action='store_true', help='print JSON instead of a table')
    config_parser = subparsers.add_parser(
        'config',
        help='check nova.conf alone, before nova-compute starts',
        description='Checks the options of file-backed memory in nova.conf; sends no request. '
        'Exit codes: 0 nova-compute may start; 2 it must not, every reason is on stderr.',
    )
    for parser, function in ((upgrade, _upgrade_check), (config_parser, _config_check)):
        parser.add_argument('check', choices=('check',), help='the only command')
        parser.set_defaults(func=function)
    guests.add_parser(subparsers)
    hook.add_parser(subparsers)


def _upgrade_check(conf: cfg.ConfigOpts) -> int:
    # oslo.upgradecheck reads --json from there.
    upgradecheck.CONF = conf
    return Doctor(Facts(conf)).check()


def _config_check(conf: cfg.ConfigOpts) -> int:
    found = reader.read_settings(conf)
    for warning in config.warnings(found):
        exit_codes.show(f'{PROG}: warning: {warning}', sys.stderr, 'WARNING')
    print(f'file-backed memory is {found}; nova-compute may start')
    return exit_codes.GOOD

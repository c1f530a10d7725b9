# SPDX-License-Identifier: Apache-2.0
"""``fbm-status hook install | check | remove``."""

import argparse
import os
import sys

from oslo_config import cfg

from fbm_placement.cmd import exit_codes
from fbm_placement.hook import inspection, installation
from fbm_placement.host import hook_status

RELOAD = 'systemctl reload libvirtd (or virtqemud)'

_DESCRIPTION = (
    'The libvirt hook is the last gate: it refuses to start a guest of Nova, or to let one '
    "migrate in, whose memory doesn't fit this host. It knows the host from what fbm-agent "
    'writes; [file_backed_memory]hook_mode says whether it refuses, warns or does nothing.'
)
_LEAVES = (
    (
        'install',
        'copy the hook to where libvirt runs it, or bring it to this version',
        (
            'Copies the hook, so that it goes on working whatever becomes of this installation. '
            'Needs root. Where libvirt had no hook for QEMU before, it must be told once: '
            f'{RELOAD}.'
        ),
    ),
    (
        'check',
        'look whether the hook is installed and answers',
        (
            'Looks at the installed files and runs them, with a guest that never starts. Changes '
            'nothing. Exit code 1: something is wrong, and stderr says what.'
        ),
    ),
    (
        'remove',
        'take the hook away',
        'Removes the files that install wrote, and no other. Needs root.',
    ),
)


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add ``hook`` and what follows it to the parsers of a command line."""
    hook = subparsers.add_parser(
        'hook', help='install, check or remove the libvirt hook', description=_DESCRIPTION
    )
    leaves = hook.add_subparsers(dest='hook_command', metavar='COMMAND', required=True)
    functions = {'install': install, 'check': check, 'remove': remove}
    for name, summary, description in _LEAVES:
        leaf = leaves.add_parser(name, help=summary, description=description)
        leaf.add_argument(
            '--hooks-dir',
            metavar='DIR',
            type=os.path.abspath,
            default=installation.HOOKS_DIR,
            help="libvirt's directory of hooks (default: %(default)s)",
        )
        leaf.set_defaults(func=functions[name])


def install(conf: cfg.ConfigOpts) -> int:
    """Install the hook and say what changed; HookError where that is not possible."""
    result = installation.install(conf.command.hooks_dir)
    _tell(result)
    if result.reload_libvirtd:
        print(f'libvirt had no hook for QEMU before; tell it once: {RELOAD}')
    return exit_codes.GOOD


def check(conf: cfg.ConfigOpts) -> int:
    """Say what is wrong with the hook, a line for each on stderr."""
    findings = inspection.check(conf.command.hooks_dir)
    for finding in findings:
        print(finding, file=sys.stderr)
    if findings:
        return exit_codes.NOT_GOOD
    silent = hook_status.not_enforcing_reason()
    but = '' if silent is None else f', but it refuses nothing now: {silent}'
    print(f'the hook is installed, and it answers{but}')
    return exit_codes.GOOD


def remove(conf: cfg.ConfigOpts) -> int:
    """Remove the hook and say what changed; HookError where that is not possible."""
    _tell(installation.remove(conf.command.hooks_dir))
    return exit_codes.GOOD


def _tell(result: installation.Result) -> None:
    for path, change in result.changes:
        print(f'{path}: {change.value}')

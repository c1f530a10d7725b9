# SPDX-License-Identifier: Apache-2.0
"""``fbm-status hook install | check | remove``."""

import argparse
import os
import sys

from oslo_config import cfg

from fbm_placement.cmd import exit_codes
from fbm_placement.hook import check as hook_check
from fbm_placement.hook import install as hook_files
from fbm_placement.host import hook_status

RELOAD = 'systemctl reload libvirtd (or virtqemud)'

_DESCRIPTION = (
    'The libvirt hook is the last check: it refuses to start a Nova instance, or to let one '
    "migrate in, whose memory doesn't fit this host. It knows the host from what fbm-agent "
    'writes; [file_backed_memory]hook_mode sets whether it refuses, warns or does nothing.'
)
_INSTALL = (
    'copy the hook to where libvirt runs it, or update it; needs root; libvirt must reload once '
    f'if it had no hook for QEMU before: {RELOAD}'
)
_CHECK = (
    'compare the installed hook with this package, and run it with a guest that never starts; '
    'exit code 1: something is wrong, or it refuses nothing now, and stderr has the reason'
)
_REMOVE = 'remove the files that install wrote, and directories that are then empty; needs root'


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    hook = subparsers.add_parser(
        'hook', help='install, check or remove the libvirt hook', description=_DESCRIPTION
    )
    commands = hook.add_subparsers(dest='hook_command', metavar='COMMAND', required=True)
    for function, text in ((install, _INSTALL), (check, _CHECK), (remove, _REMOVE)):
        command = commands.add_parser(function.__name__, help=text, description=text)
        command.add_argument(
            '--hooks-dir',
            metavar='DIR',
            type=os.path.abspath,
            default=hook_files.HOOKS_DIR,
            help="libvirt's directory of hooks (default: %(default)s)",
        )
        command.set_defaults(func=function)


def install(conf: cfg.ConfigOpts) -> int:
    hooks_dir = conf.command.hooks_dir
    had_hooks = hook_files.has_hooks(hooks_dir)
    _print_changes(hook_files.install(hooks_dir))
    if not had_hooks:
        print(f'libvirt had no hook for QEMU before; reload it once: {RELOAD}')
    return exit_codes.GOOD


def check(conf: cfg.ConfigOpts) -> int:
    findings = hook_check.check(conf.command.hooks_dir)
    reason = hook_status.not_enforcing_reason()
    if not findings and reason is not None:
        findings = [reason]
    for finding in findings:
        print(finding, file=sys.stderr)
    if findings:
        return exit_codes.NOT_GOOD
    print(hook_status.WORKS)
    return exit_codes.GOOD


def remove(conf: cfg.ConfigOpts) -> int:
    _print_changes(hook_files.remove(conf.command.hooks_dir))
    return exit_codes.GOOD


def _print_changes(changes: dict[str, str]) -> None:
    for path, change in changes.items():
        print(f'{path}: {change}')

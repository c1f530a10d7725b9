# SPDX-License-Identifier: Apache-2.0
"""Whether libvirt's hook enforces the host's state, and whether it refuses everything."""

import os

from fbm_placement import errors
from fbm_placement.hook import check, install
from fbm_placement.host import state_file
from fbm_placement.model import Problem


def problems(
    hook_mode: str, hooks_dir: str = install.HOOKS_DIR, python: str = check.PYTHON
) -> tuple[Problem, ...]:
    """Return why every arriving guest would be refused: a part of an installed hook is missing.

    ``fbm-status hook check`` checks its version and its answers.
    """
    paths = install.paths(hooks_dir)
    if hook_mode == 'enforce' and os.path.isfile(paths[install.HOOK]):
        for path in (paths[install.PROGRAM], python):
            if not os.path.isfile(path):
                reason = (
                    f"libvirt's hook is broken and refuses every Nova guest: {path} is missing; "
                    'fbm-status hook check shows how to fix it'
                )
                return (Problem('hook', reason),)
    return ()


WORKS = 'installed, and it works; to see what it refused: journalctl -t fbm-hook'


def not_enforcing_reason() -> str | None:
    """Return why an installed hook refuses no guest, whatever its memory is; None: it enforces."""
    try:
        mode = state_file.read(state_file.path(), state_file.uptime()).hook_mode
        reason = f'[file_backed_memory]hook_mode is {mode}'
    except errors.HostError as exc:
        mode, reason = None, f'it does not enforce without a fresh state file: {exc}'
    if mode == 'enforce':
        return None
    return f'installed, and it works, but it refuses nothing now: {reason}'

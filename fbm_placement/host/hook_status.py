# SPDX-License-Identifier: Apache-2.0
"""Is libvirt's hook a gate? Half a hook is a wall, and one without an opinion is none."""

import os

from fbm_placement import errors
from fbm_placement.hook import inspection, installation
from fbm_placement.host import state_file
from fbm_placement.model import Problem


def problems(
    hook_mode: str,
    hooks_dir: str = installation.HOOKS_DIR,
    python: str = inspection.PYTHON,
) -> tuple[Problem, ...]:
    """Return why guests that come here would be refused; without a hook they are not.

    Whether it is the right version, and answers, is for ``fbm-status hook check``.
    """
    paths = installation.paths(hooks_dir)
    hook, program = paths[installation.HOOK], paths[installation.PROGRAM]
    if hook_mode != 'enforce' or not os.path.isfile(hook):
        return ()
    missing = [path for path in (program, python) if not os.path.isfile(path)]
    if not missing:
        return ()
    reason = (
        f"libvirt's hook is broken and refuses every guest of Nova's: {missing[0]} is missing; "
        'fbm-status hook check tells what mends it'
    )
    return (Problem('hook', reason),)


def not_enforcing_reason() -> str | None:
    """Return why the hook refuses no guest whatever it is; None: it does."""
    try:
        mode = state_file.read(state_file.path(), state_file.uptime()).hook_mode
    except errors.HostError as exc:
        return f'it has no opinion without a fresh state file: {exc}'
    return None if mode == 'enforce' else f'[file_backed_memory]hook_mode is {mode}'

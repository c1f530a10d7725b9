# SPDX-License-Identifier: Apache-2.0
"""Is libvirt's hook whole? Half a hook refuses every guest of Nova's on an enabled host."""

import os

from fbm_placement.hook import inspection, installation


def ailments(
    hook_mode: str,
    hooks_dir: str = installation.HOOKS_DIR,
    python: str = inspection.PYTHON,
) -> tuple[str, ...]:
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
    return (reason,)

# SPDX-License-Identifier: Apache-2.0
"""Run a command that sees its own processes only: ``python -m tests.alone COMMAND ...``.

An agent takes every guest and every nova-compute in /proc for its host's. In a PID namespace with
a /proc of its own it sees those of the tests, and none of the machine's or of other tests.
"""

import os
import subprocess
import sys

NAMESPACE = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc']
NOT_ROOT = ['--user', '--map-current-user']
REAPER = ['/bin/sh', '-c', '"$@"; exit $?', 'sh']
"""The namespace's first process inherits its orphans, and pytest would leave them zombies."""


def main() -> None:
    """Become the command; where no namespace can be made, in the machine's."""
    argv = sys.argv[1:]
    namespace = NAMESPACE if os.geteuid() == 0 else [*NAMESPACE, *NOT_ROOT]
    made = subprocess.run([*namespace, 'true'], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        argv = [*namespace, *REAPER, *argv]
    else:
        print(f'tests.alone: sees all processes: {made.stderr.strip()}', file=sys.stderr)
    os.execvp(argv[0], argv)


if __name__ == '__main__':
    main()

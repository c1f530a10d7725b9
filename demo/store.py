# SPDX-License-Identifier: Apache-2.0
"""A store for the demo: a tmpfs that only the agent sees, larger than the machine's DRAM.

A tmpfs takes memory only for what is written to it, and nothing is: so it can be of any size.
"""

import os
import subprocess
from pathlib import Path

PATH = Path('/srv/fbm-demo')
"""The agent refuses a store under /tmp. It is in a /srv that only the agent sees."""

_MOUNT_AND_RUN = """
set -e
mount -t tmpfs -o mode=0755 tmpfs "${2%/*}"
mkdir "$2"
mount -t tmpfs -o "size=$1,mode=0755" tmpfs "$2"
mkdir -p "$2/libvirt/qemu"
shift 2
exec "$@"
"""


def with_store(argv: list[str], mib: int) -> list[str] | None:
    """Return a command that mounts a store of this size for itself, and then is this one.

    None where the machine doesn't let this user mount anything, as in many containers.
    """
    unshare = ['unshare', '--mount'] + ([] if os.geteuid() == 0 else ['--map-root-user'])
    mounting = [*unshare, 'sh', '-c', _MOUNT_AND_RUN, 'sh', f'{mib}m', str(PATH)]
    try:
        subprocess.run([*mounting, 'true'], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return [*mounting, *argv]

# SPDX-License-Identifier: Apache-2.0
"""A stand-in for ssh and scp between the hosts, with which Nova moves a disk in a cold migration.

Real would be an SSH server with keys on each host, for `mkdir`, `touch`, `rm` and a copy. What
stands in runs the command with the other host's /var/lib/nova in the place of its own.
"""

from pathlib import Path

_SSH = """\
#!/bin/sh
# ssh -o BatchMode=yes HOST COMMAND...: a stand-in
while [ "$1" = -o ]; do shift 2; done
host=$1; shift
exec unshare --mount sh -c 'mount --bind "$0/$1/var/lib/nova" /var/lib/nova; shift; exec "$@"' \\
    "{hosts}" "$host" "$@"
"""

_SCP = """\
#!/bin/sh
# scp [-C] [-r] FROM TO, each a path or HOST:/var/lib/nova/...: a stand-in
while :; do case $1 in -*) shift;; *) break;; esac; done
place() {{ case $1 in *:*) echo "{hosts}/${{1%%:*}}${{1#*:}}";; *) echo "$1";; esac; }}
exec cp -r --sparse=always "$(place "$1")" "$(place "$2")"
"""


def install(directory: Path, hosts: Path) -> None:
    """Write both programs.

    :param directory: where; it has to come first on PATH
    :param hosts: its directories are the hosts', by address
    """
    directory.mkdir()
    for name, text in (('ssh', _SSH), ('scp', _SCP)):
        program = directory / name
        program.write_text(text.format(hosts=hosts))
        program.chmod(0o755)

# SPDX-License-Identifier: Apache-2.0
"""devstack's ini functions for the stubs, on real files.

They do what devstack's do to the byte: a section is added at the end after an empty line, an
option right below its section's header as ``option = value``, and a replaced one keeps what is
before its value.
"""

import pathlib
import re
import sys


def find(lines, section, option):
    found, inside = [], False
    for number, line in enumerate(lines):
        if line.startswith('['):
            inside = line.startswith(f'[{section}]')
        elif inside and (match := re.match(rf'{re.escape(option)}[ \t]*=[ \t]*', line)):
            found.append((number, match[0]))
    return found


def main(do, name, section, option, value=''):
    path = pathlib.Path(name)
    lines = path.read_text().splitlines() if path.exists() else []
    found = find(lines, section, option)
    if do == 'get':
        print(' '.join(lines[number][len(begin) :] for number, begin in found))
        return 0
    if do == 'has':
        return 0 if found else 1
    if do == 'set' and found:
        for number, begin in found:
            lines[number] = begin + value
    else:
        header = f'[{section}]'
        if header not in lines:
            lines += ['', header]
        lines.insert(lines.index(header) + 1, f'{option} = {value}')
    path.write_text('\n'.join(lines) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))

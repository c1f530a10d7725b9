# SPDX-License-Identifier: Apache-2.0
"""The commands of the documentation, and what it shows that they print."""

import re

from tests.services.process import REPOSITORY

BLOCK = re.compile(
    r'^(?P<margin> *)\.\. code-block:: console\n\n(?P<body>(?:(?P=margin) {3}.*\n|\n)+)',
    re.MULTILINE,
)
HEADING = re.compile(r'^(.+)\n(?:=+|-+)\n', re.MULTILINE)


def commands(document: str, heading: str | None = None) -> list[str]:
    """Return the commands in the console blocks of a document, in its order.

    :param heading: only those between this heading and the next one
    """
    return [command for command, _ in dialogues(document, heading)]


def dialogues(document: str, heading: str | None = None) -> list[tuple[str, list[str]]]:
    """Return each command, without its prompt, and the lines that follow it there."""
    text = (REPOSITORY / document).read_text().replace('\\\n', ' ')
    if heading is not None:
        parts = HEADING.split(text)
        text = parts[parts.index(heading) + 1]
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.finditer(text):
        for line in map(str.strip, block['body'].splitlines()):
            if line[:2] in ('$ ', '# '):
                found.append((re.sub(r' {2,}#.*', '', line[2:]), []))
            elif line and found:
                found[-1][1].append(line)
    return found

# SPDX-License-Identifier: Apache-2.0
"""What the spectator sees, and the checks behind it."""

import shlex
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.services.openstack import OpenStackCommand
from tests.services.process import ChildProcess

WIDTH = 96

Row = dict[str, str]


class Unexpected(Exception):  # noqa: N818 - it is what was seen, the stage calls it a failure
    """Something of the tour did not happen."""

    def __init__(self, expected: object, seen: object) -> None:
        super().__init__(f'expected: {expected}\nseen:     {seen}')


class Stage:
    """Prints at once, runs commands as they read, and remembers where the tour is."""

    def __init__(self) -> None:
        self.agent: ChildProcess | None = None
        self._openstack: OpenStackCommand | None = None
        self._variables: Mapping[str, str] = {}
        self._step = 0
        self._title = 'the start'

    def say(self, text: str = '') -> None:
        print(textwrap.fill(text, WIDTH), flush=True)

    def quote(self, *texts: str) -> None:
        """Print the output of a program, line by line."""
        text = '\n'.join(text.strip('\n') for text in texts if text.strip())
        print(textwrap.indent(text, '    ') + '\n', flush=True)

    def wrap(self, line: str) -> str:
        """Return a long line as a paragraph to quote."""
        return textwrap.fill(line, WIDTH - 4, break_long_words=False, break_on_hyphens=False)

    def type(self, command: str) -> None:
        """Show a command as an operator would type it."""
        print(f'$ {command}', flush=True)

    def step(self, title: str, why: str) -> None:
        """Open the next step: what comes, and why."""
        self._step += 1
        self._title = title
        print(f'\n{self._step}. {title}', flush=True)
        self.say(why)
        print(flush=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show that something takes a moment, and how long it took."""
        print(f'    {what} ... ', end='', flush=True)
        started = time.monotonic()
        yield
        print(f'{time.monotonic() - started:.1f} s\n', flush=True)

    def use(self, openstack: OpenStackCommand, variables: Mapping[str, str]) -> None:
        """Let the commands speak to this cloud, and mean these values by $NAME."""
        self._openstack, self._variables = openstack, variables
        exports = ' '.join(f'{name}={value}' for name, value in openstack.variables.items())
        self.say('All commands below are typed after these two:')
        self.quote(f'export {exports}', *(f'{name}={value}' for name, value in variables.items()))

    def openstack(self, command: str) -> list[Row]:
        if self._openstack is None:
            raise RuntimeError('use() comes first')
        words = [
            self._variables.get(word.removeprefix('$'), word) if word.startswith('$') else word
            for word in shlex.split(command)
        ]
        self.type(f'openstack {command}')
        table = self._openstack.text(*words)
        print(table, flush=True)
        return _rows(table)

    def expect(self, expected: object, seen: object) -> None:
        """End the tour unless these are the same."""
        if seen != expected:
            raise Unexpected(expected, seen)

    def failed(self, error: Exception) -> None:
        """Print the error, and the log of the agent."""
        print(f'\nFAILED in step {self._step}, {self._title}:', flush=True)
        self.quote(str(error))
        if self.agent is not None:
            print('The log of fbm-agent:', flush=True)
            self.quote(self.agent.output or '(empty)')


def _rows(table: str) -> list[Row]:
    """Return a printed table, row by row; a Field/Value table is one row."""
    lines = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in table.splitlines()
        if line.startswith('|')
    ]
    if not lines:
        return []
    head, *rows = lines
    if head == ['Field', 'Value']:
        return [dict(rows)]
    return [dict(zip(head, row, strict=True)) for row in rows]

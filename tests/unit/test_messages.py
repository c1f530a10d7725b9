# SPDX-License-Identifier: Apache-2.0
"""Each message that needs action has a section in the guide, and each section has a message.

Read from the source alone, because fbm_filters cannot be imported without Nova. A message is what
is logged as a warning or an error, what an error is raised with, and each longer string that is
not logged as INFO, because decisions return their reasons. The guide quotes messages in the titles
of sections and, as literals, in lines that begin with ``| ``; ``…`` stands for a value.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
GUIDE = REPOSITORY / 'doc/source/admin/messages'

NEED_ACTION = {'warning', 'error', 'exception', 'critical'}
NO_MESSAGES = {'info', 'debug', 'success', 'basicConfig', 'compile', 'add_argument', 'add_parser'}
"""Calls whose strings need no action, or are help texts and patterns."""
HELP_TEXTS = ('cmd/', 'conf/file_backed_memory.py', 'conf/nova.py', 'policy.py', 'options.py')
"""Where only what is logged or raised is a message."""
WORDS = 5
"""A string with fewer in a row is a part of a message, unless it is logged or raised."""

NO_SECTION = (
    # Nothing is to be done, or it is the output that a command is for.
    'withdrawn: the traits of',
    'file-backed memory on this host',
    'not as on a host that is',
    'its file is freed when it ends',
    # It does not reach an operator.
    'module … has no attribute',
    'nothing could be seen of the store',
    'The Keystone service is temporarily unavailable',
    # nova-scheduler logs it as INFO, in brackets.
    "pins the guest's pages",
    'Nova gives file-backed memory none',
    'it locks the memory into DRAM',
    'libvirt does not change the kind',
    # A part of a message that has a section, or all of it is values.
    'the host that was named is',
    '<domain',
    '; run it as root',
    'expected exit status',
    'or hard reboot the instance',
    'run "fbm-status hook install"',
    'set [file_backed_memory]resource_provider to its UUID',
    '… (try …; next in … s)',
    '…: …; run "fbm-status hook check"',
)
"""The beginnings of strings that need no section, by the reason."""


def messages_in(tree: ast.AST, *, all_strings: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # A docstring.
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition('.')[2]
            if name in NO_MESSAGES:
                continue
            if name in NEED_ACTION or name.endswith('Error'):
                yield from (text_of(arg) for arg in node.args[:1] if is_text(arg))
        if is_text(node):
            if all_strings and longest_run(text := text_of(node)) >= WORDS:
                yield text
        else:
            yield from messages_in(node, all_strings=all_strings)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def text_of(node: ast.AST) -> str:
    """Return a string with ``…`` for each value."""
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = ''.join(str(v.value) if isinstance(v, ast.Constant) else '…' for v in values)
    return ' '.join(re.sub(r'%(?:\.\d+)?[sdrf]|\{\w*\}', '…', text).split())


def longest_run(text: str) -> int:
    return max(len(piece.split()) for piece in text.split('…'))


def quotes_in(page: str) -> list[str]:
    """Return what a page quotes: titles, and literals in line blocks."""
    titles = re.findall(r'^(.+)\n(?:-+|=+)\n\n(?=\| ``|:When:)', page, re.MULTILINE)
    return titles + re.findall(r'^\| ``(.+)``$', page, re.MULTILINE)


def quotes(quote: str, message: str) -> bool:
    """Whether a quote is of a message: its longer pieces are in it, in this order."""
    pieces = [piece.strip() for piece in quote.split('…') if piece.strip()]
    long = [piece for piece in pieces if len(piece.split()) > 2] or pieces
    return bool(re.search('.*'.join(map(re.escape, long)), message))


@pytest.fixture(scope='module')
def messages() -> dict[str, str]:
    found = {}
    for path in sorted(REPOSITORY.glob('fbm_*/**/*.py')):
        name = str(path.relative_to(REPOSITORY))
        tree = ast.parse(path.read_text())
        for text in messages_in(tree, all_strings=not any(h in name for h in HELP_TEXTS)):
            found[text] = name
    return found


@pytest.fixture(scope='module')
def guide() -> list[str]:
    return [quote for page in GUIDE.glob('*.rst') for quote in quotes_in(page.read_text())]


def missing(messages: dict[str, str], guide: list[str]) -> list[str]:
    return [
        f'{where}: {text}'
        for text, where in messages.items()
        if longest_run(text) > 2
        and not text.startswith(NO_SECTION)
        and not any(quotes(quote, text) for quote in guide)
    ]


def test_each_message_has_a_section(messages, guide):
    assert missing(messages, guide) == []
    unused = [one for one in NO_SECTION if not any(text.startswith(one) for text in messages)]
    assert unused == []


def test_each_section_has_a_message(guide):
    """A message that is reworded in the code is reworded in the guide, too."""
    code = '\n'.join(
        text_of(node)
        for path in REPOSITORY.glob('fbm_*/**/*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if is_text(node)
    )
    code += (REPOSITORY / 'fbm_placement/hook/files/50-file-backed-memory').read_text()
    assert len(guide) > 100
    assert [quote for quote in guide if not quotes(quote, code)] == []


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ("LOG.exception('%s failed: %.1f', a, b)", ['… failed: …']),
        ("raise errors.ConfigurationError([f'{path}: ' 'is wrong'])", []),
        ("raise HostError(f'{path}: ' 'is wrong')", ['…: is wrong']),
        ("LOG.info('all is well here, with nothing to do')", []),
        ("def f():\n    'A docstring of five words.'\n    return 'the answer is a message'", None),
    ],
)
def test_what_a_message_is(source, expected):
    found = list(messages_in(ast.parse(source), all_strings=True))
    assert found == (['the answer is a message'] if expected is None else expected)


@pytest.mark.parametrize('title', ['it has lost its way', 'has … its way: oil …'])
def test_what_is_quoted(title):
    page = f'.. _a-label:\n\n{title}\n{"-" * len(title)}\n\n| ``another, of {title[:2]}``\n'
    assert quotes_in(page) == [title, f'another, of {title[:2]}']
    assert missing({'it has lost its way: oil it now': 'x.py'}, quotes_in(page)) == []
    assert missing({'it has found its way': 'x.py'}, quotes_in(page)) != []

# SPDX-License-Identifier: Apache-2.0
"""Each message that an operator can meet has a line in the administrator's guide.

Read from the source alone, so that fbm_filters is looked at too, which cannot be imported without
Nova. The guide tells a message where the first column of a table quotes words of it as a
``literal``: all that stand in a row there do so in the message; ``…`` is what is put in.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
GUIDE = REPOSITORY / 'doc/source/admin'
SHELL_PART = 'fbm_placement/hook/files/50-file-backed-memory'

GAP = '…'
PUT_IN = re.compile(r'%(?:\.\d+)?[sdrf]|\{\w*\}|"fbm-status [a-z ]+"')
"""What stands for a value in the code, beside what an f-string has; commands are no words."""
FEWEST_WORDS = 3
"""In a row: a string with fewer is no message, unless it is logged or raised."""

FILES_OF_OTHER_STRINGS = {
    'fbm_filters/policy.py': 'help texts: the configuration reference has them',
    'fbm_placement/cmd/': 'help texts',
    'fbm_placement/conf/file_backed_memory.py': 'help texts: the configuration reference',
    'fbm_placement/hook/inspection.py': 'the later parts of a finding',
    'fbm_placement/host/draining.py': 'parts of the line that is returned',
    'fbm_placement/host/guests.py': 'words for kinds of memory',
    'fbm_placement/inspection/output.py': 'the report of fbm-status guests itself',
    'fbm_placement/words.py': "patterns of others' messages",
}
"""Where only what is logged, raised or returned is a message, and why."""

NEEDS_NO_LINE = {
    'it passes on what others made': ('…', '…: …', '… (try …; next in … s)', '[placement]: …'),
    'it is how things are, and nothing is to be done': (
        'Nova guest is',
        'Nova guests are',
        'disabled: the inventory of … is left to nova-compute…',
        'As it should be: …',
        'nothing to change',
        'there were none',
        (
            'withdrawn: the traits of … are removed (…); its inventory stays '
            'until nova-compute reports again'
        ),
    ),
    'it cannot happen, or not to an operator': (
        'The Keystone service is temporarily unavailable',
        'module … has no attribute …',
        'nothing could be seen of the store',
    ),
    'it is the name of a check': ('Rights in Placement', 'nova-compute and fbm-agent'),
    'it is the reason in brackets of a line that nova-scheduler logs as INFO': (
        "pins the guest's pages for a device, which the kernel refuses on a disk filesystem",
        'Nova gives file-backed memory none, not even small ones, and locks memory only with one',
        'it locks the memory into DRAM that Placement has not counted',
        "libvirt does not change the kind of a guest's memory in a live migration",
        'neither flavor nor image has trait:…=required',
    ),
    'it is a part of a line that has one': (
        '(no printable name)',
        'fbm hook on …: guest … …: …',
        'or hard reboot the instance, which redefines it',
        'its NUMA cell … is',
        '; run it as root',
        'set [file_backed_memory]resource_provider to its UUID (openstack resource provider list)',
        "this host's name",
        'the default files',
        '(overwrite … in this loop)',
        'a whole number of MiB, e.g. 1048576 for 1 TiB, or 0 for DRAM',
        'a whole number of seconds, 5 to 3600',
        'kvm or qemu',
        'enforce or warn or off',
        'the UUID or the name of a resource provider',
        'the absolute path of a directory',
        'an empty answer',
        'no content type',
    ),
}
"""Messages that the guide need not have, as a failure of the test shows them, and why."""


@dataclass(frozen=True)
class Message:
    """A string of the code."""

    where: str
    text: str
    """With a gap for each thing that is put in."""

    @property
    def has_words(self) -> bool:
        """Whether it may be a message, from its looks."""
        return any(len(piece.split()) >= FEWEST_WORDS for piece in self.text.split(GAP))

    def is_told(self, quotes: Iterable[str]) -> bool:
        """Whether one of the guide's quotes is of this message."""
        own = runs_of(self.text)
        if many_words(own):
            return any(is_of(many_words(runs_of(quote)), own) for quote in quotes)
        return any(run in own for quote in quotes for run in runs_of(quote))


def runs_of(text: str) -> list[str]:
    """Return the words that stand in a row, without a gap between them."""
    runs = (re.findall(r'\w+', piece) for piece in text.split(GAP))
    return [f' {" ".join(run)} ' for run in runs if run]


def many_words(runs: Iterable[str]) -> list[str]:
    return [run for run in runs if len(run.split()) >= FEWEST_WORDS]


def is_of(quoted: list[str], own: list[str]) -> bool:
    """Whether these runs are all of a message; one may have a value in it, or at its end."""
    long = many_words(own)
    return bool(quoted) and all(
        any(run in one for one in own) or any(one in run for one in long) for run in quoted
    )


# What the code says

SAYING_CALLS = {'warning', 'error', 'exception', 'critical', 'failure', 'Finding'}
"""Their first argument is a message, however short; so is what an error is made with."""
SILENT_CALLS = {'info', 'debug', 'success', 'basicConfig', 'compile'}
"""What they are given is none: nothing is to be done, or nobody reads it."""


SAID, RETURNED, OTHER = 'logged or raised', 'returned', 'other'


def messages_in(source: str, where: str, *, all_strings: bool = True) -> Iterator[Message]:
    """Find the messages in Python source.

    :param all_strings: not only what is logged, raised or returned
    """
    for node, use in strings_in(ast.parse(source)):
        message = Message(f'{where}:{node.lineno}', text_of(node))
        may_be = all_strings or use == RETURNED
        if message.text and (use == SAID or (may_be and message.has_words)):
            yield message


def strings_in(
    node: ast.AST, use: str = OTHER
) -> Iterator[tuple[ast.Constant | ast.JoinedStr, str]]:
    """Return the strings at a node and below, but no docstring."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node, use
    elif isinstance(node, ast.JoinedStr):
        yield node, use
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from strings_in(part.value)
    elif not _is_silent(node):
        for child in ast.iter_child_nodes(node):
            yield from strings_in(child, _use(node, child, use))


def _is_silent(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return called(node) in SILENT_CALLS
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _use(node: ast.AST, child: ast.AST, use: str) -> str:
    if isinstance(node, ast.Return):
        return RETURNED
    if isinstance(node, ast.Call):
        says = called(node) in SAYING_CALLS or called(node).endswith('Error')
        return SAID if says and child in node.args[:1] else OTHER
    # A list of reasons, a sum, a choice of two.
    return use if isinstance(node, ast.List | ast.BinOp | ast.IfExp) else OTHER


def called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition('.')[2]


def text_of(node: ast.Constant | ast.JoinedStr) -> str:
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = ''.join(str(v.value) if isinstance(v, ast.Constant) else GAP for v in values)
    return ' '.join(PUT_IN.sub(GAP, text).split())


def shell_messages_in(source: str, where: str) -> Iterator[Message]:
    """Find the messages in a shell script: what is in quotes."""
    code = re.sub(r'(^|\s)#.*$', '', source, flags=re.MULTILINE).replace('\\\n', '')
    for double, single in re.findall(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'', code):
        text = re.sub(r'\$(?:\w+|\{[^}]*\})', GAP, double or single)
        if (message := Message(where, ' '.join(text.split()))).has_words:
            yield message


def sources() -> dict[str, str]:
    """Return the text of each Python file, by its path."""
    paths = sorted(REPOSITORY.glob('fbm_*/**/*.py'))
    return {str(path.relative_to(REPOSITORY)): path.read_text() for path in paths}


@pytest.fixture(scope='module')
def messages() -> list[Message]:
    found = list(shell_messages_in((REPOSITORY / SHELL_PART).read_text(), SHELL_PART))
    for name, source in sources().items():
        others = name.startswith(tuple(FILES_OF_OTHER_STRINGS))
        found += messages_in(source, name, all_strings=not others)
    return found


# What the guide quotes

FIRST_CELL = re.compile(r'^ {3}\* - (.*?)\n {5}- ', re.MULTILINE | re.DOTALL)
LITERAL = re.compile(r'``(.+?)``', re.DOTALL)
GAP_OF_THE_GUIDE = re.compile(r'…\S*|\.\.\.|\b[A-Z]\b')
"""``…host.json`` is a path that is put in."""


def quotes_in(document: str) -> list[str]:
    """Return the literals in the first column of its tables."""
    literals = LITERAL.findall(GAP.join(FIRST_CELL.findall(document)))
    return [GAP_OF_THE_GUIDE.sub(GAP, ' '.join(one.split())) for one in literals]


@pytest.fixture(scope='module')
def quotes() -> list[str]:
    return [quote for path in GUIDE.glob('*.rst') for quote in quotes_in(path.read_text())]


def missing(found: Iterable[Message], quotes: Iterable[str]) -> list[str]:
    exempt = {text for texts in NEEDS_NO_LINE.values() for text in texts}
    left = (one for one in found if one.text not in exempt and not one.is_told(quotes))
    return [f'{one.where}: {one.text}' for one in left]


def test_the_guide_tells_each_message(messages, quotes):
    """One that is missing gets a row in messages.rst, or a reason why it needs none."""
    assert missing(messages, quotes) == []


def test_each_exemption_is_of_a_message(messages):
    texts, names = {one.text for one in messages}, ' '.join(sources())
    assert [one for group in NEEDS_NO_LINE.values() for one in group if one not in texts] == []
    assert [one for one in FILES_OF_OTHER_STRINGS if one not in names] == []


def test_messages_rst_quotes_what_the_code_says(messages):
    """A message that is reworded is reworded there, too."""
    said = [one.text for one in messages]
    for source in sources().values():
        said += [text_of(node) for node, _ in strings_in(ast.parse(source))]
    code = GAP.join(run for text in said for run in runs_of(text))
    quotes = quotes_in((GUIDE / 'messages.rst').read_text())
    runs = many_words(run for quote in quotes for run in runs_of(quote))
    assert len(runs) > 100
    assert [run for run in runs if run not in code] == []


MADE_UP = """
def work(store):
    'A docstring that is no message.'
    LOG.info('%s: all is well with it, nothing to do', store)
    LOG.warning('%s: the frobnicator has lost its bearings', store)
"""
ROW = '   * - ``…: the frobnicator has lost its bearings``\n     - Oil it.\n'


def test_a_message_that_nobody_has_told_is_missing(quotes):
    found = list(messages_in(MADE_UP, 'made_up.py'))
    assert missing(found, quotes) == ['made_up.py:5: …: the frobnicator has lost its bearings']
    assert missing(found, quotes_in(ROW)) == []


@pytest.mark.parametrize(('old', 'new'), [('``', ''), ('lost', 'found'), ('has lost', '…')])
def test_what_does_not_tell_it(old, new):
    found = list(messages_in(MADE_UP, 'made_up.py'))
    assert missing(found, quotes_in(ROW.replace(old, new))) != []


@pytest.mark.parametrize(
    ('source', 'texts'),
    [
        ("LOG.exception('%s went wrong: %.1f', a, b)", ['… went wrong: …']),
        ("raise errors.ConfigurationError([f'{path}: ' 'wrong'])", ['…: wrong']),
        ("line = 'this is told later'", ['this is told later']),
        ("LOG.debug('this is told to nobody')", []),
        ("key = 'two words'", []),
    ],
)
def test_what_a_message_is(source, texts):
    assert [one.text for one in messages_in(source, '')] == texts


def test_what_the_shell_says():
    script = 'say "may not run: $1" # "this is no message"\n# "nor is this one"\n'
    assert [one.text for one in shell_messages_in(script, '')] == ['may not run: …']

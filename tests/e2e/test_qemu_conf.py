# SPDX-License-Identifier: Apache-2.0
"""qemu.conf as libvirt reads it: its parser, from its library, and libvirtd itself."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbm_placement import errors
from fbm_placement.host.qemu_conf import parse, read_qemu_conf
from tests.e2e.lab.domain import FILE_BACKED, Domain

NAMES = ('a', 'b', 'user')
TEXTS = st.text(st.sampled_from('a"\'#;=[],\\ \t\n\r\v\x85\u2028é\udcff'), max_size=6)
BLANK = st.sampled_from(['', '', ' ', '\t'])
LINE_END = st.sampled_from(['\n', '\n', '\r\n', '\r', ';', '; \n', ' # x\n', '\v', '', '\n\n#x\n'])
WORDS = st.one_of(
    TEXTS.map('"{}"'.format),
    TEXTS.map("'{}'".format),
    TEXTS.map('"""{}"""'.format),
    st.integers(-9, 99).map(str),
    st.sampled_from(['+1', '1.5', 'x', '""', '""""""', '']),
)
VALUES = st.recursive(
    WORDS,
    lambda inner: st.builds(
        '[{}{}{}]'.format,
        st.sampled_from(['', ' ', '\n']),
        st.lists(inner, max_size=3).map(' ,\n'.join),
        st.sampled_from(['', ',', ' ', ', #\n']),
    ),
    max_leaves=4,
)
STATEMENTS = st.builds(
    '{}{}{}={}{}{}'.format,
    BLANK,
    st.sampled_from([*NAMES, *NAMES, 'A_1', '_a', 'é']),
    BLANK,
    BLANK,
    VALUES,
    LINE_END,
)
TOKENS = st.sampled_from(
    [
        *NAMES,
        '=',
        '"',
        "'",
        '"""',
        ';',
        '#',
        '\n',
        '\r',
        ' ',
        '[',
        ']',
        ',',
        '1',
        '-',
        '\\',
        'a="x"',
    ]
)
FILES = st.one_of(st.lists(STATEMENTS, max_size=4), st.lists(TOKENS, max_size=12)).map(''.join)


class Libvirt:
    """Its parser; no public symbol, but one that its daemons and all of its releases have."""

    def __init__(self):
        library = ctypes.CDLL('libvirt.so.0')
        self._read = library.virConfReadString
        self._read.argtypes, self._read.restype = (ctypes.c_char_p, ctypes.c_uint), ctypes.c_void_p
        self._get = library.virConfGetValueString
        self._get.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p))
        self._free = library.virConfFree
        self._free.argtypes = (ctypes.c_void_p,)
        # Its errors are expected here.
        library.virSetErrorFunc(None, ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)())
        library.virInitialize()

    def parse(self, text):
        """Return the settings of NAMES, as ``parse`` does; None: it is refused."""
        conf = self._read(text.encode('utf-8', 'surrogateescape'), 0)
        if not conf:
            return None
        found = {}
        for name in NAMES:
            value = ctypes.c_char_p()
            if known := self._get(conf, name.encode(), ctypes.byref(value)):
                text = value.value.decode('utf-8', 'surrogateescape') if known > 0 else None
                found[name] = text
        self._free(conf)
        return found


@pytest.fixture(scope='module')
def libvirt():
    return Libvirt()


@settings(max_examples=5000, deadline=None)
@given(text=FILES)
def test_whatever_is_written_the_agent_reads_what_libvirt_reads(libvirt, text):
    try:
        found = {name: value for name, value in parse(text).items() if name in NAMES}
    except ValueError:
        found = None
    assert found == libvirt.parse(text)


@pytest.mark.parametrize(
    'lines',
    [
        'user = "root"; group = "root"; memory_backing_dir = "/var/lib/ram"\n',
        'foo = """a\nmemory_backing_dir = "/x"\nb"""\nmemory_backing_dir = "/var/lib/ram"\n',
        "memory_backing_dir = '/var/lib/ram' # comment\r\nmemory_backing_dir = '/x'\n",
    ],
)
def test_where_libvirtd_puts_the_memory(boot, make_host, lines):
    host = make_host(libvirtd=False)
    file = host.path('/etc/libvirt/qemu.conf')
    file.write_text(lines + file.read_text())
    assert read_qemu_conf(str(file)).memory_backing_dir == '/var/lib/ram'
    host.memory_backing_dir = '/var/lib/ram'
    host.start_libvirtd()
    (ram_file,) = boot(host, Domain(backing=FILE_BACKED)).ram_files()
    assert ram_file.name == 'pc.ram'


@pytest.mark.parametrize('line', ['memory_backing_dir = /var/lib/ram', 'memory_backing_dir = 5'])
def test_a_file_that_libvirtd_does_not_start_with(make_host, line):
    host = make_host(libvirtd=False)
    file = host.path('/etc/libvirt/qemu.conf')
    file.write_text(f'{line}\n{file.read_text()}')
    with pytest.raises(errors.HostError, match='libvirtd does not start with that'):
        read_qemu_conf(str(file))
    done = host.run('timeout', '25', 'libvirtd', check=False)
    assert done.returncode != 124
    assert 'Driver state initialization failed' in done.stderr

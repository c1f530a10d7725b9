# SPDX-License-Identifier: Apache-2.0
"""What the hook reads of a domain's XML, and what it makes of XML that libvirt never writes."""

import time

import hypothesis
import pytest
from hypothesis import strategies as st

from fbm_placement.hook import program
from tests import hook_lab as lab


def test_it_reads_what_counts():
    cells = '<cell id="0" memory="1" memAccess="private"/><cell id="1" memory="1"/>'
    guest = program.parse_guest(
        lab.domain('<hugepages/>' + lab.FILE_BACKED, cells=cells, uuid=lab.UUID.upper()).encode()
    )
    assert guest.nova
    assert guest.uuid == lab.UUID
    assert (guest.source, guest.access, guest.hugepages) == ('file', 'shared', True)
    assert guest.cells == [('0', 'private'), ('1', None)]
    assert guest.memory == 2 * 1024


def test_it_reads_nothing_where_there_is_nothing():
    guest = program.parse_guest(b'<domain/>')
    assert not guest.nova
    assert (guest.source, guest.access, guest.hugepages, guest.cells) == (None, None, False, [])
    assert guest.memory is None


def test_as_in_libvirt_the_first_of_several_counts():
    twice = '<source type="anonymous"/><source type="file"/><access mode="a"/><access mode="b"/>'
    more = '<uuid>other</uuid><memory unit="b">1</memory>'
    guest = program.parse_guest(lab.domain(twice, more=more).encode())
    assert (guest.source, guest.access) == ('anonymous', 'a')
    assert (guest.uuid, guest.memory) == (lab.UUID, 64 << 20)


@pytest.mark.parametrize(
    ('metadata', 'nova'),
    [
        (f'<n:instance xmlns:n="{lab.NOVA}"/>', True),
        (f'<instance xmlns="{lab.NOVA[:-3]}1.0"/>', True),
        (f'<n:instance xmlns:n="{lab.NOVA}"/><o:x xmlns:o="urn:o"/>', True),
        (f'<o:x xmlns:o="urn:o"><n:instance xmlns:n="{lab.NOVA}"/></o:x>', True),
        ('<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/other/1.1"/>', False),
        ('<instance>http://openstack.org/xmlns/libvirt/nova/1.1</instance>', False),
        (f'<x:y xmlns:x="urn:x" a="{lab.NOVA}"/>', False),
        (f'<x:y xmlns:x="urn:x" xmlns:unused="{lab.NOVA}"/>', False),
        ('', False),
    ],
)
def test_nova_guests_have_its_namespace(metadata, nova):
    assert program.parse_guest(lab.domain(metadata=metadata).encode()).nova is nova


def test_the_namespace_counts_in_the_metadata_only():
    more = f'<n:instance xmlns:n="{lab.NOVA}"/>'
    assert not program.parse_guest(lab.domain(metadata='', more=more).encode()).nova


def test_elements_of_another_namespace_are_not_libvirts():
    more = '<x:memoryBacking xmlns:x="urn:x"><x:hugepages/><hugepages/></x:memoryBacking>'
    assert not program.parse_guest(lab.domain(more=more).encode()).hugepages
    backing = '<x:source xmlns:x="urn:x" type="file"/><source x:type="file" xmlns:x="urn:x"/>'
    assert program.parse_guest(lab.domain(backing).encode()).source is None


UNITS = {
    'b': 1, 'byte': 1, 'bytes': 1,
    'KB': 1000, 'k': 1024, 'K': 1024, 'KiB': 1024, 'kib': 1024,
    'MB': 10**6, 'M': 1 << 20, 'MiB': 1 << 20,
    'GB': 10**9, 'G': 1 << 30, 'GiB': 1 << 30,
    'TB': 10**12, 'T': 1 << 40, 'TiB': 1 << 40,
    'PiB': 1 << 50, 'EB': 10**18, 'EiB': 1 << 60,
}  # fmt: skip


@pytest.mark.parametrize(('unit', 'factor'), UNITS.items())
def test_memory_has_the_units_of_libvirt(unit, factor):
    memory = f'<memory unit="{unit}"> 2\n</memory>'
    assert program.parse_guest(lab.domain(memory=memory).encode()).memory == 2 * factor


def test_memory_without_a_unit_is_in_kib():
    for number in (2, 10**19):
        memory = f'<memory>{number}</memory>'
        assert program.parse_guest(lab.domain(memory=memory).encode()).memory == number * 1024


@pytest.mark.parametrize('unit', ['', 'XiB', 'MxB', 'MiBs', 'Mb/s'])
def test_an_unknown_unit_is_not_guessed(unit):
    memory = f'<memory unit="{unit}">2</memory>'
    assert program.parse_guest(lab.domain(memory=memory).encode()).memory is None


@pytest.mark.parametrize('number', ['-2', '2.0', '0x2', '\u0662', '9' * 21, '9' * 5000, '', None])
def test_what_is_no_number_is_not_guessed(number):
    memory = '' if number is None else f'<memory>{number}</memory>'
    assert program.parse_guest(lab.domain(memory=memory).encode()).memory is None


def test_with_cells_their_memory_counts_and_no_devices():
    """Libvirt's <memory> has the size of NVDIMMs in it, which are elsewhere."""
    cells = '<cell id="0" memory="64" unit="MiB"/><cell id="1" memory="1024"/>'
    xml = lab.domain(memory='<memory unit="GiB">512</memory>', cells=cells)
    assert program.parse_guest(xml.encode()).memory == 65 << 20
    broken = lab.domain(cells='<cell id="0" memory="64" unit="MiB"/><cell id="1"/>')
    assert program.parse_guest(broken.encode()).memory is None


BOMB = '<!DOCTYPE domain [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
FIT = lab.domain()
HOSTILE = {
    'nothing': b'',
    'blanks': b'   \n',
    'no XML': b'domain',
    'truncated': FIT.encode()[:-20],
    'in the middle of a character': FIT.replace('kvm', 'kv\u00fc').encode().partition(b'\xbc')[0],
    'entities': (BOMB + FIT.replace(lab.NAME, '&b;')).encode(),
    'an external entity': b'<!DOCTYPE domain SYSTEM "file:///etc/passwd"><domain>&x;</domain>',
    'a parameter entity': b'<!DOCTYPE domain [<!ENTITY % p SYSTEM "file:///etc/passwd">%p;]><domain/>',
    'an unknown entity': FIT.replace(lab.NAME, '&unknown;').encode(),
    'another root': b'<network/>',
    'a root of a namespace': b'<domain xmlns="urn:x"/>',
    'two roots': FIT.encode() * 2,
    'a NUL': FIT.replace(lab.NAME, 'a\0b').encode(),
    'a NUL behind': FIT.encode() + b'\0',
    'an unknown encoding': b'<?xml version="1.0" encoding="klingon"?>' + FIT.encode(),
    'a codec that is no encoding': b'<?xml version="1.0" encoding="hex"?>' + FIT.encode(),
    'an encoding of many bytes': b'<?xml version="1.0" encoding="shift-jis"?>' + FIT.encode(),
    'a wrong encoding': FIT.encode('utf-16')[:-1],
    'no UTF-8': FIT.replace(lab.NAME, '\u00fc').encode('latin-1'),
    'deep nesting': b'<domain>' + b'<a>' * 500_000,
    'great length': b'<domain>' + b'<a/>' * 2_100_000 + b'</domain>',
    'an unbound prefix': FIT.replace('<name>', '<x:name>').encode(),
    'an attribute twice': FIT.replace("id='1'", "id='1' id='2'").encode(),
}


@pytest.mark.parametrize('case', HOSTILE)
def test_what_libvirt_never_writes_is_not_read(case):
    begun = time.process_time()
    with pytest.raises(program.UnreadableXMLError) as raised:
        program.parse_guest(HOSTILE[case])
    assert str(raised.value)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_encodings_that_say_what_they_are_are_read(encoding):
    guest = program.parse_guest(FIT.encode(encoding))
    assert guest.nova
    assert guest.source == 'file'


def test_long_texts_cost_little():
    more = f'<uuid>{"x" * 4_000_000}</uuid><description>{"y" * 3_000_000}</description>'
    begun = time.process_time()
    guest = program.parse_guest(FIT.replace(f'<uuid>{lab.UUID}</uuid>', more).encode())
    assert time.process_time() - begun < 1
    assert len(guest.uuid) <= 1024


def test_many_elements_cost_little():
    xml = b'<domain>' + b'<a/>' * 2_000_000 + b'</domain>'
    assert len(xml) < program.XML_MAX_BYTES
    begun = time.process_time()
    assert not program.parse_guest(xml).nova
    assert time.process_time() - begun < 3  # of the 8 that the hook has


PIECES = st.sampled_from(
    [
        b'<', b'>', b'/>', b'</', b'"', b"'", b'&', b';', b'\0', b'\xff', b'<![CDATA[', b']]>',
        b'<!--', b'-->', b'<?xml version="1.0" encoding="utf-16"?>', b'<!DOCTYPE d [', b'<domain>',
        b'</domain>', b'<metadata>', b'</metadata>', b'<memoryBacking>', b'</memoryBacking>',
        b'<source type="file"/>', b'<hugepages/>', b'xmlns="urn:x"', b'xmlns:nova="urn:x"',
        b'<memory unit="TiB">99</memory>', b'&#x0;', b'&amp;', b'\xed\xa0\x80',
    ]
)  # fmt: skip


@st.composite
def mutated(draw):
    """The XML of a guest that doesn't fit an enabled host, damaged in a few places."""
    backing = draw(st.sampled_from(['', '<source type="anonymous"/>', '<source type="file"/>']))
    xml = lab.domain(backing).encode()
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(xml)))
        gone = draw(st.integers(0, 40))
        xml = xml[:at] + draw(PIECES | st.binary(max_size=8)) + xml[at + gone :]
    return xml[: draw(st.integers(0, len(xml)) | st.just(len(xml)))]


@hypothesis.settings(max_examples=1000, deadline=1000)
@hypothesis.given(xml=mutated())
def test_no_damage_lets_a_guest_of_nova_pass(xml):
    """It is read and refused, or it is not read; whatever it was, it doesn't end in an error."""
    try:
        guest = program.parse_guest(xml)
    except program.UnreadableXMLError:
        return
    decision, reason = program.decide('prepare', guest, lab.state())
    if not guest.nova:
        assert decision == 'pass'
    elif guest.source != 'file' or guest.access != 'shared' or guest.hugepages:
        assert decision == 'refuse'
        assert reason.isprintable()
    # Damage that is well-formed all the same may make the guest fit, but not by chance.
    else:
        assert b'file' in xml
        assert b'shared' in xml


@hypothesis.settings(max_examples=300, deadline=1000)
@hypothesis.given(xml=mutated() | st.binary(max_size=200))
def test_unreadable_xml_is_foreign_only_where_it_is_whole_and_not_novas(xml):
    foreign = program.is_foreign(xml)
    assert not (foreign and program.NOVA.encode() in xml)
    assert not (foreign and not xml.replace(b'\0', b'').rstrip().endswith(b'</domain>'))

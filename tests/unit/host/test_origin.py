# SPDX-License-Identifier: Apache-2.0
"""Whether Nova made a guest without its SMBIOS strings: libvirt's XML, or the guest's name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbm_placement.host.origin import is_name_of, is_nova

UUID = '00000000-1111-4222-8333-444444444444'
XML = """\
<domstatus state='running' reason='booted' pid='7'>
  <domain type='kvm' id='1'>
    <name>web</name>
    <uuid>00000000-1111-4222-8333-444444444444</uuid>
    <metadata>{}</metadata>
  </domain>
</domstatus>
"""
NOVA = (
    '<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">'
    '<nova:name>x</nova:name></nova:instance>'
)


@pytest.mark.parametrize(
    ('template', 'name', 'matches'),
    [
        ('instance-%08x', 'instance-0000001f', True),
        ('instance-%08x', 'instance-10000001f', True),
        ('instance-%08x', 'instance-1f', False),
        ('instance-%08x', 'instance-0000001g', False),
        ('instance-%08x', 'my-instance-0000001f', False),
        ('instance-%08x', 'instance-0000001f-2', False),
        ('instance-%8X', 'instance-      1F', True),
        ('instance-%(uuid)s', f'instance-{UUID}', True),
        ('instance-%(uuid)s', 'instance-11111111-1111-4222-8333-444444444444', False),
        ('%(uuid)s', UUID, True),
        ('vm%d', 'vm42', True),
        ('vm%s', 'vm42', True),
        ('vm%d', 'vm4f', False),
        ('vm%d', 'vm', False),
        ('%(id)05o', '00017', True),
        ('%(id)05o', '00018', False),
        ('%(hostname)s.%(id)d', 'web.example.7', True),
        ('%(hostname)s.%(id)d', 'web.example.x', False),
        ('100%%-%x', '100%-ff', True),
        ('a.c-%x', 'abc-1', False),
        ('always', 'always', True),
        ('always', 'never', False),
        ('', 'x', False),
        ('%', '%', True),
        ('vm%99999999999d', 'vm1', False),
    ],
)
def test_a_name_of_the_template(template, name, matches):
    assert is_name_of(template, name, UUID) is matches


LITERALS = st.text(st.sampled_from('aF0-.*$ ')) | st.just('%%')
BY_ID = st.builds(
    '{}{}{}'.format, LITERALS, st.sampled_from(['%d', '%08x', '%5X', '%o', '%-3i', '%s']), LITERALS
)
BY_FIELD = st.lists(
    LITERALS | st.sampled_from(['%(uuid)s', '%(id)d', '%(id)04x', '%(hostname)s', '%(hostname)r']),
    max_size=5,
).map(''.join)


@given(template=BY_ID | BY_FIELD, number=st.integers(1, 2**40))
def test_each_name_that_nova_makes_is_one_of_its_template(template, number):
    fields = {'uuid': UUID, 'id': number, 'hostname': 'web.example'}
    try:
        name = template % number
    except TypeError:
        name = template % fields
    assert is_name_of(template, name, UUID)


def write(directory, text, name='web'):
    (directory / f'{name}.xml').write_text(text)


def test_the_xml_of_libvirt_counts_whatever_the_name_is(tmp_path):
    write(tmp_path, XML.format(NOVA))
    assert is_nova('web', UUID, 'instance-%08x', str(tmp_path))
    write(tmp_path, XML.format(NOVA.replace('/1.1', '/1.0')))
    assert is_nova('web', UUID, 'instance-%08x', str(tmp_path))
    write(tmp_path, XML.format('<x:y xmlns:x="http://example.org/nova/"/>'))
    assert not is_nova('web', UUID, 'web', str(tmp_path))


@pytest.mark.parametrize(
    ('template', 'expected'), [('web', True), ('%(hostname)s', True), ('instance-%08x', False)]
)
def test_where_there_is_no_xml_of_this_guest_its_name_decides(tmp_path, template, expected):
    assert is_nova('web', UUID, template, str(tmp_path)) is expected
    write(tmp_path, XML.format('').replace('444<', '445<'))
    assert is_nova('web', UUID, template, str(tmp_path)) is expected
    (tmp_path / 'web.xml').unlink()
    (tmp_path / 'web.xml').mkdir()
    assert is_nova('web', UUID, template, str(tmp_path)) is expected


def test_a_name_leads_to_no_file_elsewhere(tmp_path):
    (tmp_path / 'qemu').mkdir()
    write(tmp_path, XML.format(NOVA))
    assert not is_nova('../web', UUID, 'instance-%08x', str(tmp_path / 'qemu'))

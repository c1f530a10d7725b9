# SPDX-License-Identifier: Apache-2.0
"""What libvirt's persistent XML shows that Nova will ask for again."""

import pytest

from fbm_placement import errors
from fbm_placement.host.definitions import read_definitions

HUGE = '<memoryBacking><hugepages><page size="2048" unit="KiB" nodeset="0"/></hugepages>{}'
CELL = '<cpu><numa><cell id="0" cpus="0" memory="65536"/></numa></cpu>'
SHARE = '<devices><filesystem type="mount"><driver type="virtiofs"/></filesystem></devices>'
SPECS = '<nova:extraSpecs>{}</nova:extraSpecs>'
NO_SPECS = SPECS.format('')
SPEC = SPECS.format('<nova:extraSpec name="{}">{}</nova:extraSpec>')
PROPERTY = '<nova:property name="{}">{}</nova:property>'

DOMAIN = """\
<!--
WARNING: THIS IS AN AUTO-GENERATED FILE.
-->

<domain type="kvm">
  <name>instance-00000001</name>
  <uuid>b1</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:flavor name="tiny" id="1">{flavor}</nova:flavor>
      <nova:image uuid="i1"><nova:properties>{image}</nova:properties></nova:image>
    </nova:instance>
  </metadata>
  {body}
</domain>
"""


def needs(tmp_path, body='', flavor=NO_SPECS, image=''):
    text = DOMAIN.format(body=body, flavor=flavor, image=image)
    (tmp_path / 'instance-00000001.xml').write_text(text)
    (definition,) = read_definitions(str(tmp_path))
    assert str(definition) == 'instance-00000001 (b1)'
    return {need.name for need in definition.needs}


@pytest.mark.parametrize(
    ('body', 'expected'),
    [
        ('', set()),
        ('<memoryBacking><source type="file"/><access mode="shared"/></memoryBacking>', set()),
        (HUGE.format('</memoryBacking>'), {'PAGE_SIZE'}),
        (CELL, {'TOPOLOGY'}),
        (CELL + HUGE.format('</memoryBacking>'), {'PAGE_SIZE'}),
        ('<memoryBacking><nosharepages/><locked/></memoryBacking>', {'PINNED'}),
        (HUGE.format('<locked/></memoryBacking>'), {'PAGE_SIZE', 'PINNED'}),
        ('<launchSecurity type="sev"/>', {'PINNED'}),
        ('<devices><hostdev mode="subsystem" type="pci"/></devices>', {'PINNED'}),
        ('<devices><hostdev mode="subsystem" type="mdev"/></devices>', {'PINNED'}),
        ('<devices><hostdev mode="subsystem" type="usb"/></devices>', set()),
        ('<devices><interface type="hostdev"/></devices>', {'PINNED'}),
        ('<devices><interface type="vdpa"/></devices>', {'PINNED'}),
        ('<devices><interface type="bridge"/></devices>', set()),
        (SHARE, {'SHARE'}),
        # Huge pages are shared memory, too.
        (SHARE + HUGE.format('</memoryBacking>'), {'PAGE_SIZE'}),
        ('<devices><filesystem type="mount"><driver type="path"/></filesystem></devices>', set()),
    ],
)
def test_what_an_element_stands_for(tmp_path, body, expected):
    assert needs(tmp_path, body) == expected


@pytest.mark.parametrize(
    ('name', 'value', 'expected'),
    [
        ('hw:mem_page_size', 'small', {'PAGE_SIZE'}),
        ('hw:cpu_policy', 'shared', set()),
        ('trait:CUSTOM_FILE_BACKED_MEMORY', 'required', {'REQUIRED'}),
        ('trait:CUSTOM_FILE_BACKED_MEMORY', 'forbidden', {'FORBIDDEN'}),
    ],
)
def test_what_an_extra_spec_stands_for(tmp_path, name, value, expected):
    assert needs(tmp_path, flavor=SPEC.format(name, value)) == expected


def test_a_page_size_of_the_image(tmp_path):
    """Of the smallest pages: no element of libvirt's has it."""
    assert needs(tmp_path, CELL, image=PROPERTY.format('hw_mem_page_size', 'small')) == {
        'PAGE_SIZE'
    }


def test_a_nova_that_does_not_write_the_extra_specs(tmp_path):
    """Before release 32; where it started the guest with file-backed memory there was none."""
    backed = '<memoryBacking><source type="file"/></memoryBacking>'
    assert needs(tmp_path, CELL, flavor='') == {'MAYBE_PAGE_SIZE'}
    assert needs(tmp_path, CELL + backed, flavor='') == {'TOPOLOGY'}
    assert needs(tmp_path, '', flavor='') == set()


def test_what_is_not_a_guest_of_nova(tmp_path):
    (tmp_path / 'networks').mkdir()
    (tmp_path / 'autostart').mkdir()
    (tmp_path / 'a.xml').write_text('<domain><name>a</name><metadata/></domain>')
    (tmp_path / 'b.xml').write_text(
        '<domain><metadata><x:instance xmlns:x="y"/></metadata></domain>'
    )
    (tmp_path / 'c.xml').write_text('<domain>')
    (tmp_path / 'd.xml.new').write_text(DOMAIN)
    assert read_definitions(str(tmp_path)) == ()
    assert read_definitions(str(tmp_path / 'nowhere')) == ()


def test_a_guest_that_is_undefined_meanwhile(tmp_path):
    """The others are found all the same: each may be the one that would not start again."""
    (tmp_path / 'a.xml').symlink_to('gone.xml')
    (tmp_path / 'b.xml').write_text(DOMAIN)
    assert len(read_definitions(str(tmp_path))) == 1


def test_definitions_that_may_not_be_read(tmp_path):
    (tmp_path / 'a.xml').symlink_to('a.xml')
    with pytest.raises(errors.HostError, match=r'a\.xml: .*: run fbm-status as root'):
        read_definitions(str(tmp_path))

# SPDX-License-Identifier: Apache-2.0
"""QEMU's command lines, as libvirt 9.0 made them (in command_lines), and as others did."""

from itertools import chain
from pathlib import Path

import pytest

from fbm_placement.host import guests
from fbm_placement.model import Backing

UUID = '6e1b6ba0-7f1c-4a0e-9d5f-3b8f0d7e7a11'
ONES = '00000000-1111-4222-8333-444444444444'
NOVA = 'type=1,manufacturer=RDO,product=OpenStack Compute,family=Virtual Machine'


def recorded(name):
    path = Path(__file__).parent / 'command_lines' / f'{name}.txt'
    return path.read_text(encoding='utf-8').splitlines()


def guest_of(pid, argv, *, is_nova=False, huge=()):
    return guests.guest_of(pid, argv, lambda *_: is_nova, huge.__contains__)


def line(*more, qemu='/usr/bin/qemu-system-x86_64', name='guest=instance-00000001'):
    return [qemu, '-name', name, '-S', '-uuid', UUID, *more]


@pytest.mark.parametrize(
    ('name', 'backing'),
    [
        ('file-backed-shared', Backing.FILE),
        ('file-backed-shared-2-numa-cells', Backing.FILE),
        ('file-backed-private', Backing.PRIVATE_FILE),
        ('file-backed-no-access', Backing.PRIVATE_FILE),
        ('file-backed-2-numa-cells-private-access', Backing.PRIVATE_FILE),
        ('huge', Backing.HUGE_PAGES),
        ('huge-and-file', Backing.HUGE_PAGES),
        ('dram', Backing.DRAM),
        ('dram-2-numa-cells', Backing.DRAM),
        ('memfd-shared', Backing.DRAM),
    ],
)
def test_the_backing_of_a_guest(name, backing):
    """Libvirt asked for it with these command lines."""
    assert guest_of(7, recorded(name)).backing is backing


@pytest.mark.parametrize(
    ('parts', 'whole'),
    [
        ((), Backing.DRAM),
        ((Backing.ANONYMOUS, Backing.MEMFD), Backing.DRAM),
        ((Backing.HUGE_PAGES, Backing.HUGE_PAGES), Backing.HUGE_PAGES),
        ((Backing.HUGE_PAGES, Backing.ANONYMOUS), Backing.HUGE_PAGES),
        ((Backing.HUGE_PAGES, Backing.FILE), Backing.MIXED),
        ((Backing.FILE, Backing.PRIVATE_FILE), Backing.MIXED),
        ((Backing.PRIVATE_FILE, Backing.MEMFD), Backing.MIXED),
    ],
)
def test_the_backing_of_a_guest_whose_parts_differ(parts, whole):
    assert Backing.of_whole(parts) is whole


def test_what_is_known_of_a_guest():
    guest = guest_of(7, recorded('file-backed-shared-2-numa-cells'))
    assert (guest.pid, guest.name, guest.memory_mib) == (7, 'num', 64)
    assert guest.uuid == '6121ac1b-a4da-4118-866c-f2397e9c062e'
    assert guest.ram_files == (
        '/var/lib/nova/ram/libvirt/qemu/3-num/ram-node0',
        '/var/lib/nova/ram/libvirt/qemu/3-num/ram-node1',
    )


def test_whose_a_guest_is():
    """Nova writes it into the SMBIOS, whatever the vendor calls it; other guests lack that."""
    assert guest_of(7, recorded('file-backed-shared')).is_nova
    assert guest_of(7, line('-smbios', NOVA)).is_nova
    assert not guest_of(7, recorded('file-backed-shared-not-nova')).is_nova
    other = 'type=1,manufacturer=oVirt,product=RHEL,family=Red Hat Enterprise Linux'
    assert not guest_of(7, line('-smbios', other), is_nova=True).is_nova


@pytest.mark.parametrize('is_nova', [True, False])
def test_where_there_is_no_smbios_the_host_is_asked(is_nova):
    """Nova gives guests of other architectures than x86 none."""
    answers = {(f'instance-{ONES}', ONES): is_nova}
    argv = recorded('aarch64-instance-name-is-a-uuid')
    guest = guests.guest_of(7, argv, lambda *asked: answers[asked], lambda _: False)
    assert (guest.is_nova, guest.backing) == (is_nova, Backing.FILE)


@pytest.mark.parametrize(
    'qemu',
    [
        *('/usr/bin/qemu-system-x86_64', '/usr/libexec/qemu-kvm', '/usr/bin/kvm'),
        *('/usr/bin/qemu-system-x86_64-spice', '/opt/vendor/emulator', 'qemu-wrapper', ''),
    ],
)
def test_a_guest_whatever_its_emulator_is_called(qemu):
    guest = guest_of(7, line('-smbios', NOVA, qemu=qemu))
    assert (guest.name, guest.is_nova) == ('instance-00000001', True)


def test_memory_of_old_machine_types():
    """They have no objects; QEMU maps the file private, however libvirt was asked."""
    argv = recorded('mem-path')
    guest = guest_of(7, argv)
    assert (guest.backing, guest.memory_mib) == (Backing.PRIVATE_FILE, 14336)
    assert guest.ram_files == ('/srv/store/libvirt/qemu/1-instance-00000092/ram',)
    huge = guest_of(7, argv, huge=guest.ram_files)
    assert (huge.backing, huge.ram_files) == (Backing.HUGE_PAGES, ())


def test_objects_count_before_the_path_for_all_memory():
    cells = recorded('file-backed-shared-2-numa-cells')
    assert guest_of(7, [*cells, '-mem-path', '/dev/hugepages']).backing is Backing.FILE


@pytest.mark.parametrize(
    ('text', 'mib'),
    [
        ('512', 512),
        ('size=524288k', 512),
        ('size=2G,slots=16,maxmem=16777216k', 2048),
        ('1T', 1048576),
        ('much', 0),
        ('', 0),
    ],
)
def test_memory_in_every_way_in_which_libvirt_writes_it(text, mib):
    assert guest_of(7, line('-m', text)).memory_mib == mib


def test_the_older_way_to_write_an_object():
    """Libvirt before 7 wrote no JSON; a comma in a path is doubled."""
    path = '/a,,b/libvirt/qemu/1-x/ram-node0'
    backend = f'memory-backend-file,id=ram-node0,mem-path={path},share=yes,size=67108864'
    cell = 'node,nodeid=0,cpus=0,memdev=ram-node0'
    guest = guest_of(7, line('-object', backend, '-numa', cell))
    assert guest.backing is Backing.FILE
    assert guest.ram_files == ('/a,b/libvirt/qemu/1-x/ram-node0',)


def test_memory_that_a_device_has_is_not_the_guests_ram():
    """An NVDIMM is a file too."""
    nvdimm = '{"qom-type":"memory-backend-file","id":"memnvdimm0","mem-path":"/memnvdimm0"}'
    guest = guest_of(7, line('-object', nvdimm, '-device', 'nvdimm,memdev=memnvdimm0,id=nvdimm0'))
    assert guest.backing is Backing.DRAM


def test_cells_that_differ():
    objects = [
        '{"qom-type":"memory-backend-file","id":"ram-node0","mem-path":"/s/ram-node0","share":true}',
        '{"qom-type":"memory-backend-ram","id":"ram-node1"}',
    ]
    cells = [f'node,nodeid={i},memdev=ram-node{i}' for i in range(2)]
    options = zip(('-object', '-object', '-numa', '-numa'), (*objects, *cells), strict=True)
    guest = guest_of(7, line(*chain(*options)))
    assert guest.backing is Backing.MIXED
    assert guest.backing.in_files


@pytest.mark.parametrize(
    'argv',
    [
        [],
        ['/usr/bin/python3', '-m', 'qemu'],
        ['/usr/bin/qemu-img', 'convert', '-uuid', UUID],
        ['-uuid'],
        ['/usr/bin/java', '-name', 'x', '-uuid', UUID],
        ['/bin/sh', '-c', f'qemu-kvm -name guest=x -uuid {UUID}'],
        ['/usr/bin/qemu-system-x86_64', '-m', '512'],
        ['/usr/bin/qemu-system-x86_64', '-name', 'guest=x', '-uuid', 'nonsense'],
        ['/usr/bin/qemu-system-x86_64', '-name'],
        ['/usr/bin/qemu-system-x86_64', '-name', 'guest=x', '-object', '{broken', '-uuid'],
    ],
)
def test_what_is_no_guest_of_libvirts(argv):
    assert guest_of(7, argv) is None


@pytest.mark.parametrize(
    'hostile',
    [
        ('-m', '9' * 400),
        ('-m', 'size=' + '9' * 5000 + 'G'),
        ('-object', '{"a":' + '[' * 100_000),
        ('-object', '[]'),
        ('-object', '{"qom-type":7,"id":null,"mem-path":[]}', '-machine', 'memory-backend=None'),
        ('-smbios', ',,,=,='),
    ],
)
def test_whatever_a_command_line_is_it_raises_nothing(hostile):
    """Any user can run a program under QEMU's name, an escaped QEMU too."""
    guest_of(7, line(*hostile))


def test_an_object_that_is_not_json_is_no_memory():
    assert guest_of(7, line('-object', '{"id":')).backing is Backing.DRAM

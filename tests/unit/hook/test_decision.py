# SPDX-License-Identifier: Apache-2.0
"""What the hook decides, rule by rule, from what it has found out."""

import pytest

from tests.hook_lab import UUID

ENABLED_WANTED = (
    'its memory is not file-backed, and file-backed memory is enabled on this host; choose a host '
    'where it is disabled, or hard reboot the instance, which redefines it; if nova.conf says '
    'otherwise by now, restart fbm-agent first'
)
DISABLED_WANTED = (
    'its memory is file-backed, and file-backed memory is disabled on this host; choose a host '
    'where it is enabled, or hard reboot the instance, which redefines it; if nova.conf says '
    'otherwise by now, restart fbm-agent first'
)
NO_HUGE_PAGES = (
    'it asks for huge pages, which libvirt would use instead of the store; take hw:mem_page_size '
    'off its flavor and image, or choose a host where file-backed memory is disabled'
)
ENFORCED = [
    ('enforce', 'refuse'),
    ('warn', 'warn'),
]


def private(what='its memory'):
    """The words for memory that is written to DRAM."""
    return (
        f'{what} is file-backed but private, so what it writes would be in DRAM; define it with '
        "<access mode='shared'/> and no memAccess, or hard reboot the instance, which redefines it"
    )


@pytest.fixture
def make(program):
    """Make guests, hosts and stores."""

    class Make:
        @staticmethod
        def guest(**values):
            guest = program.Guest()
            fit = {
                'nova': True,
                'uuid': UUID,
                'source': 'file',
                'access': 'shared',
                'memory': 4 << 30,
            }
            for name, value in (fit | values).items():
                assert hasattr(guest, name)
                setattr(guest, name, value)
            return guest

        @staticmethod
        def host(configured='enabled', hook_mode='enforce', may_restart=(), mount_point='/store'):
            store = {'path': '/store/fbm', 'mount_point': mount_point}
            return program.Host('cmp1', hook_mode, configured, may_restart, store)

        @staticmethod
        def store(**values):
            fit = {'mount_point': '/store', 'prepared': True, 'free': 8 << 30}
            return program.Store(**(fit | values))

    return Make


ON_AN_ENABLED_HOST = {
    'not file-backed': ({'source': None, 'access': None}, ENABLED_WANTED),
    'anonymous': ({'source': 'anonymous'}, ENABLED_WANTED),
    'memfd': ({'source': 'memfd'}, ENABLED_WANTED),
    'huge pages without a file': ({'source': None, 'hugepages': True}, ENABLED_WANTED),
    'huge pages and a file': ({'hugepages': True}, NO_HUGE_PAGES),
    'no access': ({'access': None}, private()),
    'private access': ({'access': 'private'}, private()),
    'one private cell': (
        {'cells': [('0', 'shared'), ('1', 'private')]},
        private('its NUMA cell 1'),
    ),
    'cells without access of their own': (
        {'access': None, 'cells': [('0', None)]},
        private('its NUMA cell 0'),
    ),
    'shared': ({}, ''),
    'cells that inherit': ({'cells': [('0', None), ('1', None)]}, ''),
    'all cells shared by themselves': (
        {'access': 'private', 'cells': [('0', 'shared'), ('1', 'shared')]},
        '',
    ),
}


@pytest.mark.parametrize('operation', ['prepare', 'migrate'])
@pytest.mark.parametrize(('mode', 'verdict'), ENFORCED)
@pytest.mark.parametrize('case', ON_AN_ENABLED_HOST)
def test_an_enabled_host_takes_only_what_is_file_backed_and_shared(
    program, make, case, mode, verdict, operation
):
    values, words = ON_AN_ENABLED_HOST[case]
    decided = program.decide(
        operation, make.guest(**values), make.host(hook_mode=mode), make.store()
    )
    assert decided == ((verdict, words) if words else ('pass', ''))


@pytest.mark.parametrize(
    'case', [case for case, (_, words) in ON_AN_ENABLED_HOST.items() if words]
)
def test_a_guest_of_the_old_kind_may_restart_while_the_host_drains(program, make, case):
    guest = make.guest(**ON_AN_ENABLED_HOST[case][0])
    assert program.decide('prepare', guest, make.host(may_restart=[UUID.upper()])) == ('pass', '')
    others = make.host(may_restart=[UUID.replace('1', '2')])
    assert program.decide('prepare', guest, others)[0] == 'refuse'


@pytest.mark.parametrize(
    'case', [case for case, (_, words) in ON_AN_ENABLED_HOST.items() if words]
)
def test_a_restore_is_never_refused(program, make, case):
    values, words = ON_AN_ENABLED_HOST[case]
    assert program.decide('restore', make.guest(**values), make.host()) == ('warn', words)
    again = program.decide('prepare', make.guest(**values), make.host(), restoring=True)
    assert again == ('warn', words)


@pytest.mark.parametrize(('mode', 'verdict'), ENFORCED)
@pytest.mark.parametrize('access', [None, 'shared'])
def test_a_disabled_host_takes_no_file_backed_guest(program, make, mode, verdict, access):
    host = make.host('disabled', mode)
    guest = make.guest(access=access)
    assert program.decide('migrate', guest, host) == (verdict, DISABLED_WANTED)
    assert program.decide('restore', guest, host) == ('warn', DISABLED_WANTED)
    draining = make.host('disabled', mode, may_restart=[UUID])
    assert program.decide('prepare', guest, draining) == ('pass', '')


@pytest.mark.parametrize('values', [{}, {'hugepages': True}, {'cells': [('0', 'private')]}])
@pytest.mark.parametrize('source', [None, 'memfd', 'anonymous'])
def test_a_disabled_host_takes_everything_else(program, make, values, source):
    guest = make.guest(source=source, **values)
    assert program.decide('prepare', guest, make.host('disabled')) == ('pass', '')


STORES = {
    'gone': (
        {'mount_point': None},
        'the store /store/fbm does not exist; mount it, then restart libvirtd',
    ),
    'on the root': (
        {'mount_point': '/'},
        (
            'the store /store/fbm is not mounted: it is on the root filesystem; mount it, then '
            'restart libvirtd'
        ),
    ),
    'on another mount': (
        {'mount_point': '/srv'},
        (
            'the store /store/fbm is not mounted: it is on /srv, expected on /store; mount it, '
            'then restart libvirtd'
        ),
    ),
    'mounted late': (
        {'prepared': False},
        (
            'the store /store/fbm has no directory libvirt/qemu, so it was mounted after libvirtd '
            'had started; restart libvirtd'
        ),
    ),
    'too full': (
        {'free': (4 << 30) - 1},
        (
            'the store /store/fbm has 4095 MiB free, the guest needs 4096 MiB; move guests away, '
            'or delete files there that belong to no running guest'
        ),
    ),
    'dead': (
        {'error': 'looked for 3 s'},
        (
            'the store /store/fbm does not answer (looked for 3 s); look at the disk or server '
            'below it'
        ),
    ),
    'just enough': ({'free': 4 << 30}, ''),
    'without a limit': ({'free': None}, ''),
}


@pytest.mark.parametrize(('mode', 'verdict'), ENFORCED)
@pytest.mark.parametrize('case', STORES)
def test_the_store_must_be_mounted_and_have_room(program, make, case, mode, verdict):
    values, words = STORES[case]
    host = make.host(hook_mode=mode)
    decided = program.decide('migrate', make.guest(), host, make.store(**values))
    assert decided == ((verdict, words) if words else ('pass', ''))


def test_a_mount_point_that_nobody_expects_may_be_any_but_the_root(program, make):
    host = make.host(mount_point=None)
    assert program.decide('prepare', make.guest(), host, make.store(mount_point='/x')) == (
        'pass',
        '',
    )
    on_root = program.decide('prepare', make.guest(), host, make.store(mount_point='/'))
    assert on_root[0] == 'refuse'


def test_a_guest_whose_size_is_unknown_is_refused(program, make):
    guest = make.guest(memory=None)
    assert program.decide('prepare', guest, make.host(), make.store()) == (
        'refuse',
        'its <memory> is not readable, so its size is unknown; look at its domain XML',
    )


def test_the_store_is_looked_at_for_those_that_will_lie_in_it(program, make):
    def needs(operation='prepare', configured='enabled', **values):
        return program.needs_store(operation, make.guest(**values), make.host(configured))

    assert needs()
    assert needs('migrate')
    assert not needs('restore')
    assert not needs(configured='disabled')
    assert not needs(nova=False)
    assert not needs(source='memfd')
    assert not needs(hugepages=True)
    nowhere = program.Host('cmp1', 'enforce', 'enabled', [], None)
    assert not program.needs_store('prepare', make.guest(), nowhere)


@pytest.mark.parametrize('operation', ['prepare', 'migrate', 'restore'])
@pytest.mark.parametrize('configured', ['enabled', 'disabled'])
@pytest.mark.parametrize('source', [None, 'file'])
def test_guests_that_are_not_novas_always_pass(program, make, operation, configured, source):
    guest = make.guest(nova=False, source=source, hugepages=True, memory=None)
    full = make.store(free=0)
    assert program.decide(operation, guest, make.host(configured), full) == ('pass', '')


def test_switched_off_it_has_nothing_to_say(program, make):
    host = make.host(hook_mode='off')
    assert program.decide('prepare', make.guest(source=None), host) == ('pass', '')


def test_what_comes_from_outside_is_made_harmless(program, make):
    host = make.host(mount_point='/a\x1b[2J\nfbm hook: all is well' + 'x' * 1000)
    _, words = program.decide('prepare', make.guest(), host, make.store())
    assert words.isprintable()
    assert len(words) < 500
    guest = make.guest(cells=[('7\n\x00' + '9' * 5000, 'private')])
    _, words = program.decide('prepare', guest, host, make.store())
    assert words.startswith('its NUMA cell 7??99')
    assert words.isprintable()
    assert len(words) < 300

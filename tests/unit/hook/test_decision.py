# SPDX-License-Identifier: Apache-2.0
"""What the hook decides, rule by rule, from the guest, the agent's state and the store."""

import json

import pytest

from fbm_placement.hook import program
from tests.hook_lab import UUID, domain, state, store_state

REDEFINE = 'or hard reboot the instance, which redefines it'
EDITED = 'if nova.conf has changed, restart fbm-agent first'
ENABLED_WANTED = (
    'its memory is not file-backed, and file-backed memory is enabled on this host; choose a host '
    f'where it is disabled, {REDEFINE}; {EDITED}'
)
DISABLED_WANTED = (
    'its memory is file-backed, and file-backed memory is disabled on this host; choose a host '
    f'where it is enabled, {REDEFINE}; {EDITED}'
)
NO_HUGE_PAGES = (
    'it asks for huge pages, which libvirt would use instead of the store; choose a host where '
    'file-backed memory is disabled ("openstack server migrate"), or resize it to a flavor '
    'without hw:mem_page_size'
)
PRIVATE = (
    'is file-backed but private, so what it writes would be in DRAM; define it with '
    f"<access mode='shared'/> and no memAccess, {REDEFINE}"
)
MODES = [('enforce', 'refuse'), ('warn', 'warn')]


def fresh(value):
    """An equal value of its own, as what is read from outside: no constant of the program."""
    return json.loads(json.dumps(value))


def decide(operation, *facts, **more):
    return program.decide(fresh(operation), *facts, **more)


def guest(**values):
    fit = {'nova': True, 'uuid': UUID, 'source': 'file', 'access': 'shared', 'memory': 4 << 30}
    made = program.XmlGuest()
    for name, value in fresh(fit | values).items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def host(configured='enabled', mode='enforce', may_restart=(), mount_point='/store'):
    store = store_state('/store/fbm', mount_point)
    own = {'configured': configured, 'hook_mode': mode, 'may_restart': list(may_restart)}
    return fresh(state(store=store, **own))


def store(**values):
    return fresh({'mount_point': '/store', 'prepared': True, 'free': 8 << 30} | values)


UNFIT = {
    'not file-backed': ({'source': None, 'access': None}, ENABLED_WANTED),
    'anonymous': ({'source': 'anonymous'}, ENABLED_WANTED),
    'memfd': ({'source': 'memfd'}, ENABLED_WANTED),
    'perhaps a page size': (
        {'source': None, 'cells': [('0', None)]},
        ENABLED_WANTED.replace(f', {REDEFINE}', ''),
    ),
    'huge pages without a file': ({'source': None, 'hugepages': True}, NO_HUGE_PAGES),
    'huge pages and a file': ({'hugepages': True}, NO_HUGE_PAGES),
    'no access': ({'access': None}, f'its memory {PRIVATE}'),
    'private access': ({'access': 'private'}, f'its memory {PRIVATE}'),
    'one private cell': (
        {'cells': [('0', 'shared'), ('1', 'private')]},
        f'its NUMA cell 1 {PRIVATE}',
    ),
    'cells without access of their own': (
        {'access': None, 'cells': [('0', None)]},
        f'its NUMA cell 0 {PRIVATE}',
    ),
}
FIT = {
    'shared': {},
    'cells that inherit': {'cells': [('0', None), ('1', None)]},
    'all cells shared by themselves': {
        'access': 'private',
        'cells': [('0', 'shared'), ('1', 'shared')],
    },
}


@pytest.mark.parametrize('operation', ['prepare', 'migrate'])
@pytest.mark.parametrize(('mode', 'decision'), MODES)
@pytest.mark.parametrize(('values', 'reason'), UNFIT.values(), ids=UNFIT)
def test_an_enabled_host_takes_only_what_is_file_backed_and_shared(
    values, reason, mode, decision, operation
):
    decided = decide(operation, guest(**values), host(mode=mode), store())
    assert decided == (decision, reason)


@pytest.mark.parametrize('operation', ['prepare', 'migrate'])
@pytest.mark.parametrize('values', FIT.values(), ids=FIT)
def test_an_enabled_host_takes_what_fits(values, operation):
    assert decide(operation, guest(**values), host(), store()) == ('pass', '')


@pytest.mark.parametrize(('values', 'reason'), UNFIT.values(), ids=UNFIT)
def test_a_guest_of_the_old_kind_may_restart_and_be_restored(values, reason):
    one = guest(**values)
    assert decide('prepare', one, host(may_restart=[UUID.upper()])) == ('pass', '')
    others = host(may_restart=[UUID.replace('1', '2')])
    assert decide('prepare', one, others) == ('refuse', reason)
    assert decide('restore', one, host()) == ('warn', reason)
    assert decide('prepare', one, host(), restoring=True) == ('warn', reason)


@pytest.mark.parametrize(('mode', 'decision'), MODES)
@pytest.mark.parametrize('access', [None, 'shared'])
def test_a_disabled_host_takes_no_file_backed_guest(mode, decision, access):
    one = guest(access=access)
    assert decide('migrate', one, host('disabled', mode)) == (decision, DISABLED_WANTED)
    assert decide('restore', one, host('disabled', mode)) == ('warn', DISABLED_WANTED)
    draining = host('disabled', mode, may_restart=[UUID])
    assert decide('prepare', one, draining) == ('pass', '')


@pytest.mark.parametrize('values', [{}, {'hugepages': True}, {'cells': [('0', 'private')]}])
@pytest.mark.parametrize('source', [None, 'memfd', 'anonymous'])
def test_a_disabled_host_takes_everything_else(values, source):
    one = guest(source=source, **values)
    assert decide('prepare', one, host('disabled')) == ('pass', '')


MOUNT_IT = 'mount it, then restart libvirtd'
UNFIT_STORES = {
    'gone': ({'mount_point': None}, f'does not exist; {MOUNT_IT}'),
    'on the root': (
        {'mount_point': '/'},
        f'is not mounted: it is on /, expected on /store; {MOUNT_IT}',
    ),
    'on another mount': (
        {'mount_point': '/srv'},
        f'is not mounted: it is on /srv, expected on /store; {MOUNT_IT}',
    ),
    'mounted late': (
        {'prepared': False},
        (
            'has no directory libvirt/qemu, so it was mounted after libvirtd had started; restart '
            'libvirtd'
        ),
    ),
    'too full': (
        {'free': (4 << 30) - 1},
        (
            'has 4095 MiB free, the guest needs 4096 MiB; move guests away, or delete files there '
            'that belong to no running guest'
        ),
    ),
    'dead': (
        {'error': 'no answer in 3 s'},
        'does not respond (no answer in 3 s); check its device',
    ),
}


@pytest.mark.parametrize(('mode', 'decision'), MODES)
@pytest.mark.parametrize(('values', 'reason'), UNFIT_STORES.values(), ids=UNFIT_STORES)
def test_the_store_must_be_mounted_and_have_room(values, reason, mode, decision):
    decided = decide('migrate', guest(), host(mode=mode), store(**values))
    assert decided == (decision, f'the store /store/fbm {reason}')


@pytest.mark.parametrize('free', [4 << 30, None], ids=['just enough', 'without a limit'])
def test_a_store_with_room_takes_the_guest(free):
    assert decide('migrate', guest(), host(), store(free=free)) == ('pass', '')


def test_an_unknown_mount_point_may_be_any_but_the_root():
    unknown = host(mount_point=None)
    anywhere = decide('prepare', guest(), unknown, store(mount_point='/x'))
    assert anywhere == ('pass', '')
    assert decide('prepare', guest(), unknown, store(mount_point='/'))[0] == 'refuse'


def test_what_the_guest_needs_is_rounded_up():
    _, reason = decide('migrate', guest(memory=(4 << 30) + 1), host(), store(free=4 << 30))
    assert 'has 4096 MiB free, the guest needs 4097 MiB; ' in reason


@pytest.mark.parametrize('free', [8 << 30, None])
def test_a_guest_whose_size_is_unknown_is_refused(monkeypatch, free):
    monkeypatch.setattr(program, 'observe_store', lambda path: store(free=free))
    assert program.check('prepare', guest(memory=None), host(), '/nowhere/host.json') == (
        'refuse',
        'its <memory> is not readable, so its size is unknown; check its domain XML',
    )


def test_the_store_is_observed_for_guests_that_will_be_in_it():
    assert program.needs_store(guest(), host()) is True
    assert program.needs_store(guest(), host('disabled')) is False
    assert program.needs_store(guest(), state(store=None)) is False
    for values in ({'nova': False}, {'source': 'memfd'}, {'hugepages': True}):
        assert program.needs_store(guest(**values), host()) is False


def test_the_store_is_not_observed_for_a_restore(monkeypatch):
    monkeypatch.setattr(program, 'observe_store', lambda path: store(free=0))
    monkeypatch.setattr(program, 'ROOM_SECONDS', 0)
    where = '/nowhere/host.json'
    assert program.check('restore', guest(), host(), where) == ('pass', '')
    assert program.check('migrate', guest(), host(), where)[0] == 'refuse'


@pytest.mark.parametrize('operation', ['prepare', 'migrate', 'restore'])
@pytest.mark.parametrize('configured', ['enabled', 'disabled'])
@pytest.mark.parametrize('source', [None, 'file'])
def test_guests_that_nova_did_not_make_always_pass(operation, configured, source):
    one = guest(nova=False, source=source, hugepages=True, memory=None)
    assert decide(operation, one, host(configured), store(free=0)) == ('pass', '')


def test_text_from_outside_is_made_harmless():
    assert program.clean('x' * 200) == 'x' * 200
    assert program.clean('x' * 201) == 'x' * 200 + '...'
    hostile = host(mount_point='/a\x1b[2J\nfbm hook: all is well' + 'x' * 1000)
    _, reason = decide('prepare', guest(), hostile, store())
    assert reason.isprintable()
    assert len(reason) < 500
    one = guest(cells=[('7\n\x00' + '9' * 5000, 'private')])
    _, reason = decide('prepare', one, host(), store())
    assert reason.startswith('its NUMA cell 7??9999999... is file-backed')
    assert reason.isprintable()
    assert len(reason) < 300


BROKEN = 'the hook itself is broken: ZeroDivisionError: a?b; run "fbm-status hook check"'


@pytest.mark.parametrize(
    ('operation', 'changes', 'xml', 'decision'),
    [
        ('prepare', {}, domain(), 'refuse'),
        ('migrate', {}, '', 'refuse'),
        ('restore', {}, domain(), 'warn'),
        ('prepare', {'hook_mode': 'warn'}, domain(), 'warn'),
        ('prepare', {'configured': 'disabled'}, domain(), 'warn'),
        ('prepare', {}, domain(metadata=''), 'warn'),
        ('prepare', {}, domain(metadata='')[:-5], 'refuse'),
    ],
)
def test_a_guest_that_could_not_be_checked_is_refused_where_it_must_fit(
    operation, changes, xml, decision
):
    error = ZeroDivisionError('a\nb')
    decided = program.unchecked(fresh(operation), state(**changes), xml.encode(), error)
    assert decided == (decision, BROKEN)


def test_room_that_is_freed_in_a_moment_is_waited_for(monkeypatch):
    """A guest that restarts frees its own room first; XFS takes a moment for that."""
    observed = [store(free=free) for free in (0, 0, 1 << 40)]
    monkeypatch.setattr(program, 'observe_store', lambda path: observed.pop(0))
    monkeypatch.setattr(program, 'ROOM_SECONDS', 0)
    assert program.check('prepare', guest(), host(), '/nowhere/host.json') == ('pass', '')
    assert observed == []


def test_room_is_not_waited_for_indefinitely(monkeypatch):
    observed = [store(free=0)] * 9
    monkeypatch.setattr(program, 'observe_store', lambda path: observed.pop(0))
    monkeypatch.setattr(program, 'ROOM_SECONDS', 0)
    assert program.check('prepare', guest(), host(), '/nowhere/host.json')[0] == 'refuse'
    assert len(observed) == 5


def test_a_restore_is_noted_for_the_prepare_that_follows(tmp_path):
    """For libvirt prepares what it restores, as it prepares every guest; the note serves once."""
    path, dram = str(tmp_path / 'host.json'), guest(source=None)
    assert program.check('restore', dram, host(), path) == ('warn', ENABLED_WANTED)
    other = guest(source=None, uuid=UUID.replace('b', 'c'))
    assert program.check('prepare', other, host(), path)[0] == 'refuse'
    assert program.check('migrate', dram, host(), path)[0] == 'refuse'
    assert program.check('prepare', guest(nova=False), host(), path)[0] == 'pass'
    assert program.check('prepare', dram, host(), path) == ('warn', ENABLED_WANTED)
    assert program.check('prepare', dram, host(), path) == ('refuse', ENABLED_WANTED)


def test_a_restore_that_fits_leaves_no_note(tmp_path):
    assert program.check('restore', guest(), host(), str(tmp_path / 'host.json')) == ('pass', '')
    assert list(tmp_path.iterdir()) == []


def test_an_old_note_does_not_count(tmp_path):
    path, dram = str(tmp_path / 'host.json'), guest(source=None)
    for age, decision in ((61, 'refuse'), (59, 'warn'), (-2, 'refuse')):
        (tmp_path / f'restoring-{UUID}').write_text(str(int(program.uptime()) - age))
        assert program.check('prepare', dram, host(), path)[0] == decision


@pytest.mark.parametrize('uuid', ['../../escape', '', 'x' * 36, '-' * 35])
def test_a_restore_leaves_its_note_nowhere_else(tmp_path, uuid):
    (tmp_path / 'run').mkdir()
    one, path = guest(uuid=uuid, source=None), str(tmp_path / 'run/host.json')
    assert program.check('restore', one, host(), path) == ('warn', ENABLED_WANTED)
    assert list(tmp_path.rglob('*')) == [tmp_path / 'run']


def test_a_restore_writes_through_no_link(tmp_path):
    path, dram = str(tmp_path / 'host.json'), guest(source=None)
    victim = tmp_path / 'victim'
    victim.write_text('precious')
    (tmp_path / f'restoring-{UUID}').symlink_to(victim)
    assert program.check('restore', dram, host(), path) == ('warn', ENABLED_WANTED)
    assert victim.read_text() == 'precious'
    assert program.check('prepare', dram, host(), path)[0] == 'warn'


def test_a_restore_that_cannot_be_noted_is_reported(tmp_path):
    """A file is in the place of the directory."""
    (tmp_path / 'run').touch()
    found = program.check('restore', guest(source=None), host(), str(tmp_path / 'run/host.json'))
    lost = ' (libvirt prepares it next, and that will be refused: Not a directory)'
    assert found == ('warn', ENABLED_WANTED + lost)

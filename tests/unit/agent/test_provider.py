# SPDX-License-Identifier: Apache-2.0
"""Which resource provider is this host's, and the message where that isn't clear."""

import builtins
import os
import socket

import pytest

from fbm_placement import errors
from fbm_placement.agent import provider
from fbm_placement.agent.provider import Lookup
from fbm_placement.model import Provider
from fbm_placement.placement.session import connect
from tests.unit import fake_placement
from tests.unit.fake_placement import NAME, UUID

OTHER_UUID = 'a1b2c3d4-0000-4000-8000-000000000002'
OPTION = '[file_backed_memory]resource_provider'
HOW = 'set [file_backed_memory]resource_provider to its UUID (openstack resource provider list)'


@pytest.mark.parametrize(
    ('option', 'expected'),
    [
        (UUID, Lookup(OPTION, uuid=UUID)),
        (UUID.upper(), Lookup(OPTION, uuid=UUID)),
        (UUID.replace('-', ''), Lookup(OPTION, uuid=UUID)),
        ('compute1', Lookup(OPTION, names=('compute1',))),
    ],
)
def test_the_option_goes_before_everything(nova_conf, compute_id, option, expected):
    compute_id('x')
    assert provider.lookup_for(option, nova_conf()) == expected


@pytest.mark.parametrize(
    ('compute_ids', 'hostnames', 'expected'),
    [
        # compute_id goes before the host's name.
        ({'/a/compute_id': UUID}, ('h',), Lookup('/a/compute_id', uuid=UUID)),
        ({'/a/compute_id': f' {UUID}\n'}, (), Lookup('/a/compute_id', uuid=UUID)),
        (
            {'/a/compute_id': UUID, '/b/compute_id': UUID.upper() + '\n'},
            (),
            Lookup('/a/compute_id', uuid=UUID),
        ),
        ({}, ('h.example', 'h'), Lookup("this host's name", names=('h.example', 'h'))),
        ({}, ('h', 'h'), Lookup("this host's name", names=('h',))),
    ],
)
def test_choose_lookup(compute_ids, hostnames, expected):
    assert provider.choose_lookup(compute_ids, hostnames) == expected


@pytest.mark.parametrize('content', ['', '\n', 'x', UUID[:-1], UUID + 'ab', '\ufffd\x00'])
def test_compute_id_without_a_uuid(content):
    """Nova would not start with it either, whatever another copy holds."""
    with pytest.raises(errors.NotReadyError) as caught:
        provider.choose_lookup({'/b/compute_id': UUID, '/a/compute_id': content}, ('h',))
    line = str(caught.value)
    assert line.startswith(f'/a/compute_id holds {content.strip()!r}, expected a UUID')
    assert HOW in line
    assert line.splitlines() == [line]


def test_compute_ids_that_do_not_agree():
    with pytest.raises(errors.NotReadyError) as caught:
        provider.choose_lookup({'/a/compute_id': UUID, '/b/compute_id': OTHER_UUID}, ('h',))
    line = str(caught.value)
    assert f'/a/compute_id holds {UUID}, /b/compute_id holds {OTHER_UUID}' in line
    assert 'do not agree' in line
    assert 'keep the one that' in line


# Where compute_id is searched.


def test_no_compute_id(home):
    home.write(f'[DEFAULT]\nstate_path = {home.path}/state\n')
    assert provider.read_compute_ids(home.load()) == {}


def test_compute_id_in_state_path(nova_conf, compute_id):
    path = compute_id()
    assert provider.read_compute_ids(nova_conf()) == {path: UUID}


def test_compute_id_beside_each_file(home, tmp_path):
    """A deployment tool puts it beside a configuration file."""
    (tmp_path / 'etc').mkdir()
    other = tmp_path / 'etc' / 'nova-cpu.conf'
    other.write_text(f'[DEFAULT]\nstate_path = {home.path}/state\n')
    main = home.write('')
    ids = [home.folder / 'compute_id', tmp_path / 'etc' / 'compute_id']
    ids.append(home.path / 'state' / 'compute_id')
    for file in ids:
        file.write_text(UUID)
    conf = home.load('--config-file', str(main), '--config-file', str(other))
    assert list(provider.read_compute_ids(conf)) == [str(file) for file in ids]


def test_compute_id_is_read_once(home):
    """Two configuration files in one directory mean one compute_id."""
    home.write(f'[DEFAULT]\nstate_path = {home.folder}\n')
    home.write('', 'nova-compute.conf')
    (home.folder / 'compute_id').write_text(UUID)
    conf = home.load()
    assert provider.read_compute_ids(conf) == {str(home.folder / 'compute_id'): UUID}


def test_compute_id_of_any_content(nova_conf, compute_id):
    """What isn't text is read all the same (and refused later), but no more than a UUID needs."""
    path = compute_id()
    with open(path, 'wb') as file:
        file.write(b'\xff' * 10000)
    (content,) = provider.read_compute_ids(nova_conf()).values()
    assert len(content) == 40


@pytest.mark.parametrize(
    ('exc', 'text'),
    [
        (PermissionError(13, 'Permission denied'), 'Permission denied'),
        (NotADirectoryError(20, 'Not a directory'), 'Not a directory'),
    ],
)
def test_compute_id_that_cannot_be_read(nova_conf, compute_id, monkeypatch, exc, text):
    """An unreadable file isn't taken for a missing one."""
    path, conf = compute_id(), nova_conf()
    real = open

    def refuse(file, *args, **kwargs):
        if file == path:
            raise exc
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', refuse)
    with pytest.raises(errors.NotReadyError) as caught:
        provider.read_compute_ids(conf)
    assert str(caught.value).startswith(f'{path}: {text}; expected')
    assert 'same user, nova' in str(caught.value)


def test_a_directory_in_the_place_of_compute_id(nova_conf, home):
    os.mkdir(home.path / 'state' / 'compute_id')
    with pytest.raises(errors.NotReadyError, match='Is a directory'):
        provider.read_compute_ids(nova_conf())


# The hypervisor's hostname.


def resolver(monkeypatch, plain, canonical):
    def getaddrinfo(name, port, **kwargs):
        assert (name, kwargs) == (plain, {'flags': socket.AI_CANONNAME})
        if isinstance(canonical, Exception):
            raise canonical
        return [(0, 0, 0, canonical, ()), (0, 0, 0, '', ())]

    monkeypatch.setattr(socket, 'gethostname', lambda: plain)
    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)


@pytest.mark.parametrize(
    ('plain', 'canonical', 'expected'),
    [
        ('compute1', 'compute1.example.org', ('compute1.example.org', 'compute1')),
        ('compute1', 'compute1', ('compute1',)),
        ('compute1', '', ('compute1',)),
        ('compute1', 'localhost', ('compute1',)),
        ('compute1', 'localhost.localdomain', ('compute1',)),
        ('compute1', socket.gaierror(-2, 'Name or service not known'), ('compute1',)),
        ('compute1.example.org', AssertionError('asked'), ('compute1.example.org',)),
    ],
)
def test_hypervisor_hostnames(monkeypatch, plain, canonical, expected):
    """As libvirt: a name with a dot as it is, else what the resolver makes of it."""
    resolver(monkeypatch, plain, canonical)
    assert provider.hypervisor_hostnames() == expected


# In Placement.


@pytest.fixture
def client(nova_conf, placement):
    return connect(nova_conf())


@pytest.mark.parametrize(
    'lookup',
    [
        Lookup('x', uuid=UUID),
        Lookup('x', names=(NAME,)),
        Lookup('x', names=(NAME, 'compute1')),
        Lookup('x', names=('compute1', NAME)),
    ],
)
def test_found(client, lookup):
    assert provider.find_provider(client, lookup) == Provider(UUID, NAME, is_root=True)


HOSTNAME = "this host's name"
NOT_FOUND = {
    Lookup('/a/compute_id', uuid=OTHER_UUID): f'UUID {OTHER_UUID} (from /a/compute_id)',
    Lookup(OPTION, names=('node7',)): f'name node7 (from {OPTION})',
    Lookup(HOSTNAME, names=('h.example', 'h')): f'name h.example or h (from {HOSTNAME})',
}
NOVA_COMPUTE = 'is it running on this host?'
SEVERAL = f'{NAME} ({UUID}), compute1 ({OTHER_UUID})'
CHILD = f'resource provider pgpu0 ({OTHER_UUID}), found by '


@pytest.mark.parametrize(
    ('others', 'lookup', 'begin', 'part'),
    [
        *(
            ({}, lookup, f'Placement has no resource provider with {text};', NOVA_COMPUTE)
            for lookup, text in NOT_FOUND.items()
        ),
        (
            {'name': 'compute1'},
            Lookup(HOSTNAME, names=(NAME, 'compute1')),
            'several resource providers fit name',
            SEVERAL,
        ),
        # A nested provider (a GPU, a NUMA node) isn't the compute node.
        *(
            ({'name': 'pgpu0', 'parent': UUID}, lookup, CHILD, 'has a parent')
            for lookup in (Lookup('x', uuid=OTHER_UUID), Lookup('x', names=('pgpu0',)))
        ),
    ],
)
def test_not_found(client, placement, others, lookup, begin, part):
    """What was searched for, where that comes from, the usual cause, and how to fix it."""
    if others:
        placement.providers[OTHER_UUID] = fake_placement.Provider(OTHER_UUID, **others)
    with pytest.raises(errors.NotReadyError) as caught:
        provider.find_provider(client, lookup)
    line = str(caught.value)
    assert line.startswith(begin)
    assert part in line
    assert HOW in line


def test_a_failure_is_not_absence(client, placement):
    """A web server's 404 doesn't mean that the provider is missing."""
    placement.failure = {'status_code': 404, 'text': '<html>'}
    with pytest.raises(errors.PlacementError, match='has the endpoint moved'):
        provider.find_provider(client, Lookup('x', uuid=UUID))

# SPDX-License-Identifier: Apache-2.0
"""Hosts: shared ones, where a test has guests of its own, and any number to break."""

import os
import subprocess
from contextlib import ExitStack, contextmanager
from shutil import which

import pytest

from tests.e2e.cloud import ComputeHost
from tests.e2e.lab.guest import Guest, create
from tests.e2e.lab.host import LibvirtHost
from tests.e2e.lab.store import Disk, Tmpfs
from tests.services.placement import PlacementServer

# The command, and Debian's package.
_COMMANDS = {
    'libvirtd': 'libvirt-daemon',
    'virsh': 'libvirt-clients',
    'qemu-system-x86_64': 'qemu-system-x86',
    'mkfs.ext4': 'e2fsprogs',
    'mkfs.xfs': 'xfsprogs',
    'mkfs.btrfs': 'btrfs-progs',
    'unshare': 'util-linux',
    'mount': 'mount',
    'systemd-nspawn': 'systemd-container',
    'dbus-daemon': 'dbus',
}


def _what_is_missing() -> str | None:
    if os.geteuid():
        return 'these tests mount filesystems and run libvirtd: run them as root, as "make e2e"'
    missing = [f'{name} ({package})' for name, package in _COMMANDS.items() if not which(name)]
    if missing:
        return f'not on PATH: {", ".join(missing)}; "make e2e" installs the packages'
    tried = subprocess.run(
        ['unshare', '--mount', '--uts', '--pid', '--fork', '--mount-proc', 'true'],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        return f'these tests need mount, uts and pid namespaces, and here {tried.stderr.strip()}'
    return None


@pytest.fixture(scope='session', autouse=True)
def _able():
    """Nothing here is skipped in silence."""
    if reason := _what_is_missing():
        pytest.exit(reason, returncode=1)


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='session')
def shared_hosts():
    return []


@pytest.fixture(scope='session')
def make_shared(tmp_path_factory, cache, shared_hosts):
    """Make a host for several tests, as `make_host` does; it is a context manager."""

    @contextmanager
    def make(name, **options):
        directory = tmp_path_factory.mktemp(name)
        with LibvirtHost(name, directory, cache=cache, **options) as host:
            shared_hosts.append(host)
            yield host
            shared_hosts.remove(host)

    return make


@pytest.fixture(scope='session')
def enabled(make_shared):
    with make_shared('enabled', store=Tmpfs(1024)) as host:
        yield host


@pytest.fixture(scope='session')
def other(make_shared):
    with make_shared('other', store=Disk(1024)) as host:
        yield host


@pytest.fixture(scope='session')
def disabled(make_shared):
    with make_shared('disabled', memory_backing_dir=None) as host:
        yield host


@pytest.fixture
def make_host(tmp_path_factory, cache):
    with ExitStack() as stack:

        def make(name='own', **options):
            directory = tmp_path_factory.mktemp(name)
            return stack.enter_context(LibvirtHost(name, directory, cache=cache, **options))

        yield make


@pytest.fixture(scope='session')
def placement(tmp_path_factory):
    with PlacementServer(tmp_path_factory.mktemp('placement')) as server:
        yield server


@pytest.fixture(scope='session')
def make_shared_compute(make_shared, placement):
    @contextmanager
    def make(name, *, capacity=0, **options):
        with make_shared(name, libvirtd=False, **options) as host:
            yield prepared(ComputeHost(host, placement.url, capacity=capacity))

    return make


@pytest.fixture
def make_compute(make_host, placement):
    def make(name='own', *, capacity=0, **options):
        host = make_host(name, libvirtd=False, **options)
        return prepared(ComputeHost(host, placement.url, capacity=capacity))

    return make


def prepared(compute):
    compute.install_hook()
    compute.host.start_libvirtd()
    return compute


@pytest.fixture(scope='session')
def fbm(make_shared_compute):
    with make_shared_compute('fbm', capacity=512, store=Tmpfs(512)) as compute, compute.agent():
        yield compute


@pytest.fixture(scope='session')
def dram(make_shared_compute):
    options = {'memory_backing_dir': None}
    with make_shared_compute('dram', **options) as compute, compute.agent():
        yield compute


@pytest.fixture
def _names(shared_hosts):
    """Of the guests of a test: they go at its end, wherever they have moved to."""
    names = set()
    yield names
    # A test's own hosts end with all of their guests.
    for host in shared_hosts:
        for name in names:
            if host.path(f'/run/libvirt/qemu/{name}.pid').exists():
                host.virsh('destroy', name, check=False)


@pytest.fixture
def boot(_names):
    def start(host, domain):
        _names.add(domain.name)
        return Guest.start(host, domain)

    return start


@pytest.fixture
def attempt(_names):
    def start(host, domain):
        _names.add(domain.name)
        return create(host, domain)

    return start

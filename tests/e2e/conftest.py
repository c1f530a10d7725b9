# SPDX-License-Identifier: Apache-2.0
"""Hosts: three shared ones, where a test has guests of its own, and any number to break."""

import os
import subprocess
from contextlib import ExitStack
from shutil import which

import pytest

from tests.e2e.lab.guest import Guest
from tests.e2e.lab.host import LibvirtHost
from tests.e2e.lab.store import Disk, Tmpfs

# The command, and Debian's package.
_COMMANDS = {
    'libvirtd': 'libvirt-daemon',
    'virsh': 'libvirt-clients',
    'qemu-system-x86_64': 'qemu-system-x86',
    'mkfs.ext4': 'e2fsprogs',
    'mkfs.xfs': 'xfsprogs',
    'unshare': 'util-linux',
    'mount': 'mount',
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
    """What one libvirtd learnt about QEMU, for the others."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='session')
def enabled(tmp_path_factory, cache):
    """An enabled host; its store is in RAM."""
    directory = tmp_path_factory.mktemp('enabled')
    with LibvirtHost('enabled', directory, store=Tmpfs(1024), cache=cache) as host:
        yield host


@pytest.fixture(scope='session')
def other(tmp_path_factory, cache):
    """Another enabled host; its store is on a disk."""
    directory = tmp_path_factory.mktemp('other')
    with LibvirtHost('other', directory, store=Disk(1024), cache=cache) as host:
        yield host


@pytest.fixture(scope='session')
def disabled(tmp_path_factory, cache):
    """A host without file-backed memory."""
    directory = tmp_path_factory.mktemp('disabled')
    with LibvirtHost('disabled', directory, memory_backing_dir=None, cache=cache) as host:
        yield host


@pytest.fixture
def make_host(tmp_path_factory, cache):
    """Make a host of the test's own, from a name and what LibvirtHost takes."""
    with ExitStack() as stack:

        def make(name='own', **options):
            directory = tmp_path_factory.mktemp(name)
            return stack.enter_context(LibvirtHost(name, directory, cache=cache, **options))

        yield make


@pytest.fixture
def boot(request):
    """Start a guest on a host; at the test's end it goes, wherever it has moved to."""
    names = set()

    def start(host, domain):
        names.add(domain.name)
        return Guest.start(host, domain)

    yield start
    # A test's own hosts end with all of their guests.
    for fixture in {'enabled', 'other', 'disabled'} & set(request.fixturenames):
        host = request.getfixturevalue(fixture)
        for name in names & set(host.virsh('list', '--name').stdout.split()):
            host.virsh('destroy', name)

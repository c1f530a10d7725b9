# SPDX-License-Identifier: Apache-2.0
"""Every command of the documentation, run as it is written; of one in a sentence, its options.

Real: everything but systemctl, because no systemd runs in a host of the lab. What needs one is run
by test_systemd.py, and ``pip`` by tests/release.
"""

import itertools
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e.lab.domain import FILE_BACKED, Domain
from tests.services.documents import commands
from tests.services.openstack import OpenStackCommand
from tests.services.process import REPOSITORY, child_environment, program

DOCUMENTS = [
    'README.rst',
    'CONTRIBUTING.rst',
    'HACKING.rst',
    'devstack/README.rst',
    *(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / 'doc/source').rglob('*.rst')),
]
NVME = '/dev/nvme0n1'

SYSTEMCTL = """#!/bin/sh
# Stands in for systemd: mounts what fstab has, and logs the other calls.
[ "$*" != 'start srv-fbm.mount' ] || exec mount /srv/fbm
echo "$*" >>"$0.log"
"""

CI = (REPOSITORY / '.ci/run').read_text()
UNITS = (
    'devstack@fbm-agent',
    'fbm-agent',
    'fbm-check',
    'libvirtd',
    'nova-compute',
    'srv-fbm.mount',
)
INLINE = re.compile(r'``((?:openstack|fbm-agent|fbm-status|make|systemctl) [^`]+)``')


BOOK = 'doc/source/admin/store.rst'
IN_A_CLOUD = 'doc/source/admin/turning-on-and-off.rst'
"""tests/e2e/openstack/test_turning_on_and_off.py runs it."""
WITH_SYSTEMD = ('doc/source/admin/check.rst', 'doc/source/admin/install.rst')
"""tests/e2e/test_systemd.py runs them."""
ELSEWHERE = (BOOK, IN_A_CLOUD, *WITH_SYSTEMD)
OTHERS = [name for name in DOCUMENTS if commands(name) and name not in ELSEWHERE]


@pytest.fixture
def host(make_compute, tmp_path):
    """A plain compute host with an empty disk, and an /etc/fstab and a /srv of its own."""
    own = make_compute('book', memory_backing_dir=None)
    run = own.host.run
    for name, there in (('fstab', '/etc/fstab'), ('system', '/etc/systemd/system')):
        private = tmp_path / name
        private.mkdir() if name == 'system' else private.write_text('')
        run('mount', '--bind', str(private), there)
    run('mount', '-t', 'tmpfs', 'srv', '/srv')
    stub = tmp_path / 'systemctl'
    stub.write_text(SYSTEMCTL)
    stub.chmod(0o755)
    own.bin = f'{tmp_path}:{Path(program("fbm-agent")).parent}:/usr/sbin:/usr/bin:/sbin:/bin'
    return own


@pytest.fixture
def disk(tmp_path, host):
    image = tmp_path / 'disk'
    with image.open('wb') as file:
        file.truncate(400 << 20)
    device = host.host.run('losetup', '--find', '--show', str(image)).stdout.strip()
    yield device
    host.host.run('umount', '--lazy', '/srv/fbm', check=False)
    host.host.run('losetup', '--detach', device)


def type_in(own, command, good=(0,)):
    """Run a command on the host as an operator types it there."""
    done = own.host.run('env', f'PATH={own.bin}', 'sh', '-c', command, check=False)
    assert done.returncode in good, f'{command}: {done.returncode}\n{done.stdout}{done.stderr}'
    return done


def test_a_store_is_prepared_by_the_book(host, disk, boot):
    """The disk, the mount, the modes, libvirt, nova.conf: and then a guest lives in it."""
    for command in commands(BOOK):
        good = (0, 1, 2) if 'upgrade check' in command else (0,)
        type_in(host, command.replace(NVME, disk), good)
        if 'restart libvirtd' in command:
            host.host.stop_libvirtd()
            host.host.start_libvirtd()
    host.configure('libvirt', file_backed_memory=300)
    with host.agent():
        done = type_in(host, 'fbm-status upgrade check --json', good=(0, 1, 2))
        results = {one['check']: one for one in json.loads(done.stdout)['checks']}
        assert results['Store']['result'] == 0, results['Store']
        assert 'UNHEALTHY' not in type_in(host, 'fbm-agent --once').stdout
        guest = boot(host.host, Domain(backing=FILE_BACKED))
        assert '/srv/fbm/libvirt/qemu' in ' '.join(guest.command_line())
        guest.destroy()


def runs_elsewhere(command):
    if re.match(r'make |\.venv/bin/tox |\.tox/', command):
        assert command in CI, f'.ci/run does not run {command!r}'
        return True
    # tests/release, by the name of the wheel; tests/devstack.
    # test_systemd.py has the journal.
    elsewhere = r'pip (un)?install fbm-placement|sudo /opt/stack/.*|journalctl .*'
    return re.fullmatch(elsewhere, command) is not None


@pytest.mark.parametrize('document', OTHERS)
def test_every_command_is_run(document, host):
    """A new one must be run somewhere."""
    openstack = OpenStackCommand.with_token(host.compute.url)
    for command in commands(document):
        if runs_elsewhere(command):
            continue
        if command.startswith('openstack '):
            words = command.replace('<uuid>', host.compute.uuid)
            assert openstack.text(*shlex.split(words)[1:])
        elif command.startswith('systemctl '):
            assert_unit(command)
            type_in(host, command)
        else:
            assert re.match(r'fbm-(agent|status) ', command), f'who runs {command!r}?'
            # 1: something is wrong with the host; 2: the doctor has failures, or the command line
            # is wrong.
            good = (0, 1, 2) if 'upgrade check' in command else (0, 1)
            done = type_in(host, command, good)
            assert 'usage:' not in done.stderr


def assert_unit(command):
    """Its units are the project's, or those that they depend on."""
    for part in command.split(' && '):
        _systemctl, verb, *rest = part.split()
        units = [word.removesuffix('.service') for word in rest if not word.startswith('--')]
        assert bool(units) != (verb == 'daemon-reload' or not rest), part
        assert set(units) <= set(UNITS), part


def inline_commands():
    text = ' '.join((REPOSITORY / name).read_text() for name in DOCUMENTS)
    return sorted({' '.join(found.split()) for found in INLINE.findall(text)})


@pytest.mark.parametrize('command', inline_commands())
def test_a_command_in_a_sentence(command):
    """It may be half of one, so it isn't run; but there is one of that name, with its options."""
    name, *words = command.split()
    options = [word for word in words if word.startswith('--')]
    plain = list(itertools.takewhile(lambda word: not word.startswith('--'), words))
    if name == 'systemctl':
        assert_unit(command)
    elif name == 'make':
        targets = re.findall(
            r'^([a-z0-9-]+):', (REPOSITORY / 'Makefile').read_text(), re.MULTILINE
        )
        assert set(words) <= set(targets)
    else:
        help_of = ['help', *plain] if name == 'openstack' else [*plain, '--help']
        argv = [program(name), *help_of]
        text = subprocess.run(
            argv, env=child_environment(), capture_output=True, text=True, check=True
        ).stdout
        assert [option for option in options if option not in text] == []


def test_commands_are_found():
    """A block that is marked in another way must not make this file test nothing."""
    found = {document: len(commands(document)) for document in DOCUMENTS}
    assert found['README.rst'] >= 6
    assert found['doc/source/admin/store.rst'] >= 10
    assert found['doc/source/admin/install.rst'] >= 10
    assert len(inline_commands()) >= 20

# SPDX-License-Identifier: Apache-2.0
"""What virsh and the programs print, as they printed it."""

import os

import pytest

from fbm_placement.doctor import versions
from fbm_placement.doctor.versions import Versions, parse, read_versions

VIRSH = """\
Compiled against library: libvirt 9.0.0
Using library: libvirt 9.0.0
Using API: QEMU 9.0.0
Running hypervisor: QEMU 7.2.22
Running against daemon: 10.1.0
"""


def test_the_running_ones_count():
    """The daemon, not the library that virsh was built with."""
    assert parse(VIRSH) == Versions(qemu=(7, 2, 22), libvirt=(10, 1, 0))


def test_installed_programs():
    text = 'libvirtd (libvirt) 9.0.0\nQEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n'
    assert parse(text) == Versions(qemu=(7, 2, 22), libvirt=(9, 0, 0))
    assert parse('error: failed to connect') == Versions(None, None)
    assert versions.told((7, 2, 22)) == '7.2.22'


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Let only programs of the test's own be found."""
    run = versions.subprocess.run

    def only_these(command, **kwargs):
        path = tmp_path / os.path.basename(command[0])
        if not path.exists():
            raise FileNotFoundError(command[0])
        return run([str(path), *command[1:]], **kwargs)

    monkeypatch.setattr(versions.subprocess, 'run', only_these)

    def write(name, script):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)

    return write


def test_virsh_is_asked_first_with_novas_uri(programs):
    programs('virsh', f'test "$2" = qemu:///system && cat <<END\n{VIRSH}END')
    assert read_versions('qemu:///system') == parse(VIRSH)
    assert read_versions('qemu+tcp://elsewhere/system') == Versions(None, None)


def test_where_virsh_does_not_answer_the_programs_do(programs):
    programs('virsh', 'exit 1')
    programs('virtqemud', 'echo "virtqemud (libvirt) 8.5.0"')
    programs('qemu-kvm', 'echo "QEMU emulator version 6.2.0"')
    assert read_versions('qemu:///system') == Versions(qemu=(6, 2, 0), libvirt=(8, 5, 0))


def test_one_that_hangs_is_left(programs, monkeypatch):
    monkeypatch.setattr(versions, 'ANSWER_SECONDS', 0.2)
    programs('virsh', 'exec sleep 60')
    assert read_versions('qemu:///system') == Versions(None, None)

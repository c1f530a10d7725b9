# SPDX-License-Identifier: Apache-2.0
"""What is released: an sdist and a wheel that work in an empty environment and without git.

Run by ``tox -e build``: it needs ``build``, git and the package index.
"""

import os
import sys
import tarfile
import venv
import zipfile

import pytest

from tests.release.build import run

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope='session')
def installed(tmp_path_factory, released):
    directory = tmp_path_factory.mktemp('installed')
    venv.create(directory / 'venv', with_pip=True)
    python = str(directory / 'venv/bin/python')
    run(python, '-m', 'pip', 'install', '--quiet', str(released[1]), cwd=directory)
    return directory / 'venv'


def version(released):
    return released[1].name.split('-')[1]


def test_the_programs_run_and_know_their_version(installed, released, tmp_path):
    """From anywhere: neither git nor the tree is needed."""
    for program in ('fbm-agent', 'fbm-status'):
        printed = run(str(installed / 'bin' / program), '--version', cwd=tmp_path)
        assert printed.strip() == version(released)


def test_data_files_are_where_systemd_looks(installed):
    """Under the prefix: /usr and /usr/local are on its search path."""
    for path in (
        'lib/systemd/system/fbm-agent.service',
        'lib/systemd/system/fbm-check.service',
        'share/fbm-placement/nova-compute.service.d/fbm-check.conf',
    ):
        assert (installed / path).is_file()


def test_the_hook_can_be_installed_from_it(installed, released, tmp_path):
    hooks = tmp_path / 'etc/libvirt/hooks'
    hooks.parent.mkdir(parents=True)
    conf = tmp_path / 'nova.conf'
    conf.write_text('')
    command = [str(installed / 'bin/fbm-status'), '--config-file', str(conf), 'hook', 'install']
    run(*command, '--hooks-dir', str(hooks), cwd=tmp_path)
    shell = hooks / 'qemu.d/50-file-backed-memory'
    assert os.access(shell, os.X_OK)
    assert run(str(shell), 'guest', 'started', 'begin', '-', cwd=tmp_path) == ''
    program = hooks / 'qemu.d/50-file-backed-memory.py'
    assert not os.access(program, os.X_OK)
    with zipfile.ZipFile(released[1]) as wheel:
        assert program.read_bytes() == wheel.read('fbm_placement/hook/program.py')


def test_the_options_can_be_listed_from_it(installed, tmp_path):
    """Both halves have their entry point, and the scheduler's needs no Nova for it."""
    generator = str(installed / 'bin/oslo-config-generator')
    names = ['--namespace', 'fbm_placement', '--namespace', 'fbm_filters']
    sample = run(generator, *names, cwd=tmp_path)
    for option in ('resource_provider', 'hook_mode', 'default_policy'):
        assert f'#{option} = ' in sample


def test_the_filter_is_in_it_under_its_name(installed, tmp_path):
    code = 'import importlib.util; print(importlib.util.find_spec("fbm_filters").origin)'
    printed = run(str(installed / 'bin/python'), '-I', '-c', code, cwd=tmp_path)
    assert str(installed) in printed


def test_it_can_be_uninstalled(tmp_path, released):
    """And nothing of it stays, the units included."""
    venv.create(tmp_path / 'venv', with_pip=True)
    pip = [str(tmp_path / 'venv/bin/python'), '-m', 'pip']
    run(*pip, 'install', '--quiet', '--no-deps', str(released[1]), cwd=tmp_path)
    run(*pip, 'uninstall', '--quiet', '--yes', 'fbm-placement', cwd=tmp_path)
    left = [path for path in (tmp_path / 'venv').rglob('*fbm*') if path.is_file()]
    assert left == []


def test_nothing_else_is_in_the_wheel(released):
    with zipfile.ZipFile(released[1]) as wheel:
        tops = {name.split('/')[0] for name in wheel.namelist()}
    base = f'fbm_placement-{version(released)}'
    assert tops == {'fbm_placement', 'fbm_filters', f'{base}.dist-info', f'{base}.data'}


def test_the_sdist_builds_without_git(released, tmp_path):
    """As distributions do: the version is in it."""
    with tarfile.open(released[0]) as sdist:
        sdist.extractall(tmp_path, filter='data')
    (source,) = tmp_path.iterdir()
    # Not even the directory above may be a repository.
    ceiling = {'GIT_CEILING_DIRECTORIES': str(tmp_path)}
    run(sys.executable, '-m', 'build', '--outdir', 'again', str(source), cwd=tmp_path, **ceiling)
    (wheel,) = (tmp_path / 'again').glob('*.whl')
    assert wheel.name == released[1].name
    with zipfile.ZipFile(wheel) as again, zipfile.ZipFile(released[1]) as first:
        assert contents(again) == contents(first)


def contents(wheel):
    return {file.filename: file.CRC for file in wheel.infolist()}


def test_the_sdist_has_what_a_packager_needs(released):
    with tarfile.open(released[0]) as sdist:
        names = {name.partition('/')[2] for name in sdist.getnames()}
    for path in (
        'LICENSE',
        'README.rst',
        'tox.ini',
        'tests/unit/rules/test_publish.py',
        'ChangeLog',
    ):
        assert path in names

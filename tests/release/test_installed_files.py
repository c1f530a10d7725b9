# SPDX-License-Identifier: Apache-2.0
"""``pip install`` gives the same files from an sdist as from a wheel."""

import hashlib
import sys

import pytest

from tests.release.build import run

pytestmark = pytest.mark.timeout(600)

OF_THE_ARCHIVE = ('RECORD', 'direct_url.json', 'pbr.json')
"""Digests of all files, where the archive was, and pbr's note of a git commit."""


def installed_files(archive, target):
    """Install without dependencies into an empty prefix; return digests by path."""
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-compile']
    run(*pip, '--prefix', str(target), '--ignore-installed', str(archive), cwd=target.parent)
    return {
        str(path.relative_to(target)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in target.rglob('*')
        if path.is_file() and path.name not in OF_THE_ARCHIVE
    }


def test_sdist_and_wheel_install_the_same_files(released, tmp_path):
    sdist, wheel = released
    from_sdist = installed_files(sdist, tmp_path / 'sdist')
    assert from_sdist == installed_files(wheel, tmp_path / 'wheel')
    paths = ' '.join(from_sdist)
    for path in (
        'fbm_placement/py.typed',
        'fbm_filters/py.typed',
        'fbm_placement/hook/files/50-file-backed-memory',
        'lib/systemd/system/fbm-agent.service',
        'share/fbm-placement/nova-compute.service.d/fbm-check.conf',
        'bin/fbm-agent',
    ):
        assert path in paths

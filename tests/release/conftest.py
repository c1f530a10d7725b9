# SPDX-License-Identifier: Apache-2.0
"""The sdist and the wheel that all tests of the release share."""

import pytest

from tests.release.build import REPOSITORY, build, run


@pytest.fixture(scope='session')
def released(tmp_path_factory):
    """Build what a release uploads, from a clone: what isn't committed isn't released."""
    directory = tmp_path_factory.mktemp('released')
    run('git', 'clone', '--quiet', str(REPOSITORY), 'clone', cwd=directory)
    return build(directory / 'clone', directory / 'dist')

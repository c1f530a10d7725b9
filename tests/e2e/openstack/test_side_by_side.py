# SPDX-License-Identifier: Apache-2.0
"""The cross-kind cases in the same cloud, with our parts and then without them."""

import pytest

from tests.e2e.openstack import side_by_side
from tests.services.process import REPOSITORY

TABLE = REPOSITORY / 'doc/source/admin/side-by-side.inc'
CASES = list(side_by_side.CASES)
CHOICE, TO_DISABLED, TO_ENABLED, NO_HOST, FORCED, PAGES = CASES


@pytest.fixture(scope='module')
def rows(table_path):
    """What came of each case, by whether our parts were there; a table in the end."""
    outcomes = {case: {} for case in CASES}
    yield outcomes
    if is_whole(outcomes):
        side_by_side.write(table_path, outcomes)


def is_whole(outcomes):
    """Whether each case was tried both ways."""
    return all(len(row) == 2 for row in outcomes.values())


@pytest.fixture(scope='module', params=[True, False], ids=['with', 'without'])
def ours(request, cloud):
    if request.param:
        yield True
    else:
        with cloud.without_our_parts():
            yield False


@pytest.mark.parametrize('case', CASES)
def test_case(cloud, boot, create, rows, ours, case):
    """Nova alone fails late and leaves a server in ERROR; with our parts it is refused early."""
    outcome = side_by_side.CASES[case](cloud, boot, create)
    rows[case][ours] = outcome
    print(outcome)
    if case != PAGES:
        assert outcome.intact
    if case == CHOICE:
        assert outcome.moved is ours
        assert outcome.host == ('ram' if ours else 'disk')
    else:
        assert not outcome.moved
    if ours and case not in (FORCED, PAGES):
        assert outcome.status == 'ACTIVE'
    else:
        assert outcome.status == 'ERROR'
    if ours and case in (TO_DISABLED, TO_ENABLED):
        assert 'File-backed memory: name another host, or none' in outcome.reason
    if not ours:
        assert 'File-backed' not in outcome.reason


def test_the_documentation_shows_this_table(rows, tmp_path):
    """But for the times, which are those of the run that it is a copy of.

    `SIDE_BY_SIDE=doc/source/admin/side-by-side.inc make E2E=cloud e2e` makes it again.
    """
    if not is_whole(rows):
        pytest.skip('only some of the cases have run')
    side_by_side.write(tmp_path / 'table', rows)
    shown, made = TABLE.read_text(), (tmp_path / 'table').read_text()
    assert side_by_side.without_times(shown) == side_by_side.without_times(made)

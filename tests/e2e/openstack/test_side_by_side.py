# SPDX-License-Identifier: Apache-2.0
"""The cross-kind cases in the same cloud, with our parts and then without them."""

import pytest

from tests.e2e.openstack import side_by_side

CASES = list(side_by_side.CASES)
CHOICE, TO_DISABLED, TO_ENABLED, NO_HOST, FORCED, PAGES = CASES


@pytest.fixture(scope='module')
def rows(table_path):
    """What came of each case, by whether our parts were there; a table in the end."""
    outcomes = {case: {} for case in CASES}
    yield outcomes
    if all(len(row) == 2 for row in outcomes.values()):
        side_by_side.write(table_path, outcomes)


@pytest.fixture(scope='module', params=[True, False], ids=['with', 'without'])
def ours(request, cloud):
    """Whether our parts are there."""
    if request.param:
        yield True
    else:
        with cloud.without_our_parts():
            yield False


@pytest.mark.parametrize('case', CASES)
def test_case(cloud, boot, create, rows, ours, case):
    """Nova alone fails late and leaves a server in ERROR; with our parts it is told early why."""
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
        assert 'File-backed memory: name another host, or none' in outcome.words
    if not ours:
        assert 'File-backed' not in outcome.words

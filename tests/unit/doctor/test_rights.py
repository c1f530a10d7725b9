# SPDX-License-Identifier: Apache-2.0
"""What Placement's refusals mean; tests/functional asks a real one."""

import pytest

from fbm_placement import errors
from fbm_placement.doctor.rights import missing_rights
from fbm_placement.plan import HostFacts, Observation, target
from fbm_placement.settings import Settings

GOAL = target(Settings(1000, 0, 'kvm', 1.0), HostFacts())
SEEN = Observation(7, GOAL.inventory, frozenset({'A'}))


class Refusing:
    """A Placement that answers each write as the test says."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def _answer(self, what, *generation):
        self.asked.append((what, *generation))
        raise self.answers.get(what, errors.ConflictError('409'))

    def put_traits(self, uuid, generation, traits):
        self._answer('traits', generation)

    def put_inventory(self, uuid, generation, inventory):
        self._answer('inventory', generation)

    def create_trait(self, name):
        assert not name.startswith('CUSTOM_')
        self.answers.setdefault('trait', errors.BadRequestError('400'))
        self._answer('trait')


def test_a_conflict_or_a_bad_name_tells_that_the_right_is_there():
    placement = Refusing()
    assert missing_rights(placement, 'u', SEEN) == ()
    assert placement.asked == [('traits', -1), ('trait',), ('inventory', -1)]


def test_each_right_that_is_missing_is_told_in_placements_words():
    forbidden = errors.ForbiddenError('PUT ...: 403 Forbidden')
    placement = Refusing(inventory=forbidden, trait=forbidden)
    assert missing_rights(placement, 'u', SEEN) == ('PUT ...: 403 Forbidden',) * 2


def test_an_inventory_that_is_not_there_is_not_tried():
    placement = Refusing()
    assert missing_rights(placement, 'u', Observation(7, None, frozenset())) == ()
    assert ('inventory', -1) not in placement.asked


def test_other_trouble_is_raised():
    with pytest.raises(errors.PlacementError, match='503'):
        missing_rights(Refusing(traits=errors.PlacementError('503')), 'u', SEEN)

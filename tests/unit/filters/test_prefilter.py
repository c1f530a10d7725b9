# SPDX-License-Identifier: Apache-2.0
"""The pre-filter: the answer into the request, and what a failure means."""

import threading

import pytest
from nova import context as nova_context
from nova import exception
from nova.scheduler import request_filter

from fbm_filters import decision, placement, prefilter, rules
from fbm_filters.errors import PlacementUnknownError
from fbm_filters.rules import Policy, RequestFacts
from fbm_placement.names import OWN_TRAITS, TRAIT_ENABLED, TRAIT_UNHEALTHY
from tests.unit.filters.test_facts import spec

CONTEXT = nova_context.get_admin_context()


class Traits:
    """Stands in for ``EnsuredTraits``."""

    def __init__(self, trouble=None):
        self.trouble = trouble
        self.asked = 0

    def ensure(self, context):
        """Answer, or don't."""
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble


def run(asked, traits=None, policy=None):
    """Run the pre-filter over one request."""
    return prefilter.PreFilter(policy or Policy(), traits or Traits())(CONTEXT, asked)


@pytest.fixture(autouse=True)
def nova_list():
    """Keep Nova's list as it was."""
    before = list(request_filter.ALL_REQUEST_FILTERS)
    yield request_filter.ALL_REQUEST_FILTERS
    request_filter.ALL_REQUEST_FILTERS[:] = before


def test_the_answer_goes_into_the_request() -> None:
    """And what an earlier pre-filter put there stays."""
    asked = spec({'hw:mem_page_size': 'small'})
    asked.root_required.add('OWNER_NOVA')
    asked.root_forbidden.add('COMPUTE_STATUS_DISABLED')
    assert run(asked) is True
    assert asked.root_required == {'OWNER_NOVA'}
    assert asked.root_forbidden == {'COMPUTE_STATUS_DISABLED', TRAIT_ENABLED, TRAIT_UNHEALTHY}


def test_a_plain_request_stays_off_unhealthy_hosts_only() -> None:
    """Nothing else is asked of anybody."""
    asked = spec()
    run(asked)
    assert asked.root_required == set()
    assert asked.root_forbidden == {TRAIT_UNHEALTHY}


def test_what_another_prefilter_forbids_and_this_requires_is_told() -> None:
    """It would be a query that finds nothing."""
    asked = spec({f'trait:{TRAIT_ENABLED}': 'required'})
    asked.root_forbidden.add(TRAIT_ENABLED)
    with pytest.raises(exception.RequestFilterFailed, match='=forbidden'):
        run(asked)
    assert asked.root_required == set()


def test_a_rebuild_is_left_alone() -> None:
    """Nova runs no pre-filter there; should it ever, this one still has no say."""
    asked = spec({'hw:mem_page_size': 'small'})
    asked.scheduler_hints = {'_nova_check_type': ['rebuild']}
    traits = Traits()
    assert run(asked, traits) is False
    assert asked.root_forbidden == set()
    assert traits.asked == 0


@pytest.mark.parametrize('trouble', [PlacementUnknownError('x', 'y'), KeyError('a bug')])
def test_no_trait_is_named_that_may_not_exist(trouble) -> None:
    """A plain request goes on without one; one that the rules are about is refused."""
    plain = spec()
    assert run(plain, Traits(trouble)) is False
    assert plain.root_forbidden == set()
    asked = spec({'hw:mem_page_size': 'small'})
    with pytest.raises(exception.RequestFilterFailed, match='hw:mem_page_size'):
        run(asked, Traits(trouble))
    assert asked.root_forbidden == set()


@pytest.mark.parametrize(
    'trouble', [exception.InstanceNotFound(instance_id='x'), KeyError('a bug')]
)
def test_an_error_in_the_rules(monkeypatch, trouble) -> None:
    """Nothing but RequestFilterFailed may leave a pre-filter, and only where it has to."""

    def decide(facts, policy):
        if facts == RequestFacts():
            return rules.decide(facts, policy)
        raise trouble

    monkeypatch.setattr(decision, 'decide', decide)
    assert run(spec()) is True
    with pytest.raises(exception.RequestFilterFailed, match="nova-scheduler's log"):
        run(spec({'hw:mem_page_size': 'small'}))


def test_it_is_registered_once_and_last(nova_list) -> None:
    """Whoever makes it anew replaces it; last, it sees what the others require."""
    first, second = (prefilter.PreFilter(Policy(), Traits()) for _ in range(2))
    others = list(nova_list)
    for each in (first, first, second):
        prefilter.register(each)
        assert nova_list == [*others, each]
    prefilter.register(None)
    assert nova_list == others


def test_threads_register_one(nova_list) -> None:
    """Nova 34 runs native threads."""
    others = list(nova_list)
    threads = [
        threading.Thread(
            target=prefilter.register, args=(prefilter.PreFilter(Policy(), Traits()),)
        )
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(nova_list) == len(others) + 1


def test_traits_are_ensured_once_for_a_while(monkeypatch) -> None:
    """Twenty threads ask at once, one asks Placement; later one looks again."""
    calls = []
    monkeypatch.setattr(
        placement, 'create_missing_traits', lambda context, traits: calls.append(set(traits))
    )
    now = 0.0
    ensured = placement.EnsuredTraits(60, lambda: now)
    threads = [threading.Thread(target=ensured.ensure, args=(CONTEXT,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [set(OWN_TRAITS)]
    now = 59.9
    ensured.ensure(CONTEXT)
    assert len(calls) == 1
    now = 60.0
    ensured.ensure(CONTEXT)
    assert len(calls) == 2

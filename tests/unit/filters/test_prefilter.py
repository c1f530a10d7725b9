# SPDX-License-Identifier: Apache-2.0
"""The pre-filter: the answer into the request, and what a failure means."""

import threading
from unittest import mock

import pytest
import requests
from keystoneauth1 import exceptions as ksa_exceptions
from nova import context as nova_context
from nova import exception

from fbm_filters import decision, prefilter, rules
from fbm_filters.placement import ensured_traits
from fbm_filters.rules import Policy, RequestFacts
from fbm_placement.constants import TRAIT_ENABLED, TRAIT_UNHEALTHY
from tests.unit.filters.specs import spec, to

CONTEXT = nova_context.get_admin_context()
NOT_KNOWN = 'where this instance may go could not be determined'

FAILURES = {
    'no connection': requests.ConnectionError('no route'),
    'no credentials': ksa_exceptions.MissingAuthPlugin(),
    '500': {'status_code': 500, 'text': 'The server has <b>either</b> erred'},
    'another service': {'text': '<html>Welcome!</html>'},
    'JSON of another service': {'text': '{"hello": "world"}'},
    'JSON of another shape': {'text': '{"traits": {}}'},
    'a bug': ZeroDivisionError(),
}
"""What may come instead of an answer of Placement."""


def made(clock=lambda: 0.0):
    return prefilter.PreFilter(Policy(), ensured_traits(60, clock))


def run(asked):
    return made()(CONTEXT, asked)


pytestmark = pytest.mark.usefixtures('nova_list', 'placement')


def test_the_answer_goes_into_the_request() -> None:
    """And what an earlier pre-filter put there stays."""
    asked = spec({'hw:mem_page_size': 'small'})
    asked.root_required.add('OWNER_NOVA')
    asked.root_forbidden.add('COMPUTE_STATUS_DISABLED')
    assert run(asked) is True
    assert asked.root_required == {'OWNER_NOVA'}
    assert asked.root_forbidden == {'COMPUTE_STATUS_DISABLED', TRAIT_ENABLED, TRAIT_UNHEALTHY}


def test_a_plain_request_stays_off_unhealthy_hosts_only() -> None:
    asked = spec()
    run(asked)
    assert asked.root_required == set()
    assert asked.root_forbidden == {TRAIT_UNHEALTHY}


def test_what_another_prefilter_forbids_and_this_requires_is_refused() -> None:
    """It would be a query that finds nothing."""
    asked = spec({f'trait:{TRAIT_ENABLED}': 'required'})
    asked.root_forbidden.add(TRAIT_ENABLED)
    with pytest.raises(exception.RequestFilterFailed, match='=forbidden'):
        run(asked)
    assert asked.root_required == set()


def test_a_rebuild_is_left_alone(placement) -> None:
    """Nova runs no pre-filter there; should it ever, this one changes nothing."""
    asked = spec({'hw:mem_page_size': 'small'}, scheduler_hints={'_nova_check_type': ['rebuild']})
    assert run(asked) is False
    assert asked.root_forbidden == set()
    assert placement.requests == []


@pytest.mark.parametrize('error', FAILURES.values(), ids=FAILURES)
def test_no_trait_is_named_that_may_not_exist(placement, error) -> None:
    """A plain request goes on without one; one that the rules are about is refused."""
    placement.failure = error
    plain = spec()
    assert run(plain) is False
    assert plain.root_forbidden == set()
    asked = spec({'hw:mem_page_size': 'small'})
    with pytest.raises(exception.RequestFilterFailed, match='hw:mem_page_size') as refused:
        run(asked)
    assert 'but Placement does not answer; try again later' in str(refused.value)
    assert asked.root_forbidden == set()


@pytest.mark.parametrize('error', [KeyError('a bug'), AttributeError('a bug')])
def test_an_error_in_the_facts(monkeypatch, error) -> None:
    """The names that a request mentions decide, and whether it is a move."""
    monkeypatch.setattr(decision.facts, 'read', mock.Mock(side_effect=error))
    assert run(spec()) is True
    for asked in (
        spec({'hw:mem_page_size': 'small'}),
        to(host='one', allow_cross_cell_move=True),
    ):
        with pytest.raises(exception.RequestFilterFailed, match=NOT_KNOWN):
            run(asked)


@pytest.mark.parametrize('error', [exception.InstanceNotFound(instance_id='x'), KeyError('a bug')])
def test_an_error_in_the_rules(monkeypatch, error) -> None:
    """Nothing but RequestFilterFailed may leave a pre-filter, and only where it has to."""

    def decide(facts, policy):
        if facts == RequestFacts():
            return rules.decide(facts, policy)
        raise error

    monkeypatch.setattr(decision, 'decide', decide)
    assert run(spec()) is True
    with pytest.raises(exception.RequestFilterFailed, match=NOT_KNOWN):
        run(spec({'hw:mem_page_size': 'small'}))


def test_it_is_registered_once_and_last(nova_list) -> None:
    """A new one replaces the old; last, it sees what the others require. Nova 34 has threads."""
    others = list(nova_list)
    first, second = made(), made()
    for each in (first, first, second):
        prefilter.register(each)
        assert nova_list == [*others, each]
    threads = [threading.Thread(target=prefilter.register, args=(made(),)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(nova_list) == len(others) + 1
    prefilter.register(None)
    assert nova_list == others


def test_traits_are_created_and_checked_again_after_a_while(placement, http, clock) -> None:
    """Once for many requests: a name that doesn't exist stops every boot."""
    placement.traits = {TRAIT_ENABLED, 'HW_CPU_X86_VMX'}
    ours = made(clock)
    disk, unhealthy = (f'{TRAIT_ENABLED}_{suffix}' for suffix in ('DISK', 'UNHEALTHY'))
    listed = ('GET', f'/traits?name=in:{TRAIT_ENABLED},{disk},{unhealthy}')
    created = [listed, ('PUT', f'/traits/{disk}'), ('PUT', f'/traits/{unhealthy}')]
    for clock.now, expected in ((0.0, created), (59.9, created), (60.1, [*created, listed])):
        ours(CONTEXT, spec())
        assert placement.requests == expected
    ids = {sent.headers['X-OpenStack-Request-ID'] for sent in http.request_history}
    assert ids == {CONTEXT.global_id}

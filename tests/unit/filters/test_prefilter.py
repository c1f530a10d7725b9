# SPDX-License-Identifier: Apache-2.0
"""The pre-filter: the answer into the request, and what a failure means."""

import logging
import threading
from unittest import mock

import pytest
import requests
from keystoneauth1 import exceptions as ksa_exceptions
from nova import context as nova_context
from nova import exception, objects

from fbm_filters import decision, prefilter, rules
from fbm_filters.cache import Cache
from fbm_filters.placement import traits_in_use
from fbm_filters.rules import Policy, RequestFacts, SchedulerHost
from fbm_placement.constants import TRAIT_DISK, TRAIT_ENABLED, TRAIT_UNHEALTHY
from tests.unit.fake_placement import Provider
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


@pytest.fixture
def made(placement, clock):
    cache = Cache(traits_in_use, 60, 300, clock)
    yield prefilter.PreFilter(Policy(), cache)
    cache.close()


@pytest.fixture
def run(made):
    return lambda asked: made(CONTEXT, asked)


def test_the_answer_goes_into_the_request(run) -> None:
    """And what an earlier pre-filter put there stays."""
    asked = spec({'hw:mem_page_size': 'small'})
    asked.root_required.add('OWNER_NOVA')
    asked.root_forbidden.add('COMPUTE_STATUS_DISABLED')
    assert run(asked) is True
    assert asked.root_required == {'OWNER_NOVA'}
    assert asked.root_forbidden == {'COMPUTE_STATUS_DISABLED', TRAIT_ENABLED, TRAIT_UNHEALTHY}


def test_a_plain_request_stays_off_unhealthy_hosts_only(run) -> None:
    asked = spec()
    run(asked)
    assert asked.root_required == set()
    assert asked.root_forbidden == {TRAIT_UNHEALTHY}


def test_what_another_prefilter_forbids_and_this_requires_is_refused(run) -> None:
    """It would be a query that finds nothing."""
    asked = spec({f'trait:{TRAIT_ENABLED}': 'required'})
    asked.root_forbidden.add(TRAIT_ENABLED)
    with pytest.raises(exception.RequestFilterFailed, match='=forbidden'):
        run(asked)
    assert asked.root_required == set()


def test_a_rebuild_is_left_alone(run, placement) -> None:
    """Nova runs no pre-filter there; should it ever, this one changes nothing."""
    asked = spec({'hw:mem_page_size': 'small'}, scheduler_hints={'_nova_check_type': ['rebuild']})
    assert run(asked) is False
    assert asked.root_forbidden == set()
    assert placement.requests == []


@pytest.mark.parametrize('error', FAILURES.values(), ids=FAILURES)
def test_no_trait_is_named_that_may_not_exist(run, placement, error) -> None:
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
def test_an_error_in_the_facts(run, monkeypatch, error) -> None:
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
def test_an_error_in_the_rules(run, monkeypatch, error) -> None:
    """Nothing but RequestFilterFailed may leave a pre-filter, and only where it has to."""

    def decide(facts, policy):
        if facts == RequestFacts():
            return rules.decide(facts, policy)
        raise error

    monkeypatch.setattr(decision, 'decide', decide)
    assert run(spec()) is True
    with pytest.raises(exception.RequestFilterFailed, match=NOT_KNOWN):
        run(spec({'hw:mem_page_size': 'small'}))


def test_only_traits_that_some_host_has_are_forbidden(run, placement, clock) -> None:
    """All others may have been deleted, which would stop every boot."""
    for provider in placement.providers.values():
        provider.traits -= {TRAIT_DISK, TRAIT_UNHEALTHY}
    asked = spec({'resources:VGPU': '1', 'hw:mem_page_size': 'small'})
    assert run(asked) is True
    assert asked.root_forbidden == {TRAIT_ENABLED}
    plain = spec()
    assert run(plain) is True
    assert plain.root_forbidden == set()


def test_what_a_live_migration_must_not_meet_is_forbidden_though_no_host_is_known_to_have_it(
    run, placement, monkeypatch
) -> None:
    """The first host that has it may be one since; there the guest would be lost."""
    placement.providers = {'plain': placement.providers['plain']}
    moving = RequestFacts(source=SchedulerHost('plain', frozenset()))
    monkeypatch.setattr(decision.moves, 'add_move', lambda *_args: moving)
    asked = spec()
    run(asked)
    assert asked.root_forbidden == {TRAIT_ENABLED, TRAIT_UNHEALTHY}


def test_the_trait_of_nova_is_forbidden_where_a_host_has_it(run, placement) -> None:
    """It may have none of this project's: its agent has not run yet."""
    placement.traits.add('COMPUTE_MEM_BACKING_FILE')
    placement.providers['early'] = Provider('early', traits={'COMPUTE_MEM_BACKING_FILE'})
    asked = spec({'hw:mem_page_size': 'small'})
    run(asked)
    assert asked.root_forbidden == {TRAIT_ENABLED, TRAIT_UNHEALTHY, 'COMPUTE_MEM_BACKING_FILE'}


def test_it_is_registered_once_and_last(nova_list, made) -> None:
    """A new one replaces the old; last, it sees what the others require. Nova 34 has threads."""
    others = list(nova_list)
    second = prefilter.PreFilter(Policy(), None)
    for each in (made, made, second):
        prefilter.register(each)
        assert nova_list[:-1] == others
        assert nova_list[-1].__wrapped__ is each
    threads = [threading.Thread(target=prefilter.register, args=(made,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(nova_list) == len(others) + 1
    prefilter.register(None)
    assert nova_list == others


def test_nova_logs_it_as_its_own(nova_list, made, caplog) -> None:
    caplog.set_level(logging.DEBUG, logger='nova.scheduler.request_filter')
    prefilter.register(made)
    assert nova_list[-1](CONTEXT, spec()) is True
    assert "Request filter 'file_backed_memory_filter' took" in caplog.text


def test_the_log_has_the_names_that_a_user_must_not_read(run, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO, logger='fbm_filters')
    moving = RequestFacts(
        source=SchedulerHost('cpu-1', frozenset({TRAIT_ENABLED})),
        destination=SchedulerHost('cpu-2', frozenset()),
    )
    monkeypatch.setattr(decision.moves, 'add_move', lambda *_args: moving)
    with pytest.raises(exception.RequestFilterFailed) as refused:
        run(spec())
    reason = (
        'File-backed memory: name another host, or none: the host that was named is a host '
        'without file-backed memory, but the guest on its present host needs a host with '
        'file-backed memory'
    )
    assert reason in str(refused.value)
    assert 'cpu-' not in str(refused.value)
    assert caplog.messages == [
        f'Instance c2b9f0f4-0000-4000-8000-000000000000 (cpu-1 to cpu-2): {reason}'
    ]


@pytest.mark.parametrize(
    ('asked', 'named'),
    [
        ({'num_instances': 1}, ': required'),
        ({'num_instances': 3}, ' and 2 more: required'),
        # A later move of one of the three.
        (
            {
                'num_instances': 3,
                'requested_destination': objects.Destination(allow_cross_cell_move=True),
            },
            ': required',
        ),
    ],
)
def test_the_log_has_the_number_of_instances(run, monkeypatch, caplog, asked, named) -> None:
    monkeypatch.setattr(decision.moves, 'add_move', lambda asked, *_args: asked)
    caplog.set_level(logging.INFO, logger='fbm_filters')
    run(spec({'hw:mem_page_size': 'small'}, **asked))
    (line,) = caplog.messages
    assert line.startswith(f'Instance c2b9f0f4-0000-4000-8000-000000000000{named}')


def test_missing_traits_are_created(run, placement, http) -> None:
    """Once for many requests, none of which waits for more: a flavor may name them."""
    placement.traits = {TRAIT_ENABLED, 'HW_CPU_X86_VMX'}
    for provider in placement.providers.values():
        provider.traits &= placement.traits
    disk, unhealthy = (f'{TRAIT_ENABLED}_{suffix}' for suffix in ('DISK', 'UNHEALTHY'))
    ours = f'{TRAIT_ENABLED},{disk},{unhealthy}'
    for _ in range(20):
        run(spec())
    assert placement.requests == [
        ('GET', f'/traits?name=in:COMPUTE_MEM_BACKING_FILE,{ours}&associated=true'),
        ('GET', f'/traits?name=in:{ours}'),
        ('PUT', f'/traits/{disk}'),
        ('PUT', f'/traits/{unhealthy}'),
    ]
    ids = {sent.headers['X-OpenStack-Request-ID'] for sent in http.request_history}
    assert len(ids) == 1
    assert ids.pop().startswith('req-')

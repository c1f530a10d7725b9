# SPDX-License-Identifier: Apache-2.0
"""The connection to Placement, and what is read through it."""

import nova.conf
import pytest
from nova import context as nova_context

from fbm_filters import placement as ours
from fbm_placement.errors import BadRequestError
from tests.unit import fake_placement

CONTEXT = nova_context.get_admin_context()


@pytest.fixture
def conf():
    conf = nova.conf.CONF

    def configure(**options):
        for name, value in options.items():
            conf.set_override(name, value, group='placement')

    configure(auth_type='none', endpoint_override=fake_placement.URL)
    ours.connection.cache_clear()
    yield configure
    for name in ('auth_type', 'endpoint_override', 'timeout', 'connect_retries'):
        conf.clear_override(name, group='placement')
    ours.connection.cache_clear()


@pytest.mark.parametrize(('timeout', 'seconds'), [(None, 10), (3, 3), (60, 10)])
def test_no_request_is_without_a_time_limit(conf, http, timeout, seconds) -> None:
    """Nova's own has none by default."""
    conf(timeout=timeout)
    http.get(f'{fake_placement.URL}/traits', json={'traits': []})
    ours.client(CONTEXT).existing_traits({'CUSTOM_A'})
    assert http.last_request.timeout == seconds


def test_a_process_has_one_connection_and_a_fork_another(conf) -> None:
    assert ours.connection(1) is ours.connection(1)
    assert ours.connection(2) is not ours.connection(1)


def test_what_is_read(placement) -> None:
    """The traits that some provider has, and which have each of them."""
    placement.traits.add('COMPUTE_MEM_BACKING_FILE')
    placement.providers['sick'].traits -= {'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'}
    assert ours.traits_in_use(CONTEXT) == {
        'CUSTOM_FILE_BACKED_MEMORY',
        'CUSTOM_FILE_BACKED_MEMORY_DISK',
    }
    assert ours.providers_by_trait(CONTEXT) == {
        'COMPUTE_MEM_BACKING_FILE': set(),
        'CUSTOM_FILE_BACKED_MEMORY': {'tmpfs', 'disk', 'sick'},
        'CUSTOM_FILE_BACKED_MEMORY_DISK': {'disk', 'sick'},
        'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY': set(),
    }


def test_a_trait_that_is_deleted_in_between(placement) -> None:
    """Then the read fails as a whole, and what was known before stays in use."""

    def delete(method, path):
        if path == '/resource_providers':
            placement.failure = {
                'status_code': 400,
                'text': '{"errors": [{"detail": "No such trait(s): A", "code": "x"}]}',
            }

    placement.before = delete
    with pytest.raises(BadRequestError):
        ours.providers_by_trait(CONTEXT)


def test_what_is_read_is_used_where_no_trait_can_be_created(placement) -> None:
    """By a policy of Placement's, or while its database takes no writes."""
    placement.traits -= {'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'}
    placement.providers['sick'].traits -= {'CUSTOM_FILE_BACKED_MEMORY_UNHEALTHY'}

    def forbid(method, path):
        if method == 'PUT':
            placement.failure = {'status_code': 403, 'text': ''}

    placement.before = forbid
    assert ours.traits_in_use(CONTEXT) == {
        'CUSTOM_FILE_BACKED_MEMORY',
        'CUSTOM_FILE_BACKED_MEMORY_DISK',
    }

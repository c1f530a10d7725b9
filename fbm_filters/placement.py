# SPDX-License-Identifier: Apache-2.0
"""What the scheduler's side asks of Placement, through Nova's own client."""

import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from nova import context as nova_context
from nova import exception
from nova.scheduler.client import report
from oslo_log import log

from fbm_filters.errors import PlacementUnknownError
from fbm_placement.names import OWN_TRAITS

LOG = log.getLogger(__name__)

MICROVERSION = '1.18'
"""1.18 brought ``GET /resource_providers?required=``."""


def own_traits_of(context: 'nova_context.RequestContext', uuid: str) -> frozenset[str]:
    """Return this project's traits of one provider: one request.

    :raises PlacementUnknownError: Placement could not be asked, or doesn't know the provider
    """
    try:
        found = report.report_client_singleton().get_provider_traits(context, uuid)
    except (exception.NovaException, ksa_exceptions.ClientException) as exc:
        raise PlacementUnknownError(f'the traits of provider {uuid}', exc) from exc
    except (ValueError, LookupError, TypeError) as exc:
        why = f'not an answer of Placement: {exc!r}'
        raise PlacementUnknownError(f'the traits of provider {uuid}', why) from exc
    return frozenset(found.traits) & OWN_TRAITS


def providers_with(context: 'nova_context.RequestContext', trait: str) -> frozenset[str]:
    """Return the UUIDs of all providers with a trait: one request.

    :raises PlacementUnknownError: Placement could not be asked, or doesn't know the trait
    """
    what = f'the providers with {trait}'
    url = f'/resource_providers?required={trait}'
    providers = _get(context, url, 'resource_providers', what)
    return frozenset(provider['uuid'] for provider in providers)


def provider_named(context: 'nova_context.RequestContext', name: str) -> str | None:
    """Return the UUID of the provider with this name, None where there is none: one request.

    :raises PlacementUnknownError: Placement could not be asked
    """
    url = f'/resource_providers?name={urllib.parse.quote(name)}'
    found = _get(context, url, 'resource_providers', f'which provider is {name}')
    return found[0]['uuid'] if found else None


def create_missing_traits(context: 'nova_context.RequestContext', traits: Iterable[str]) -> None:
    """Create those of the traits that don't exist: one request where all do.

    :raises PlacementUnknownError: it is not sure that all exist now
    """
    wanted = sorted(traits)
    url = f'/traits?name=in:{",".join(wanted)}'
    existing = _get(context, url, 'traits', 'which traits exist')
    for trait in sorted(set(wanted) - set(existing)):
        _put(context, f'/traits/{trait}', f'that trait {trait} was created')
        LOG.info('Created trait %s in Placement', trait)


def _get(context: 'nova_context.RequestContext', url: str, key: str, what: str) -> list[Any]:
    def get() -> Any:
        return report.report_client_singleton().get(
            url, version=MICROVERSION, global_request_id=context.global_id
        )

    response = _answered(get, what)
    try:
        found: list[Any] = response.json()[key]
    except (ValueError, LookupError, TypeError) as exc:
        why = f'not an answer of Placement: {response.text[:200]}'
        raise PlacementUnknownError(what, why) from exc
    return found


def _put(context: 'nova_context.RequestContext', url: str, what: str) -> None:
    def put() -> Any:
        return report.report_client_singleton().put(
            url, None, version=MICROVERSION, global_request_id=context.global_id
        )

    _answered(put, what)


def _answered(request: Callable[[], Any], what: str) -> Any:
    try:
        response = request()
    except ksa_exceptions.ClientException as exc:
        raise PlacementUnknownError(what, exc) from exc
    if not response:
        raise PlacementUnknownError(what, f'{response.status_code}: {response.text[:200]}')
    return response


class EnsuredTraits:
    """Knows that the traits exist, for a while: a name that doesn't exist stops every boot."""

    def __init__(
        self, refresh_interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Look again after ``refresh_interval`` seconds: someone may have deleted one."""
        self._refresh_interval = refresh_interval
        self._clock = clock
        self._lock = threading.Lock()
        self._known_at: float | None = None
        self._failed_at: float | None = None
        self._failure: PlacementUnknownError | None = None

    def ensure(self, context: 'nova_context.RequestContext') -> None:
        """Return when all traits exist; mostly that costs nothing.

        :raises PlacementUnknownError: it is not sure that they do
        """
        if self._is_known():
            return
        begun_at = self._clock()
        with self._lock:
            if self._is_known():
                return
            # Who waited while another failed doesn't wait for a time-out of its own too.
            if self._failure and self._failed_at is not None and self._failed_at >= begun_at:
                raise self._failure
            now = self._clock()
            try:
                create_missing_traits(context, OWN_TRAITS)
            except PlacementUnknownError as exc:
                self._failed_at, self._failure = self._clock(), exc
                raise
            self._known_at = now

    def _is_known(self) -> bool:
        known_at = self._known_at
        return known_at is not None and self._clock() - known_at < self._refresh_interval

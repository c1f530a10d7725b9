# SPDX-License-Identifier: Apache-2.0
"""What the filter's snapshot of 10,000 providers costs, against the bare requests for it."""

import gc
import logging
import tracemalloc
from collections.abc import Callable

from benchmarks.measurement import Measurement, least_ms
from fbm_filters.placement import providers_by_trait
from fbm_placement.constants import (
    MICROVERSION,
    OWN_TRAITS,
    TRAIT_DISK,
    TRAIT_ENABLED,
    TRAIT_UNHEALTHY,
)
from tests.functional.nova.lone_placement import LonePlacement

PROVIDERS = 10_000
ROUNDS = 4

INVENTORY = {'VCPU': 8, 'MEMORY_MB': 8192, 'DISK_GB': 100}


def run() -> list[Measurement]:
    """All providers are enabled, half on a disk, one in a hundred unhealthy."""
    logging.disable(logging.INFO)  # Placement's request log, in this process
    try:
        with LonePlacement() as placement:
            return _measure(placement)
    finally:
        logging.disable(logging.NOTSET)


def _measure(placement: LonePlacement) -> list[Measurement]:
    uuids = placement.make_providers(PROVIDERS, INVENTORY)
    placement.set_own_traits(
        {
            one: frozenset({TRAIT_ENABLED})
            | ({TRAIT_DISK} if number % 2 else set())
            | ({TRAIT_UNHEALTHY} if number % 100 == 0 else set())
            for number, one in enumerate(uuids)
        }
    )
    urls = [f'/resource_providers?required={trait}' for trait in sorted(OWN_TRAITS)]

    def plain_gets() -> int:
        return sum(len(placement.client.get(url, version=MICROVERSION).content) for url in urls)

    def take() -> object:
        return providers_by_trait(placement.context)

    read = plain_gets()
    take()
    least = least_ms({'snapshot': take, 'gets': plain_gets}, ROUNDS)
    return [
        Measurement(
            f'snapshot, {PROVIDERS} providers, time',
            least['snapshot'],
            least['gets'],
            'the same GETs, unread',
            # Not in the design: decoding JSON.
            budget=2,
            unit='ms',
        ),
        Measurement(
            f'snapshot, {PROVIDERS} providers, memory kept',
            _kept_bytes(take) / 2**20,
            read / 2**20,
            'read from Placement',
            # Not in the design: it keeps UUIDs, and no answer.
            budget=0.5,
            unit='MiB',
        ),
    ]


def _kept_bytes(work: Callable[[], object]) -> int:
    """Return what the result of ``work`` keeps, as Python counts it."""
    gc.collect()
    tracemalloc.start()
    try:
        result = work()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        del result
        gc.collect()
        return kept - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

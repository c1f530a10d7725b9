# SPDX-License-Identifier: Apache-2.0
"""A real Placement in this process, and Nova's own client for it, with no cloud around them."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import fixtures
import sqlalchemy
from keystoneauth1 import adapter, session, token_endpoint
from nova import context as nova_context
from nova.scheduler.client import report
from placement import db_api
from placement.db.sqlalchemy import models
from placement.tests.functional.fixtures import placement as placement_fixtures
from requests import adapters

from fbm_filters import placement as ours
from fbm_placement.constants import OWN_TRAITS

MICROVERSION = '1.39'


class LonePlacement(fixtures.Fixture):
    """Placement, and a Nova report client for it, which this project uses too.

    Providers are made, and their traits changed, in its database: a provider costs three requests
    otherwise. Everything is read through its API.
    """

    def _setUp(self) -> None:
        self.useFixture(
            # What Nova's own fixture does: wsgi-intercept has no sockets with options.
            fixtures.MonkeyPatch(
                'keystoneauth1.session.TCPKeepAliveAdapter.init_poolmanager',
                adapters.HTTPAdapter.init_poolmanager,
            )
        )
        placement = self.useFixture(placement_fixtures.PlacementFixture())
        self.api = adapter.Adapter(
            session.Session(auth=token_endpoint.Token(placement.endpoint, placement.token)),
            service_type='placement',
            default_microversion=MICROVERSION,
            raise_exc=False,
        )
        self.client = report.SchedulerReportClient(adapter=self.api)
        self.useFixture(fixtures.MockPatchObject(ours, 'connection', return_value=self.client))
        self.context = nova_context.get_admin_context()
        for trait in sorted(OWN_TRAITS):
            self._accept(self.api.put(f'/traits/{trait}'))
        self._trait_ids = self._ids(models.Trait, OWN_TRAITS)
        self._provider_ids: dict[str, int] = {}

    def make_providers(
        self, count: int, inventory: Mapping[str, int], traits: Collection[str] = ()
    ) -> list[str]:
        first = 1 + max(self._provider_ids.values(), default=0)
        ids = {str(uuid.uuid4()): number for number in range(first, first + count)}
        providers = [
            {
                'id': number,
                'uuid': one,
                'name': f'compute-{number:05}.example.org',
                'generation': 1,
                'root_provider_id': number,
            }
            for one, number in ids.items()
        ]
        self._insert(models.ResourceProvider, providers)
        for name, class_id in self._ids(models.ResourceClass, inventory).items():
            total = inventory[name]
            record = {
                'resource_class_id': class_id,
                'total': total,
                'reserved': 0,
                'min_unit': 1,
                'max_unit': total,
                'step_size': 1,
                'allocation_ratio': 1.0,
            }
            records = [{'resource_provider_id': number, **record} for number in ids.values()]
            self._insert(models.Inventory, records)
        self._provider_ids.update(ids)
        self._insert_traits(self._ids(models.Trait, traits), dict.fromkeys(ids, traits))
        return list(ids)

    def set_own_traits(self, traits_of: Mapping[str, frozenset[str]]) -> None:
        table = models.ResourceProviderTrait
        providers = [self._provider_ids[one] for one in traits_of]
        with self._database.begin() as connection:
            connection.execute(
                sqlalchemy.delete(table).where(
                    table.resource_provider_id.in_(providers),
                    table.trait_id.in_(self._trait_ids.values()),
                )
            )
        self._insert_traits(self._trait_ids, traits_of)

    def _insert_traits(
        self, trait_ids: Mapping[str, int], traits_of: Mapping[str, Iterable[str]]
    ) -> None:
        rows = [
            {'resource_provider_id': self._provider_ids[provider], 'trait_id': trait_ids[trait]}
            for provider, traits in traits_of.items()
            for trait in traits
        ]
        self._insert(models.ResourceProviderTrait, rows)

    def _insert(self, table: type, rows: Sequence[Mapping[str, object]]) -> None:
        if rows:
            with self._database.begin() as connection:
                connection.execute(sqlalchemy.insert(table), rows)

    @property
    def _database(self) -> sqlalchemy.Engine:
        return db_api.placement_context_manager.writer.get_engine()

    def _ids(self, table: Any, names: Iterable[str]) -> dict[str, int]:
        query = sqlalchemy.select(table.name, table.id).where(table.name.in_(sorted(names)))
        with self._database.connect() as connection:
            return dict(connection.execute(query).all())

    @staticmethod
    def _accept(response) -> None:
        if not response:
            raise RuntimeError(f'{response.url}: {response.status_code} {response.text}')

# SPDX-License-Identifier: Apache-2.0
"""A real Placement in this process, and Nova's own client for it, with no cloud around them."""

import uuid
from collections.abc import Collection, Iterable, Mapping

import fixtures
import sqlalchemy
from keystoneauth1 import adapter, session, token_endpoint
from nova import context as nova_context
from nova.scheduler.client import report
from placement import db_api
from placement.tests.functional.fixtures import placement as placement_fixtures
from requests import adapters

from fbm_placement.names import OWN_TRAITS

MICROVERSION = '1.39'
GENERATION = 1


class LonePlacement(fixtures.Fixture):
    """Placement, and ``report_client_singleton()`` speaking to it.

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
        self.useFixture(
            fixtures.MockPatchObject(report, 'report_client_singleton', return_value=self.client)
        )
        self.context = nova_context.get_admin_context()
        for trait in sorted(OWN_TRAITS):
            self._accept(self.api.put(f'/traits/{trait}'))
        self._trait_ids = self._ids('traits', OWN_TRAITS)
        self._provider_ids: dict[str, int] = {}

    def make_providers(
        self, count: int, inventory: Mapping[str, int], traits: Collection[str] = ()
    ) -> list[str]:
        """Make providers alike; return their UUIDs."""
        uuids = [str(uuid.uuid4()) for _ in range(count)]
        classes = self._ids('resource_classes', inventory)
        with self._database.begin() as connection:
            first = connection.scalar(
                sqlalchemy.text('SELECT COALESCE(MAX(id), 0) + 1 FROM resource_providers')
            )
            ids = {one: first + number for number, one in enumerate(uuids)}
            connection.execute(
                sqlalchemy.text(
                    'INSERT INTO resource_providers (id, uuid, name, generation, root_provider_id)'
                    ' VALUES (:id, :uuid, :name, :generation, :id)'
                ),
                [
                    {
                        'id': number,
                        'uuid': one,
                        'name': f'compute-{number:05}.example.org',
                        'generation': GENERATION,
                    }
                    for one, number in ids.items()
                ],
            )
            for name, total in inventory.items():
                connection.execute(
                    sqlalchemy.text(
                        'INSERT INTO inventories (resource_provider_id, resource_class_id, total,'
                        ' reserved, min_unit, max_unit, step_size, allocation_ratio)'
                        ' VALUES (:id, :class, :total, 0, 1, :total, 1, 1.0)'
                    ),
                    [
                        {'id': number, 'class': classes[name], 'total': total}
                        for number in ids.values()
                    ],
                )
        self._provider_ids.update(ids)
        self._insert_traits(self._ids('traits', traits), dict.fromkeys(uuids, traits))
        return uuids

    def set_own_traits(self, traits_of: Mapping[str, frozenset[str]]) -> None:
        """Replace this project's traits of some providers."""
        own = {'own': list(self._trait_ids.values())}
        with self._database.begin() as connection:
            connection.execute(
                sqlalchemy.text(
                    'DELETE FROM resource_provider_traits'
                    ' WHERE resource_provider_id IN :providers AND trait_id IN :own'
                ).bindparams(
                    *(sqlalchemy.bindparam(n, expanding=True) for n in ('providers', 'own'))
                ),
                {'providers': [self._provider_ids[one] for one in traits_of], **own},
            )
        self._insert_traits(self._trait_ids, traits_of)

    def _insert_traits(
        self, trait_ids: Mapping[str, int], traits_of: Mapping[str, Iterable[str]]
    ) -> None:
        rows = [
            {'provider': self._provider_ids[provider], 'trait': trait_ids[trait]}
            for provider, traits in traits_of.items()
            for trait in traits
        ]
        if not rows:
            return
        with self._database.begin() as connection:
            connection.execute(
                sqlalchemy.text(
                    'INSERT INTO resource_provider_traits (resource_provider_id, trait_id)'
                    ' VALUES (:provider, :trait)'
                ),
                rows,
            )

    @property
    def _database(self) -> sqlalchemy.Engine:
        return db_api.placement_context_manager.writer.get_engine()

    def _ids(self, table: str, names: Iterable[str]) -> dict[str, int]:
        wanted = sorted(names)
        query = sqlalchemy.text(f'SELECT name, id FROM {table} WHERE name IN :names').bindparams(
            sqlalchemy.bindparam('names', expanding=True)
        )
        with self._database.connect() as connection:
            found = dict(connection.execute(query, {'names': wanted}).all())
        missing = set(wanted) - set(found)
        if missing:
            raise LookupError(f'Placement has no {table} {sorted(missing)}')
        return found

    @staticmethod
    def _accept(response) -> None:
        if not response:
            raise RuntimeError(f'{response.url}: {response.status_code} {response.text}')

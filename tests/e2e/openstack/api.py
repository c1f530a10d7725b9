# SPDX-License-Identifier: Apache-2.0
"""The cloud as its administrator sees it: Nova's API, Placement's, and servers."""

from dataclasses import dataclass, replace
from typing import Any

from tests.e2e.lab.domain import Domain
from tests.e2e.lab.guest import Guest
from tests.e2e.openstack.compute import ComputeNode
from tests.services.keystone import Account
from tests.services.process import ProcessError, wait_until

LATEST = '2.96'
TIMEOUT = 180.0
"""Seconds that a task of Nova may take on a busy machine."""

_FINAL = ('completed', 'error', 'failed', 'cancelled')
"""Of a live migration."""


class RefusedError(RuntimeError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(f'{status}: {message}')
        self.status = status
        self.message = message


class Api:
    def __init__(self, account: Account) -> None:
        self._account = account
        self.log_in_again()

    def log_in_again(self) -> None:
        self._session = self._account.session()

    def nova(
        self, method: str, path: str, body: object = None, *, microversion: str = LATEST
    ) -> Any:
        headers = {'OpenStack-API-Version': f'compute {microversion}'}
        return self._ask('compute', method, path, body, headers)

    def placement(self, method: str, path: str, body: object = None) -> Any:
        headers = {'OpenStack-API-Version': 'placement 1.39'}
        return self._ask('placement', method, path, body, headers)

    def upload(self, name: str, data: bytes) -> str:
        image = {
            'name': name,
            'disk_format': 'raw',
            'container_format': 'bare',
            'visibility': 'public',
        }
        made = self._ask('image', 'POST', '/v2/images', image, {})
        answer = self._session.put(
            f'/v2/images/{made["id"]}/file',
            endpoint_filter={'service_type': 'image', 'interface': 'public'},
            data=data,
            headers={'Content-Type': 'application/octet-stream'},
            raise_exc=False,
        )
        if answer.status_code >= 400:
            raise RefusedError(answer.status_code, answer.text)
        return made['id']

    def _ask(
        self, service: str, method: str, path: str, body: object, headers: dict[str, str]
    ) -> Any:
        answer = self._session.request(
            path,
            method,
            json=body,
            headers=headers,
            endpoint_filter={'service_type': service, 'interface': 'public'},
            raise_exc=False,
        )
        if answer.status_code >= 400:
            raise RefusedError(answer.status_code, _message(answer.text, answer))
        return answer.json() if answer.content else None


def _message(text: str, answer: Any) -> str:
    try:
        (content,) = answer.json().values()
        return content['message']
    except (ValueError, KeyError, TypeError):
        return text


@dataclass(frozen=True)
class Ended:
    event: str
    """Its name in Nova."""
    result: str
    details: str
    """The reason, as an administrator reads it; empty if it succeeded."""

    @property
    def succeeded(self) -> bool:
        return self.result == 'Success'


@dataclass(frozen=True, eq=False)
class Server:
    api: Api
    nodes: dict[str, ComputeNode]
    id: str

    def show(self) -> dict[str, Any]:
        return self.api.nova('GET', f'/servers/{self.id}')['server']

    @property
    def status(self) -> str:
        return self.show()['status']

    @property
    def node(self) -> ComputeNode:
        return self.nodes[self.show()['OS-EXT-SRV-ATTR:host']]

    def settled(self, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Return what Nova shows of it when no task is under way."""
        shown: dict[str, Any] = {}

        def is_settled() -> bool:
            shown.update(self.show())
            return shown['OS-EXT-STS:task_state'] is None and shown['status'] != 'BUILD'

        wait_until(is_settled, f'server {self.id} settled', timeout)
        return shown

    def wait_for(self, status: str, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Return what Nova shows of it when it has this status and no task is under way."""
        shown = self.settled(timeout)
        if shown['status'] != status:
            fault = shown.get('fault', {})
            reason = f'{fault.get("message")} {fault.get("details", "")}'
            raise ProcessError(f'{self.id} is {shown["status"]}, not {status}: {reason}')
        return shown

    def refusal(self) -> str:
        """Return why it is in ERROR; Nova writes that a moment after the status."""
        shown: dict[str, Any] = {}

        def has_reason() -> bool:
            shown.update(self.show())
            return 'fault' in shown

        wait_until(has_reason, f'a fault of server {self.id}')
        assert shown['status'] == 'ERROR'
        return str(shown['fault']['message'])

    def guest(self, node: ComputeNode | None = None) -> Guest:
        shown = self.show()
        flavor = shown['flavor']
        name = shown['OS-EXT-SRV-ATTR:instance_name']
        node = node or self.nodes[shown['OS-EXT-SRV-ATTR:host']]
        return Guest(node.host, Domain(name, memory=flavor['ram'], uuid=self.id))

    def counting_guest(self) -> Guest:
        """Return the guest behind it when it runs its program."""
        guest = self.guest()
        guest.wait_until(lambda: guest.counter() > 0, 'counting')
        return guest

    def act(self, action: str, body: Any = None, *, microversion: str = LATEST) -> None:
        path = f'/servers/{self.id}/action'
        self.api.nova('POST', path, {action: body}, microversion=microversion)

    def live_migrate(
        self, host: str | None = None, *, microversion: str = LATEST, force: bool = False
    ) -> Ended:
        """Ask for a live migration; return how it ended.

        :raises RefusedError: the API itself refuses
        """
        body: dict[str, Any] = {'host': host, 'block_migration': 'auto'}
        if force:
            body['force'] = True
        before = self._migrations()
        self.act('os-migrateLive', body, microversion=microversion)
        # Its event alone is not enough: Nova adds more of them meanwhile.
        wait_until(
            lambda: [one for one in self._migrations()[len(before) :] if one['status'] in _FINAL],
            f'the migration of {self.id} ended',
            TIMEOUT,
        )
        ended = self.last('live-migration')
        self.settled()
        if ended.succeeded and self.migration()['status'] != 'completed':
            # Nova's computes call such an event a success, and log nowhere why it was none.
            return replace(ended, result='Error')
        return ended

    def latest_request(self, action: str) -> str:
        path = f'/servers/{self.id}/os-instance-actions'
        actions = self.api.nova('GET', path)['instanceActions']
        return next(one['request_id'] for one in actions if one['action'] == action)

    def last(self, action: str) -> Ended:
        """Return how the latest action of that name ended; its first event that failed, if any."""
        path = f'/servers/{self.id}/os-instance-actions/{self.latest_request(action)}'
        events: list[dict[str, Any]] = []

        def has_ended() -> bool:
            events[:] = self.api.nova('GET', path)['instanceAction']['events']
            return bool(events) and all(event['result'] for event in events)

        wait_until(has_ended, f'{action} of {self.id} ended', TIMEOUT)
        events.sort(key=lambda event: event['start_time'])
        failed = [event for event in events if event['result'] != 'Success']
        event = failed[-1] if failed else events[-1]
        return Ended(event['event'], event['result'], (event.get('details') or '').strip())

    def migration(self) -> dict[str, Any]:
        return self._migrations()[-1]

    def _migrations(self) -> list[dict[str, Any]]:
        found = self.api.nova('GET', f'/os-migrations?instance_uuid={self.id}')['migrations']
        return sorted(found, key=lambda one: one['id'])

    def allocations(self) -> dict[str, dict[str, int]]:
        names = {
            one['uuid']: one['name']
            for one in self.api.placement('GET', '/resource_providers')['resource_providers']
        }
        held = self.api.placement('GET', f'/allocations/{self.id}')['allocations']
        return {names[uuid]: one['resources'] for uuid, one in held.items()}

    def delete(self) -> None:
        try:
            self.api.nova('DELETE', f'/servers/{self.id}')
            wait_until(self._gone, f'server {self.id} gone', TIMEOUT)
        except RefusedError as refused:
            if refused.status != 404:
                raise

    def _gone(self) -> bool:
        try:
            self.show()
        except RefusedError as refused:
            return refused.status == 404
        return False

# SPDX-License-Identifier: Apache-2.0
"""The agent of one host, and what it remembers between two passes."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from oslo_config import cfg
from oslo_log import log

from fbm_placement import constants, errors, model
from fbm_placement.agent import logs, messages, provider
from fbm_placement.agent.current import UNREADABLE, CurrentSettings
from fbm_placement.agent.reconcile import FULL_CHECK_SECONDS, PassResult, Reconciler
from fbm_placement.conf import reader
from fbm_placement.host import provider_config
from fbm_placement.host.observer import HostObserver
from fbm_placement.host.publisher import StatePublisher, running_agent
from fbm_placement.model import HostFacts
from fbm_placement.notices import Notices
from fbm_placement.placement import session
from fbm_placement.placement.client import PlacementClient
from fbm_placement.rules import draining
from fbm_placement.rules.publish import WITHDRAWN, target
from fbm_placement.text import count

LOG = log.getLogger(__name__)

_KEEPS_CONNECTION = (
    errors.ConflictError,
    errors.BadRequestError,
    errors.StopRequested,
    errors.SettingsChanged,
)


@dataclass
class Connection:
    """A client of Placement and what was found through it; replaced after a failure."""

    client: PlacementClient
    traits_created_at: float | None = None
    reconciler: Reconciler | None = None
    """None: this host's provider is yet to be found."""


class Agent:
    """Keeps one host's provider as its configuration says."""

    def __init__(  # noqa: PLR0913 - the last five are seams, each with a default
        self,
        conf: cfg.ConfigOpts,
        host_settings: model.Settings,
        options: model.AgentOptions,
        *,
        host: HostObserver | None = None,
        as_service: bool = False,
        wait: Callable[[float], object] = time.sleep,
        before_request: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the checked settings and options; no request is sent yet.

        :param conf: the files, for ``reload`` and for ``[placement]``
        :param as_service: it runs until stopped, so single passes leave the state file to it
        :param wait: waits between two tries of a pass
        :param before_request: called before each request; may raise StopRequested
        """
        self.options = options
        self.notices = Notices(clock)
        self._conf = conf
        self._current = CurrentSettings(conf, host_settings, self.notices)
        self._as_service = as_service
        if as_service:
            self._current.resume()
        self._host = host or HostObserver()
        self._publisher = StatePublisher(self.notices, os.getpid() if as_service else 0)
        self._wait = wait
        self._before_request = before_request
        self._clock = clock
        self._connection: Connection | None = None
        self._deleted: model.Provider | None = None
        """Until there is one again: why there is none was logged already."""

    def observe(self, *, publish: bool = True) -> HostFacts:
        """Observe guests and store; log and publish what was found, for libvirt's hook too."""
        view = self._host.observe(self._current.value, self.options)
        if publish:
            self._publisher.publish(view, self._current.value, self.options)
        return view.facts

    def reconcile(self, facts: HostFacts) -> PassResult:
        """Bring Placement to what it should be, and log what was changed.

        :raises SettingsChanged: nova.conf was edited, and nova-compute goes by it: begin again
        :raises NotReadyError: the provider or its inventory isn't there yet
        :raises PlacementError: Placement could not be asked, or refused
        :raises ConfigurationError: ``[placement]`` can't be used
        """
        with self._connected() as used:
            self._create_traits(used)
            checks = (self._current.check,) if self._as_service else ()
            goal = target(self._current.value, facts)
            result = self._reconciler(used).run_pass(goal, *checks)
        self._log(result)
        return result

    def dry_run(self, facts: HostFacts) -> PassResult:
        """Return what ``reconcile`` would do; write nothing. Raises what it raises."""
        with self._connected() as used:
            return self._reconciler(used).dry_run(target(self._current.value, facts))

    def withdraw(self) -> PassResult:
        """Remove the host's traits, then the state file; HostError: the service runs."""
        if (pid := running_agent()) is not None:
            raise errors.HostError(
                f'fbm-agent runs here as a service (process {pid}) and would set the traits again '
                'in its next pass: systemctl disable --now fbm-agent, then repeat this'
            )
        with self._connected() as used:
            result = self._reconciler(used).run_pass(WITHDRAWN)
        self._publisher.clear()
        self._log_left_behind()
        return result

    def leave(self) -> None:
        """Stop; if nova.conf was turned on or off, the hook no longer enforces the old state."""
        with contextlib.suppress(*UNREADABLE):
            if reader.read_settings_again(self._conf).enabled == self._current.value.enabled:
                return
        self._publisher.clear()

    def reload(self) -> None:
        """Read ``[file_backed_memory]`` and the logging options again; keep them if one is wrong.

        Nova's options stay as they were: nova-compute reads them once, at its start, and an agent
        that followed an edited file before that would overwrite its report again and again.
        """
        options, error = None, ''
        try:
            logs.reload(self._conf)
            options = reader.read_agent_options(self._conf)
        except UNREADABLE as exc:
            error = str(exc)
        # Not logged within the except clause: oslo.log would add the error a second time.
        if options is None:
            LOG.error('Configuration not reloaded, the previous one stays: %s', error)
            return
        if options.resource_provider != self.options.resource_provider:
            self._leave_provider()
        self.options = options
        LOG.info('Configuration reloaded: %s', options)
        self._current.log_edit()

    def status(self, result: PassResult, facts: HostFacts) -> str:
        parts = (messages.format_status(result, facts), self._publisher.error)
        return '; '.join(filter(None, parts))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Connect if needed; after a failure forget what may no longer be true."""
        used = self._connection or Connection(session.connect(self._conf, self._before_request))
        # A new connection asks the catalogue again: the endpoint may have moved.
        self._connection = None
        try:
            yield used
            self._connection = used
        except _KEEPS_CONNECTION:
            self._connection = used
            raise
        except errors.NotReadyError:
            self._connection = replace(used, reconciler=None)
            raise
        except errors.NotFoundError as exc:
            if used.reconciler is None:
                raise
            self._connection = replace(used, reconciler=None)
            # One that is created again under the same UUID is another provider.
            self.notices.replace('reached', None)
            self._deleted = used.reconciler.provider
            raise _deleted_error(self._deleted) from exc

    def _create_traits(self, used: Connection) -> None:
        """Create missing traits, now and then: one that no provider has can be deleted."""
        now, before = self._clock(), used.traits_created_at
        if before is None or now - before >= FULL_CHECK_SECONDS:
            used.client.create_missing_traits(constants.OWN_TRAITS)
            used.traits_created_at = now

    def _reconciler(self, used: Connection) -> Reconciler:
        if used.reconciler is None:
            lookup = provider.lookup_for(self.options.resource_provider, self._conf)
            try:
                found = provider.find_provider(used.client, lookup)
            except errors.NoProviderError as exc:
                raise exc if self._deleted is None else _deleted_error(self._deleted) from exc
            self._deleted = None
            if self.notices.replace('provider', (found, lookup)) != (found, lookup):
                LOG.info('Resource provider: %s (%s), found by %s', found.name, found.uuid, lookup)
                warning = provider.warning(found, self.options.resource_provider, self._conf)
                if warning is not None:
                    LOG.warning('%s', warning)
            used.reconciler = Reconciler(used.client, found, self._wait, self._clock)
        return used.reconciler

    def _leave_provider(self) -> None:
        # Not from the connection: in an outage there is none.
        left, _ = self.notices.replace('provider', None) or (None, None)
        self._deleted = None
        if left is None:
            return
        LOG.warning(
            'resource_provider changed: %s (%s) is left as it is; if it is not a file-backed '
            'memory host, remove its traits %s '
            '(openstack resource provider trait set, with all that stay)',
            left.name,
            left.uuid,
            ', '.join(sorted(constants.OWN_TRAITS)),
        )
        if self._connection is not None:
            self._connection = replace(self._connection, reconciler=None)

    def _log_left_behind(self) -> None:
        try:
            guests = self._host.guests(self._current.value.instance_name_template)
            left = draining.remaining_guests(False, guests)
        except errors.HostError:
            return
        if left:
            LOG.warning(
                '%s still file-backed here (%s): the scheduler now takes the host for one without '
                'file-backed memory, and live migrations from it fail; run fbm-agent again, and '
                'move the guests away before --withdraw',
                count(len(left), 'Nova guest is', 'Nova guests are'),
                ', '.join(str(guest) for guest in left[: draining.MOST_NAMED]),
            )

    def _log(self, result: PassResult) -> None:
        name, reached = result.provider.name, (result.provider.uuid, result.goal)
        before = self.notices.replace('reached', reached)
        if result.plan.steps and before != reached:
            LOG.info('%s: %s', name, messages.format_changes(result.plan))
        elif result.plan.steps:
            # It was there already, so another client has written since.
            times, due = self.notices.count('overwrite')
            if due:
                where = self._conf.compute.provider_config_location
                files = provider_config.naming_own_traits(where)
                LOG.warning('%s: %s', name, messages.format_overwrite(result, times, files))
            else:
                LOG.debug('%s: overwritten and restored, %d times so far', name, times)
        # Not again for each instance that leaves; after another edit it is another excess.
        excess = result.overcommitment
        offered = excess and (result.goal.inventory or constants.TRAIT_ENABLED)
        if offered == self.notices.replace('overcommitment', offered):
            return
        if excess is None:
            LOG.info('%s: no more is allocated than the host offers again', name)
        else:
            # A host that was turned off drains as planned.
            level = logging.ERROR if result.goal.inventory else logging.WARNING
            LOG.log(level, '%s: %s', name, excess)


def _deleted_error(gone: model.Provider) -> errors.NotReadyError:
    return errors.NotReadyError(
        f'{gone.name} ({gone.uuid}) was deleted from Placement; nova-compute creates it again '
        'when it next reports: is it running on this host?'
    )

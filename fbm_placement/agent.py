# SPDX-License-Identifier: Apache-2.0
"""The agent of one host, and what it remembers between two passes."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from oslo_config import cfg
from oslo_log import log

from fbm_placement import connection, errors, names, provider, report, settings
from fbm_placement.conf import reader
from fbm_placement.host import draining
from fbm_placement.host.announce import StatePublisher, running_agent
from fbm_placement.host.look import HostObserver
from fbm_placement.notices import Notices
from fbm_placement.placement import PlacementClient, Provider
from fbm_placement.plan import WITHDRAWN, HostFacts, Target, target
from fbm_placement.reconcile import FULL_CHECK_SECONDS, PassResult, Reconciler
from fbm_placement.words import count

LOG = log.getLogger(__name__)


@dataclass(frozen=True)
class Link:
    """How the agent reaches its provider; replaced whole, so nothing outlives its cause."""

    client: PlacementClient | None = None
    traits_ensured_at: float = -FULL_CHECK_SECONDS
    provider: Provider | None = None
    reconciler: Reconciler | None = None

    def after(self, exc: errors.PlacementError | errors.NotReadyError) -> 'Link':
        """Return what is still certain after a failed pass; the next pass finds the rest."""
        if isinstance(exc, (errors.ConflictError, errors.BadRequestError)):
            return self
        if isinstance(exc, errors.NotFoundError) and self.provider is not None:
            # One that is created again under the same UUID is another provider.
            return replace(self, provider=None, reconciler=None)
        if isinstance(exc, errors.NotReadyError):
            return replace(self, provider=None)
        # A new connection asks the catalogue again: the endpoint may have moved.
        return replace(self, client=None, traits_ensured_at=-FULL_CHECK_SECONDS)


class Agent:
    """Keeps one host's provider as its configuration says."""

    def __init__(  # noqa: PLR0913 - the last five are seams, each with a default
        self,
        conf: cfg.ConfigOpts,
        host_settings: settings.Settings,
        options: settings.AgentOptions,
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
        self._conf = conf
        self._settings = host_settings
        self.options = options
        self._wait = wait
        self._before_request = before_request
        self._clock = clock
        self.notices = Notices(clock)
        self._link = Link()
        self._host = host or HostObserver()
        self._publisher = StatePublisher(self.notices, os.getpid() if as_service else 0)

    def observe(self, *, publish: bool = True) -> HostFacts:
        """Observe guests and store; log and publish what was found, for libvirt's hook too."""
        view = self._host.observe(self._settings, self.options)
        if publish:
            self._publisher.publish(view, self._settings, self.options)
        return view.facts

    def reconcile(self, facts: HostFacts) -> PassResult:
        """Bring Placement to what it should be, and log what was changed.

        :raises NotReadyError: the provider or its inventory isn't there yet
        :raises PlacementError: Placement could not be asked, or refused
        :raises ConfigurationError: ``[placement]`` can't be used
        """
        with self._linked(create_traits=True) as (client, reconciler):
            result = reconciler.run_pass(client, self._goal(facts))
            if result.plan.waiting_for is not None:
                raise errors.NotReadyError(f'{result.provider.name}: {result.plan.waiting_for}')
        self._log(result)
        return result

    def dry_run(self, facts: HostFacts) -> PassResult:
        """Return what ``reconcile`` would do; write nothing. Raises what it raises."""
        with self._linked() as (client, reconciler):
            return reconciler.dry_run(client, self._goal(facts))

    def withdraw(self) -> PassResult:
        """Remove the host's traits, and then the state file: the hook no longer enforces.

        :raises HostError: the service runs, and would set the traits again

        Raises what ``reconcile`` raises, too.
        """
        if (pid := running_agent()) is not None:
            raise errors.HostError(
                f'fbm-agent runs here as a service (process {pid}) and would set the traits again '
                'in its next pass: systemctl disable --now fbm-agent, then repeat this'
            )
        with self._linked() as (client, reconciler):
            result = reconciler.run_pass(client, WITHDRAWN)
        self._publisher.clear()
        self._log_left_behind()
        return result

    def leave(self) -> None:
        """Stop; if nova.conf was turned on or off meanwhile, the hook no longer enforces.

        nova-compute starts guests by the new one before the next agent's first pass.
        """
        if self._state_on_disk() != self._settings.enabled:
            self._publisher.clear()

    def reload(self) -> None:
        """Read ``[file_backed_memory]`` and the logging options again; keep them if one is wrong.

        Nova's options stay as they were: nova-compute reads them once, at its start, and an agent
        that followed an edited file before that would overwrite its report again and again.
        """
        options, error = self._read_again()
        if options is None:
            LOG.error('Configuration not reloaded, the previous one stays: %s', error)
            return
        if options.resource_provider != self.options.resource_provider:
            self._leave_provider()
        self.options = options
        LOG.info('Configuration reloaded: %s', options)

    def status(self, result: PassResult, facts: HostFacts) -> str:
        """Return the state of host and provider in one line."""
        parts = (report.format_status(result, facts), self._publisher.error)
        return '; '.join(filter(None, parts))

    def _goal(self, facts: HostFacts) -> Target:
        return target(self._settings, facts)

    def _read_again(self) -> tuple[settings.AgentOptions | None, str]:
        try:
            self._conf.mutate_config_files()
            return reader.read_agent_options(self._conf), ''
        except (cfg.Error, errors.ConfigurationError, OSError, ValueError) as exc:
            return None, str(exc)
        except SystemExit:
            # oslo.config lets argparse check the options that are flags too: those of logging.
            return None, 'a logging option is wrong, see stderr'

    def _state_on_disk(self) -> bool | None:
        try:
            self._conf.reload_config_files()
            return reader.read_settings(self._conf).enabled
        except (cfg.Error, errors.ConfigurationError, OSError, ValueError, SystemExit):
            return None

    @contextlib.contextmanager
    def _linked(
        self, *, create_traits: bool = False
    ) -> Iterator[tuple[PlacementClient, Reconciler]]:
        """Connect and find the provider as far as needed; drop what a failure made uncertain.

        :param create_traits: create those that don't exist, at first and then now and then: one
            that no provider has can be deleted, and a pre-filter that names it stops every boot
        """
        try:
            client = self._connected()
            if create_traits and self._traits_are_due():
                client.create_missing_traits(names.OWN_TRAITS)
                self._link = replace(self._link, traits_ensured_at=self._clock())
            yield client, self._found(client)
        except (errors.PlacementError, errors.NotReadyError) as exc:
            before, self._link = self._link, self._link.after(exc)
            if isinstance(exc, errors.NotFoundError):
                raise _not_found(exc, before.provider) from exc
            raise

    def _connected(self) -> PlacementClient:
        client = self._link.client or connection.connect(self._conf, self._before_request)
        self._link = replace(self._link, client=client)
        return client

    def _traits_are_due(self) -> bool:
        return self._clock() - self._link.traits_ensured_at >= FULL_CHECK_SECONDS

    def _found(self, client: PlacementClient) -> Reconciler:
        found, reconciler = self._link.provider, self._link.reconciler
        if found is None or reconciler is None:
            lookup = provider.lookup_for(self.options.resource_provider, self._conf)
            found = provider.find_provider(client, lookup)
            self._log_provider(found, lookup)
            if reconciler is None or reconciler.provider != found:
                reconciler = Reconciler(found, self._wait, self._clock)
            self._link = replace(self._link, provider=found, reconciler=reconciler)
        return reconciler

    def _leave_provider(self) -> None:
        left = self._link.provider
        if left is not None:
            LOG.warning(
                'resource_provider changed: %s (%s) is left as it is; if it is not a '
                'file-backed memory host, remove its traits %s '
                '(openstack resource provider trait set, with all that stay)',
                left.name,
                left.uuid,
                ', '.join(sorted(names.OWN_TRAITS)),
            )
        self._link = replace(self._link, provider=None)

    def _log_provider(self, found: Provider, lookup: provider.Lookup) -> None:
        if self.notices.replace('provider', (found, lookup)) != (found, lookup):
            LOG.info('Resource provider: %s (%s), found by %s', found.name, found.uuid, lookup)
            warning = provider.warning(found, self.options.resource_provider, self._conf)
            if warning is not None:
                LOG.warning('%s', warning)

    def _log_left_behind(self) -> None:
        try:
            left = draining.remaining_guests(False, self._host.guests())
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
        name = result.provider.name
        if result.plan.steps and not result.overwritten:
            LOG.info('%s: %s', name, report.format_changes(result.plan))
        elif result.plan.steps:
            times, due = self.notices.count('overwrite')
            if due:
                LOG.warning('%s: %s', name, report.format_overwrite(result, times))
            else:
                LOG.debug('%s: overwritten and restored, %d times so far', name, times)
        excess = result.overcommitment
        if excess != self.notices.replace('overcommitment', excess):
            if excess is None:
                LOG.info('%s: no more is allocated than the host offers again', name)
            else:
                LOG.error('%s: %s', name, excess)


def _not_found(exc: errors.NotFoundError, gone: Provider | None) -> errors.FileBackedMemoryError:
    if gone is None:
        return errors.PlacementError(
            f"{exc}; this is not Placement's root: check [placement]endpoint_override, or "
            'the catalogue (openstack catalog list)'
        )
    return errors.NotReadyError(
        f'{gone.name} was deleted from Placement ({exc}); nova-compute creates it again when it '
        'next reports'
    )

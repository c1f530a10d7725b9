# SPDX-License-Identifier: Apache-2.0
"""The agent of one host: what it knows between two passes, and what it tells of each."""

import os
import time
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from fbm_placement import connection, errors, names, provider, report, settings
from fbm_placement.conf import reader
from fbm_placement.host import draining
from fbm_placement.host.announce import StatePublisher, running_agent
from fbm_placement.host.look import HostObserver, HostView
from fbm_placement.notices import Notices
from fbm_placement.placement import PlacementClient, Provider
from fbm_placement.plan import WITHDRAWN, HostFacts, Target, overcommitment, target
from fbm_placement.quarrel import Quarrel
from fbm_placement.reconcile import FULL_LOOK_SECONDS, Outcome, Reconciler
from fbm_placement.words import count

LOG = log.getLogger(__name__)

_CONNECTION_HOLDS = (errors.ConflictError, errors.BadRequestError, errors.NotFoundError)


class Agent:
    """Keeps one host's provider as its configuration says."""

    def __init__(  # noqa: PLR0913 - the last four are seams, each with a default
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
        """Take the checked settings and options; nothing is asked of anybody yet.

        :param conf: the files, for ``reload`` and for what ``[placement]`` says
        :param host: looks at guests and store
        :param as_service: it goes on looking, so others leave the state file to it
        :param wait: waits between two tries of a pass
        :param before_request: called before each request; may raise StopRequested
        """
        self._conf = conf
        self._settings = host_settings
        self.options = options
        self._wait = wait
        self._before_request = before_request
        self._placement: PlacementClient | None = None
        self._provider: Provider | None = None
        self._reconciler: Reconciler | None = None
        self._traits_ensured_at: float | None = None
        self._clock = clock
        self._host = host or HostObserver()
        self.facts = HostFacts()
        """What the last look at the host found."""
        self._publisher = StatePublisher(Notices(clock), os.getpid() if as_service else 0)
        self._quarrel = Quarrel(clock)
        self._told_provider: tuple[Provider, provider.Lookup] | None = None
        self._told_overcommitment: str | None = None

    def run_pass(self) -> Outcome:
        """Look at the host, make Placement say what it should, and log what that took.

        What the host is like is told to libvirt's hook also where Placement is away.

        :raises NotReadyError: the provider or its inventory isn't there yet
        :raises PlacementError: Placement could not be asked, or refused
        :raises ConfigurationError: ``[placement]`` can't be used
        """

        def run(placement: PlacementClient) -> Outcome:
            self._ensure_traits(placement)
            outcome = self._reconciler_for(placement).run_pass(placement, self._goal())
            if outcome.plan.waiting_for is not None:
                raise errors.NotReadyError(f'{self.provider.name}: {outcome.plan.waiting_for}')
            self._tell(outcome)
            return outcome

        self._publisher.publish(self.look_at_host(), self._settings, self.options)
        return self._remembering(run)

    def look_at_host(self) -> HostView:
        """Look at the guests and the store; ``look`` and ``status`` go by what was found."""
        view = self._host.observe(self._settings, self.options)
        self.facts = view.facts
        return view

    def withdraw(self) -> Outcome:
        """Take the host's traits back, and then the hook's opinion.

        :raises HostError: the service runs, and would set them again

        Raises what ``run_pass`` raises, too.
        """
        if (pid := running_agent()) is not None:
            raise errors.HostError(
                f'fbm-agent runs here as a service (process {pid}) and would set the traits again '
                'at its next look: systemctl disable --now fbm-agent, then again'
            )
        outcome = self._remembering(
            lambda placement: self._reconciler_for(placement).run_pass(placement, WITHDRAWN)
        )
        self._publisher.clear()
        self._tell_left_behind()
        return outcome

    def _tell_left_behind(self) -> None:
        try:
            left = draining.remaining_guests(False, self._host.guests())
        except errors.HostError:
            return
        if left:
            LOG.warning(
                '%s of Nova still file-backed here (%s): the scheduler takes it for one in DRAM '
                'now, and its live migration fails; run fbm-agent again, and move guests away '
                'before it is withdrawn',
                count(len(left), 'guest is', 'guests are'),
                ', '.join(str(guest) for guest in left[: draining.MOST_NAMED]),
            )

    def leave(self) -> None:
        """End; where nova.conf was changed meanwhile, without an opinion left for the hook.

        nova-compute starts guests by the new one before the next agent has looked.
        """
        if self._state_on_disk() != self._settings.enabled:
            self._publisher.clear()

    def _state_on_disk(self) -> bool | None:
        try:
            self._conf.reload_config_files()
            return reader.read_settings(self._conf).enabled
        except (cfg.Error, errors.ConfigurationError, OSError, ValueError, SystemExit):
            return None

    def look(self) -> Outcome:
        """Tell what ``run_pass`` would do after the last look at the host; write nothing.

        Raises what ``run_pass`` raises.
        """
        return self._remembering(
            lambda placement: self._reconciler_for(placement).look(placement, self._goal())
        )

    @property
    def provider(self) -> Provider:
        """The provider that the last pass worked on.

        :raises NotReadyError: there was none
        """
        if self._provider is None:
            raise errors.NotReadyError('no resource provider has been found yet')
        return self._provider

    def reload(self) -> None:
        """Read ``[file_backed_memory]`` and the logging options again; a wrong value stops that.

        Nova's options stay as they were: nova-compute reads them once, at its start, and an agent
        that follows an edited file before that fights it.
        """
        options, trouble = self._read_again()
        if options is None:
            LOG.error('Configuration not read again, the old one stays: %s', trouble)
            return
        if options.resource_provider != self.options.resource_provider:
            self._leave_provider()
        self.options = options
        LOG.info('Configuration read again: %s', options)

    def _read_again(self) -> tuple[settings.AgentOptions | None, str]:
        try:
            self._conf.mutate_config_files()
            return reader.read_agent_options(self._conf), ''
        except (cfg.Error, errors.ConfigurationError, OSError, ValueError) as exc:
            return None, str(exc)
        except SystemExit:
            # oslo.config lets argparse check the options that are flags too: those of logging.
            return None, 'a logging option is wrong, stderr tells which'

    def _goal(self) -> Target:
        return target(self._settings, self.facts)

    def status(self, outcome: Outcome) -> str:
        """Tell in one line how things are."""
        told = report.status(outcome, self.provider, self.facts)
        return f'{told}; {self._publisher.error}' if self._publisher.error else told

    def _remembering(self, work: Callable[[PlacementClient], Outcome]) -> Outcome:
        """Forget after a failure what it has made doubtful: the next pass finds it anew."""
        try:
            return work(self._connected())
        except errors.NotFoundError as exc:
            gone, self._provider = self._provider, None
            if gone is None:
                self._placement = None
                raise errors.PlacementError(
                    f"{exc}; this is not Placement's root: check [placement]endpoint_override, or "
                    'the catalogue (openstack catalog list)'
                ) from exc
            # One that is made again under the same UUID is another provider.
            self._reconciler = None
            raise errors.NotReadyError(
                f'{gone.name} has gone from Placement ({exc}); '
                'nova-compute creates it again when it next reports'
            ) from exc
        except errors.NotReadyError:
            self._provider = None
            raise
        except errors.PlacementError as exc:
            # A new connection asks the catalogue again: the endpoint may have moved.
            if not isinstance(exc, _CONNECTION_HOLDS):
                self._placement = None
                self._traits_ensured_at = None
            raise

    def _ensure_traits(self, placement: PlacementClient) -> None:
        """Create what is missing of the traits, at first and then now and then.

        A pre-filter that names one that doesn't exist stops every boot in the cloud, and one that
        no host has can be deleted at any time.
        """
        ensured_at = self._traits_ensured_at
        if ensured_at is None or self._clock() - ensured_at >= FULL_LOOK_SECONDS:
            placement.create_missing_traits(names.OWN_TRAITS)
            self._traits_ensured_at = self._clock()

    def _connected(self) -> PlacementClient:
        if self._placement is None:
            self._placement = connection.connect(self._conf, self._before_request)
        return self._placement

    def _reconciler_for(self, placement: PlacementClient) -> Reconciler:
        if self._provider is None or self._reconciler is None:
            lookup = provider.lookup_for(self.options.resource_provider, self._conf)
            found = provider.find_provider(placement, lookup)
            if (found, lookup) != self._told_provider:
                LOG.info('Resource provider: %s (%s), found by %s', found.name, found.uuid, lookup)
                doubt = provider.doubt(found, self.options.resource_provider, self._conf)
                if doubt is not None:
                    LOG.warning('%s', doubt)
                self._told_provider = (found, lookup)
            self._provider = found
            if self._reconciler is None or self._reconciler.uuid != found.uuid:
                self._reconciler = Reconciler(found.uuid, self._wait, self._clock)
        return self._reconciler

    def _leave_provider(self) -> None:
        if self._provider is not None:
            LOG.warning(
                'resource_provider changed: %s (%s) is left as it is; if it is not a '
                'file-backed memory host, take its traits %s away by hand '
                '(openstack resource provider trait set, with all that stay)',
                self._provider.name,
                self._provider.uuid,
                ', '.join(sorted(names.OWN_TRAITS)),
            )
        self._provider = None

    def _tell(self, outcome: Outcome) -> None:
        name = self.provider.name
        if outcome.plan.steps:
            self._tell_change(outcome)
        excess = overcommitment(outcome.goal, outcome.seen)
        if excess != self._told_overcommitment:
            if excess is None:
                LOG.info('%s: no more is allocated than the host offers again', name)
            else:
                LOG.error('%s: %s', name, excess)
            self._told_overcommitment = excess

    def _tell_change(self, outcome: Outcome) -> None:
        name = self.provider.name
        if not outcome.overwritten:
            LOG.info('%s: %s', name, report.changes(outcome.plan))
            return
        times, tell = self._quarrel.count()
        if tell:
            LOG.warning('%s: %s', name, report.overwrite(outcome, times))
        else:
            LOG.debug('%s: overwritten and put back, %d times so far', name, times)

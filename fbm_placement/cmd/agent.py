# SPDX-License-Identifier: Apache-2.0
"""``fbm-agent``: the command line, and what its exit codes mean."""

import signal
import sys
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log

import fbm_placement
from fbm_placement import conf as configuration
from fbm_placement import errors
from fbm_placement.agent import logs, messages
from fbm_placement.agent.agent import Agent
from fbm_placement.agent.loop import Loop
from fbm_placement.agent.signals import Signals
from fbm_placement.agent.systemd import Notifier
from fbm_placement.cmd import exit_codes
from fbm_placement.conf import COMMAND_LINE_ONLY, reader
from fbm_placement.host.publisher import running_agent
from fbm_placement.model import DISABLED, AgentOptions, Settings
from fbm_placement.placement import session
from fbm_placement.rules import config

LOG = log.getLogger(__name__)

PROG = 'fbm-agent'

DESCRIPTION = (
    "Keeps Placement true about this compute host's file-backed memory: the MEMORY_MB inventory "
    "of the host's resource provider has what [libvirt]file_backed_memory offers, with "
    "allocation_ratio 1.0, and traits show the host's state. Without --once, --dry-run or "
    '--withdraw it runs until it is stopped.'
)
EPILOG = (
    'It reads the files that nova-compute reads; give it the same --config-file arguments. '
    'To see whether file-backed memory can be turned on here: fbm-agent --dry-run. '
    'Exit codes of --once, --dry-run and --withdraw: 0 Placement is as it should be; 1 it is not, '
    'the reason is on stderr; 2 the configuration forbids to run, every reason is on stderr. '
    'SIGHUP reads [file_backed_memory] and the logging options again.'
)

_WITHDRAW = (
    "Remove this host's traits, leave the inventory to nova-compute, and end. For uninstalling: "
    'stop the service first, or it sets them again.'
)
SWITCHES = {
    'once': 'Make one pass and end. For cron and for tests.',
    'dry-run': 'Print what Placement has and should have, write nothing, and end.',
    'withdraw': _WITHDRAW,
}
CLI_OPTS = tuple(
    cfg.BoolOpt(name, dest=f'{COMMAND_LINE_ONLY}{name}', default=False, help=text)
    for name, text in SWITCHES.items()
)


def main(args: Sequence[str] | None = None) -> int:
    # A SIGHUP before the loop listens would end the service; it waits, as it does in the loop.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        return exit_codes.run(PROG, lambda: _run(sys.argv[1:] if args is None else args))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(args: Sequence[str]) -> int:
    conf = configuration.load(
        args, prog=PROG, description=DESCRIPTION, epilog=EPILOG, cli_opts=CLI_OPTS
    )
    chosen = [name for name in SWITCHES if conf[f'{COMMAND_LINE_ONLY}{name}']]
    # A dry run is one pass, so --once adds nothing to it.
    if 'withdraw' in chosen[1:]:
        raise errors.ConfigurationError(
            [f'--{chosen[0]} and --withdraw exclude each other; see {PROG} --help']
        )
    if chosen:
        logs.to_stderr(conf, PROG)
    else:
        logs.as_a_service(conf, PROG)
    if chosen == ['withdraw']:
        # A configuration that forbids to run must not forbid to uninstall.
        options = reader.read_agent_options(conf, needed=('resource_provider',))
        agent = Agent(conf, DISABLED, options)
        exit_codes.show(messages.format_withdrawn(agent.withdraw()), sys.stdout)
        return exit_codes.GOOD
    settings, options = reader.read_all(conf)
    # It raises what is wrong in [placement] before anything is written.
    session.connect(conf)
    for warning in config.warnings(settings):
        LOG.warning('%s', warning)
    if chosen:
        return _once(Agent(conf, settings, options), dry='dry-run' in chosen)
    return _serve(conf, settings, options)


def _once(agent: Agent, *, dry: bool) -> int:
    facts = agent.observe(publish=not dry)
    if not dry:
        exit_codes.show(messages.format_once(agent.reconcile(facts), facts), sys.stdout)
        return exit_codes.GOOD
    # Before Placement is asked, which may be away.
    for problem in facts.unhealthy:
        exit_codes.show(f'This host takes no new instance: {problem}', sys.stdout)
    result = agent.dry_run(facts)
    exit_codes.show(messages.format_dry_run(result, facts), sys.stdout)
    if not result.plan.differences:
        return exit_codes.GOOD
    exit_codes.show(
        f'{PROG}: dry run, nothing was written; {PROG} --once, or the service, would set this',
        sys.stderr,
    )
    return exit_codes.NOT_GOOD


def _serve(conf: cfg.ConfigOpts, settings: Settings, options: AgentOptions) -> int:
    if (pid := running_agent()) is not None:
        LOG.warning('fbm-agent runs here already (process %d): stop one of the two', pid)
    notifier = Notifier()
    with Signals() as signals:

        def check_stop() -> None:
            notifier.alive()
            if signals.stop:
                raise errors.StopRequested

        agent = Agent(
            conf, settings, options, as_service=True, wait=signals.wait, before_request=check_stop
        )
        LOG.info(
            '%s %s: file-backed memory %s; a pass every %d s; configured by %s',
            PROG,
            fbm_placement.version(),
            settings,
            options.interval,
            ', '.join([*conf.config_file, *conf.config_dir]),
        )
        Loop(agent, signals, notifier).run()
    return exit_codes.GOOD

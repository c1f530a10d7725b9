# SPDX-License-Identifier: Apache-2.0
"""Where the agent logs to. nova.conf's logging is for Nova: it must never stop the agent."""

import logging
import sys
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log

from fbm_placement import errors
from fbm_placement.text import one_line, without_userinfo

LOG = log.getLogger(__name__)


class _NoUserinfo(logging.Filter):
    """Removes user names and passwords from URLs; keystoneauth hides all other secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if '@' in text:
            record.msg, record.args = without_userinfo(text), None
        return True


def to_stderr(conf: cfg.ConfigOpts, prog: str) -> None:
    """Log warnings to stderr: in log_dir root would leave a file that nova can't write."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if conf.debug else logging.WARNING,
        format=f'{prog}: %(levelname)s: %(message)s',
        force=True,  # oslo.log has put a handler of its own there
    )
    _harden()


def as_a_service(conf: cfg.ConfigOpts, prog: str, args: Sequence[str] = ()) -> None:
    """Log as nova.conf says, and to stderr (systemd's journal) where that can't be done.

    :param args: the command line; only there can a ``log_file`` be meant for the agent
    :raises ConfigurationError: ``log_config_append`` can't be used
    """
    warnings = []
    if conf.log_file and not any(arg.startswith(('--log-file', '--logfile')) for arg in args):
        warnings.append(f'log_file = {conf.log_file} is left to nova-compute; --log-file sets one')
        conf.set_override('log_file', None)
    try:
        log.setup(conf, prog)
    except log.LogConfigError as exc:
        raise errors.ConfigurationError([f'logging: {one_line(exc)}']) from exc
    except (OSError, RuntimeError) as exc:
        # A full disk, a directory of another user, use_journal without systemd-python.
        warnings.append(f'{one_line(exc)}; logging to stderr instead')
        overrides = {'log_file': None, 'log_dir': None, 'use_journal': False, 'use_stderr': True}
        for option, value in overrides.items():
            conf.set_override(option, value)
        log.setup(conf, prog)
    _harden()
    for warning in warnings:
        LOG.warning('Logging: %s', warning)


def _harden() -> None:
    # A full disk must not fill stderr with a traceback for each line.
    logging.raiseExceptions = False
    # It warns at each try of what the agent logs itself.
    logging.getLogger('keystoneauth.identity').setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_NoUserinfo())

# SPDX-License-Identifier: Apache-2.0
"""Where the agent logs to. nova.conf's logging is meant for Nova: it must never stop the agent."""

import logging
import sys
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log

from fbm_placement import errors, words

LOG = log.getLogger(__name__)


class _NoUserinfo(logging.Filter):
    """Takes user names and passwords out of URLs; keystoneauth hides all other secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if '@' in text:
            record.msg, record.args = words.without_userinfo(text), None
        return True


def to_stderr(conf: cfg.ConfigOpts, prog: str) -> None:
    """Log what a person at a terminal wants to know.

    Not into nova.conf's log_dir: run by root it would leave a file there that the service, which
    runs as nova, can't write.
    """
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
    notes = []
    if conf.log_file and not any(arg.startswith(('--log-file', '--logfile')) for arg in args):
        notes.append(f'log_file = {conf.log_file} is left to nova-compute; --log-file sets one')
        conf.set_override('log_file', None)
    try:
        log.setup(conf, prog)
    except log.LogConfigError as exc:
        raise errors.ConfigurationError([f'logging: {words.one_line(exc)}']) from exc
    except (OSError, RuntimeError) as exc:
        # A full disk, a directory of somebody else's, use_journal without systemd-python.
        notes.append(f'{words.one_line(exc)}; logging to stderr instead')
        for option in ('log_file', 'log_dir'):
            conf.set_override(option, None)
        conf.set_override('use_journal', False)
        conf.set_override('use_stderr', True)
        log.setup(conf, prog)
    _harden()
    for note in notes:
        LOG.warning('Logging: %s', note)


def _harden() -> None:
    # A full disk must not fill stderr with a traceback for each line.
    logging.raiseExceptions = False
    # Its warning comes at every try; what it is about is told in our own words.
    logging.getLogger('keystoneauth.identity').setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_NoUserinfo())

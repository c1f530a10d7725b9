# SPDX-License-Identifier: Apache-2.0
"""Where the agent logs to. nova.conf's logging is for Nova: it must not stop or mute the agent."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from oslo_config import cfg
from oslo_log import _options as oslo_options  # what its entry point shows to the generator
from oslo_log import handlers, log, rate_limit

from fbm_placement.conf import COMMAND_LINE_ONLY
from fbm_placement.notices import is_written
from fbm_placement.text import config_error_text, one_line, without_userinfo

LOG = log.getLogger(__name__)

PACKAGE = 'fbm_placement'


class _NoUserinfo(logging.Filter):
    """Removes user names and passwords from URLs; keystoneauth hides all other secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if '@' in text:
            record.msg, record.args = without_userinfo(text), None
        return True


class _JournalFormatter(logging.Formatter):
    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return _with_priority(self._formatter.format(record), record.levelname)


_NO_USERINFO = _NoUserinfo()


def to_stderr(conf: cfg.ConfigOpts | None, prog: str) -> None:
    """Log warnings to stderr: before nova.conf is read, and for a command that an operator runs.

    Not into nova.conf's log_dir: root would leave a file there that the service, which runs as
    nova, can't write.
    """
    debug, wrong = False, ''
    try:
        debug = conf is not None and conf.debug
    except cfg.Error as exc:
        wrong = _wrong('debug', exc)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.WARNING,
        format=f'{prog}: %(levelname)s: %(message)s',
        force=True,
    )
    _finish(wrong)


def as_a_service(conf: cfg.ConfigOpts, prog: str) -> None:
    """Log as nova.conf says, and to stderr (systemd's journal) where an option there is wrong."""
    left, wrong = None, ''
    try:
        # Only on the command line can one be meant for the agent.
        if conf.log_file and not conf[f'{COMMAND_LINE_ONLY}log_file']:
            left = conf.log_file
            conf.set_override('log_file', None)
        _set_up(conf, prog)
    except Exception as exc:  # noqa: BLE001 - a handler that the options name raises anything
        wrong = _wrong_options(conf, prog, exc)
    if wrong:
        _fall_back(conf, prog)
    _finish(wrong)
    if left:
        LOG.warning('Logging: log_file = %s is left to nova-compute; --log-file sets one', left)


def reload(conf: cfg.ConfigOpts) -> None:
    """Read the files again, and let oslo.log adapt; the agent stays heard.

    :raises Exception: what ``conf.mutate_config_files`` raises; logging is as before then
    """
    wrong = ''
    try:
        conf.mutate_config_files()
        _check_written()
    except Exception as exc:
        # oslo.log takes all handlers away before it reads a changed log_config_append.
        if is_written(PACKAGE, logging.ERROR):
            raise
        wrong = _wrong('log_config_append', exc)
        _fall_back(conf, conf.prog)
    _finish(wrong)


def for_stream(text: str, stream: object, level: str) -> str:
    """Return the text with its level before each line, if systemd's journal reads the stream."""
    return _with_priority(text, level) if _is_journal(stream) else text


def _with_priority(text: str, level: str) -> str:
    # See sd-daemon(3); without it each line has the priority "info".
    priority = f'<{handlers.SYSLOG_MAP.get(level, 7)}>'
    return priority + text.replace('\n', f'\n{priority}')


def _is_journal(stream: object) -> bool:
    """Return whether it is the one that JOURNAL_STREAM of systemd.exec(5) names."""
    try:
        status = os.fstat(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
    return os.environ.get('JOURNAL_STREAM') == f'{status.st_dev}:{status.st_ino}'


def _loggers() -> Iterator[logging.Logger]:
    yield logging.getLogger()
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


def _set_up(conf: cfg.ConfigOpts, prog: str) -> None:
    """Do what oslo.log does at a start, whatever an earlier try has left."""
    rate_limit.uninstall_filter()
    for logger in _loggers():
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.propagate, logger.disabled = [], True, False
        logger.setLevel(logging.NOTSET)
    log.setup(conf, prog)
    _check_written()


def _check_written() -> None:
    if not is_written(PACKAGE, logging.ERROR):
        raise ValueError(
            f'not even errors of the logger {PACKAGE} would be written: give it, or the root '
            'logger, a handler that writes them'
        )


def _options(conf: cfg.ConfigOpts) -> list[cfg.Opt]:
    return [opt for _, opts in oslo_options.list_opts() for opt in opts if opt.dest in conf]


def _wrong(option: str, exc: Exception) -> str:
    return f'[DEFAULT]{option}: {config_error_text(exc, with_option=False)}'


def _wrong_options(conf: cfg.ConfigOpts, prog: str, exc: Exception) -> str:
    """Return which options are wrong and why: those with which the set-up fails.

    They are added to the defaults one by one, because few of the errors name the option.
    """
    with contextlib.suppress(cfg.Error):
        if conf.log_config_append:  # oslo.log reads no other option then
            return _wrong('log_config_append', exc)
    options, values, reasons = _options(conf), {}, []
    for opt in options:
        try:
            values[opt.dest] = conf[opt.dest]
        except cfg.Error as one:
            reasons.append(_wrong(opt.dest, one))
        conf.set_override(opt.dest, opt.default)
    # A relative log_file is opened below log_dir.
    for opt in sorted(options, key=lambda opt: opt.dest == 'log_file'):
        conf.set_override(opt.dest, values.get(opt.dest, opt.default))
        try:
            _set_up(conf, prog)
        except Exception as one:  # noqa: BLE001 - as above
            reasons.append(_wrong(opt.dest, one))
            conf.set_override(opt.dest, opt.default)
    return '; '.join(reasons) or one_line(exc)


def _fall_back(conf: cfg.ConfigOpts, prog: str) -> None:
    debug = False
    with contextlib.suppress(cfg.Error):
        debug = conf.debug
    for opt in _options(conf):
        conf.set_override(opt.dest, opt.default)
    conf.set_override('debug', debug)
    conf.set_override('use_stderr', True)
    _set_up(conf, prog)


def _finish(wrong: str) -> None:
    """Make the handlers safe and fit for the journal, and log what is wrong."""
    # A full disk must not fill stderr with a traceback for each line.
    logging.raiseExceptions = False
    # It warns at each try of what the agent logs itself.
    logging.getLogger('keystoneauth.identity').setLevel(logging.ERROR)
    _drop_duplicates(logging.getLogger())
    for logger in _loggers():
        for handler in logger.handlers:
            handler.addFilter(_NO_USERINFO)
            in_journal = _is_journal(getattr(handler, 'stream', None))
            if in_journal and not isinstance(handler.formatter, _JournalFormatter):
                handler.setFormatter(_JournalFormatter(handler.formatter))
    if wrong:
        LOG.warning('Logging: %s; logging to stderr instead', wrong)


def _drop_duplicates(root: logging.Logger) -> None:
    """Leave one way into the journal: it reads stderr, and what goes to syslog, too."""
    kinds = {type(handler) for handler in root.handlers}
    for handler in list(root.handlers):
        if isinstance(handler, handlers.OSSysLogHandler):
            twice = handlers.OSJournalHandler in kinds
        else:
            twice = bool(kinds & {handlers.OSJournalHandler, handlers.OSSysLogHandler})
            twice &= _is_journal(getattr(handler, 'stream', None))
        if twice:
            root.removeHandler(handler)

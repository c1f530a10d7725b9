# SPDX-License-Identifier: Apache-2.0
"""Configuration: the files that nova-compute reads, and the options that are read from them."""

import contextlib
import copy
import logging
import os
from collections.abc import Callable, Iterator, Sequence

from keystoneauth1 import loading
from oslo_config import cfg
from oslo_log import _options as oslo_options  # what its entry point shows to the generator
from oslo_log import log

import fbm_placement
from fbm_placement import errors
from fbm_placement.conf import file_backed_memory, nova
from fbm_placement.text import config_error_text, one_line

COMMAND_LINE_ONLY = '#'
"""Begins the ``dest`` of an option that no file can set: there it would begin a comment."""


class Config(cfg.ConfigOpts):
    """nova.conf, with what is wrong in it but must not stop every command."""

    def __init__(self) -> None:
        super().__init__()
        self.source_errors: list[str] = []
        """Of each ``config_source`` that could not be read."""


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return this project's own options, for oslo-config-generator and the docs."""
    return [(file_backed_memory.GROUP, list(file_backed_memory.AGENT_OPTS))]


def load(  # noqa: PLR0913 - by name, and most have a default
    args: Sequence[str],
    *,
    prog: str,
    description: str,
    epilog: str | None = None,
    cli_opts: Sequence[cfg.Opt] = (),
    needs_files: Callable[[cfg.ConfigOpts], bool] = lambda _: True,
) -> Config:
    """Parse the command line and exactly the files that nova-compute would read with it.

    :param needs_files: whether this command line needs a file
    :raises ConfigurationError: no file was found, or one can't be read or parsed
    :raises SystemExit: argparse ended the program (``--help``, an unknown flag)
    """
    conf = Config()
    flags = _register_logging(conf)
    nova.register_opts(conf)
    conf.register_opts(file_backed_memory.AGENT_OPTS, group=file_backed_memory.GROUP)
    conf.register_cli_opts([*cli_opts, *flags])
    try:
        with _source_errors(conf.source_errors), _home_of_nova():
            conf(
                args=list(args),
                project='nova',
                prog=prog,
                version=fbm_placement.version(),
                description=description,
                epilog=epilog,
                default_config_files=cfg.find_config_files('nova', 'nova-compute'),
                default_config_dirs=cfg.find_config_dirs('nova', 'nova-compute'),
            )
        _override(conf, flags)
        # Only now: keystoneauth reads auth_section from the files while it registers auth_type.
        loading.register_auth_conf_options(conf, 'placement')
    except (cfg.Error, OSError, UnicodeError) as exc:
        raise errors.ConfigurationError([_reason(exc, args)]) from exc
    if not conf.config_file and not conf.config_dir and needs_files(conf):
        raise errors.ConfigurationError([_nothing_found()])
    return conf


@contextlib.contextmanager
def _home_of_nova() -> Iterator[None]:
    """Let root find what the agent finds as user nova: root's home may have an old copy of it."""
    root, found = os.path.expanduser('~root'), os.path.expanduser('~nova')
    replaced = os.environ.get('HOME') == root and found != '~nova'
    if replaced:
        os.environ['HOME'] = found
    try:
        yield
    finally:
        if replaced:
            os.environ['HOME'] = root


def _register_logging(conf: Config) -> list[cfg.Opt]:
    """Register oslo.log's options, and their flags apart from them; return the flags.

    oslo.config checks flags while it parses, in the files too, and a wrong value ends the program.
    """
    log.register_options(conf)
    flags = []
    for opt in (*oslo_options.common_cli_opts, *oslo_options.logging_cli_opts):
        conf.unregister_opt(opt)
        conf.register_opt(opt)
        flag = copy.copy(opt)
        flag.dest, flag.default = f'{COMMAND_LINE_ONLY}{opt.dest}', None
        flag.metavar = opt.metavar or opt.dest.upper()
        flags.append(flag)
    return flags


def _override(conf: Config, flags: Sequence[cfg.Opt]) -> None:
    for flag in flags:
        if conf[flag.dest] is not None:
            conf.set_override(flag.dest.removeprefix(COMMAND_LINE_ONLY), conf[flag.dest])


@contextlib.contextmanager
def _source_errors(found: list[str]) -> Iterator[None]:
    """Collect what oslo.config only logs: that a ``config_source`` can't be read."""

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno == logging.ERROR:
            found.append(
                f'[DEFAULT]config_source: {config_error_text(record.getMessage())}; fix it, or '
                "install nova-compute's driver for it in this environment too"
            )
        return record.levelno != logging.ERROR

    logger = logging.getLogger('oslo_config.cfg')
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _nothing_found() -> str:
    with _home_of_nova():
        home = os.path.expanduser('~')
    return (
        'no configuration: expected nova.conf, nova-compute.conf or nova.conf.d, as nova-compute '
        f'reads them, in {home}/.nova, {home}, /etc/nova or /etc; name the files that '
        'nova-compute is started with: --config-file PATH (before any command)'
    )


def _reason(exc: Exception, args: Sequence[str]) -> str:
    if isinstance(exc, cfg.ConfigFilesPermissionDeniedError):
        return (
            f'{one_line(exc)}: permission denied; run it as root, or as nova-compute does (nova)'
        )
    if isinstance(exc, UnicodeError):
        # oslo.config doesn't report which file it was reading.
        where = ' '.join(args) or 'the default files'
        return f'a configuration file is not UTF-8 ({exc}); it is one of {where}; convert it'
    return one_line(exc)

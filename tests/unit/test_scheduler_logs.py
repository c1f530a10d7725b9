# SPDX-License-Identifier: Apache-2.0
"""Lines of the scheduler's side under Nova's own sample for ``log_config_append``."""

import logging.config
import pathlib

import pytest

from fbm_filters import logs

CASES = pathlib.Path(__file__).parents[1] / 'cases' / 'nova-conf'

pytestmark = pytest.mark.usefixtures('kept_logging')


@pytest.fixture(autouse=True)
def own_logger(nova_conf):
    """Put its parent back, which no set-up of logging does. The formatter needs options."""
    nova_conf()
    own = logging.getLogger('fbm_filters')
    parent = own.parent
    yield own
    own.parent, own.handlers, own.propagate = parent, [], True


@pytest.mark.parametrize(
    ('found', 'written', 'where'),
    [
        ('', '', 'the logger nova'),
        ('handlers = stderr', 'handlers = null', 'stderr'),
        ('[logger_nova]\nlevel = INFO', '[logger_nova]\nlevel = CRITICAL', 'stderr'),
    ],
)
def test_lines_reach_a_handler(tmp_path, capfd, found, written, where):
    """Where Nova's are written, else stderr; said once."""
    text = (CASES / 'logging-root-is-null.conf').read_text()
    file = tmp_path / 'logging.conf'
    file.write_text(text.replace(found, written))
    logging.config.fileConfig(file, disable_existing_loggers=False)
    logging.getLogger('fbm_filters.prefilter').error('lost')
    for _ in range(2):
        logs.ensure_written()
    logging.getLogger('fbm_filters.prefilter').info('one')
    warning, line = capfd.readouterr().err.splitlines()
    assert f'gives the logger fbm_filters no handler: it logs to {where};' in warning
    assert line.endswith('one')


def test_a_root_with_a_handler_is_left_alone(tmp_path, capfd, own_logger):
    text = (CASES / 'logging-root-is-null.conf').read_text()
    file = tmp_path / 'logging.conf'
    file.write_text(text.replace('handlers = null', 'handlers = stderr'))
    logging.config.fileConfig(file, disable_existing_loggers=False)
    logs.ensure_written()
    assert own_logger.parent is logging.getLogger()
    assert capfd.readouterr().err == ''

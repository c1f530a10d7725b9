# SPDX-License-Identifier: Apache-2.0
"""nova.conf's logging is meant for Nova: it must never stop the agent."""

import logging

import pytest

from fbm_placement import errors
from fbm_placement.agent import logs

pytestmark = pytest.mark.usefixtures('kept_logging')


def test_a_directory_that_cannot_be_written(home, capfd):
    """A full disk or another owner: a warning, and the rest goes to stderr."""
    home.write(f'[DEFAULT]\nlog_dir = {home.folder}/nova.conf\n')
    logs.as_a_service(home.load(), 'fbm-agent')
    logging.getLogger('fbm_placement').info('the next line')
    logged = capfd.readouterr().err
    assert 'logging to stderr instead' in logged
    assert 'nova.conf' in logged
    assert 'the next line' in logged


def test_a_journal_without_its_library(home, capfd, monkeypatch):
    """nova.conf may ask for what only Nova's environment has."""
    monkeypatch.setattr('oslo_log.handlers.journal', None)
    home.write('[DEFAULT]\nuse_journal = true\n')
    logs.as_a_service(home.load(), 'fbm-agent')
    assert 'logging to stderr instead' in capfd.readouterr().err


def test_a_log_file_is_left_to_nova_compute(home, capfd, tmp_path):
    """Two writers would rotate it away from each other; with a flag it is the agent's."""
    home.write(f'[DEFAULT]\nlog_file = {tmp_path}/nova-compute.log\n')
    logs.as_a_service(home.load(), 'fbm-agent')
    logging.getLogger('fbm_placement').info('ours')
    assert not (tmp_path / 'nova-compute.log').exists()
    assert 'is left to nova-compute' in ''.join(capfd.readouterr())
    ours = ('--log-file', f'{tmp_path}/ours.log')
    logs.as_a_service(home.load(*ours), 'fbm-agent', ours)
    logging.getLogger('fbm_placement').info('ours')
    assert 'ours' in (tmp_path / 'ours.log').read_text()


def test_a_logging_configuration_that_is_not_there(home):
    home.write(f'[DEFAULT]\nlog_config_append = {home.folder}/nothing.ini\n')
    with pytest.raises(errors.ConfigurationError) as caught:
        logs.as_a_service(home.load(), 'fbm-agent')
    assert 'nothing.ini' in str(caught.value)


@pytest.mark.parametrize('set_up', [logs.to_stderr, logs.as_a_service])
def test_a_password_in_a_url_is_not_logged(home, capfd, set_up):
    """A URL is logged as it is by keystoneauth."""
    home.write('[DEFAULT]\ndebug = true\n')
    set_up(home.load(), 'fbm-agent')
    logging.getLogger('fbm_placement').debug('REQ: curl "%s"', 'http://bob:hunter2@host/x')
    logged = ''.join(capfd.readouterr())
    assert 'http://host/x' in logged
    assert 'hunter2' not in logged

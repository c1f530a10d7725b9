# SPDX-License-Identifier: Apache-2.0
"""An edited nova.conf: the agent goes by it once nova-compute does, over a Placement in memory."""

import logging

import pytest

from fbm_placement import errors
from fbm_placement.agent.agent import Agent
from fbm_placement.conf import reader
from fbm_placement.host import numa, state_file
from tests.unit import fake_placement
from tests.unit.fake_placement import TRAITS, UUID

DRAM_MIB = numa.dram_mib()
ON = {'CUSTOM_FILE_BACKED_MEMORY', 'CUSTOM_FILE_BACKED_MEMORY_DISK'}
OFF = """
[DEFAULT]
reserved_host_memory_mb = 256
"""


def conf_text(mib, reserved=0):
    return f"""
[DEFAULT]
ram_allocation_ratio = 1.0
reserved_host_memory_mb = {reserved}
[libvirt]
file_backed_memory = {mib}
"""


def report(mib, reserved=0, ratio=1.0):
    return fake_placement.inventory(mib, reserved, ratio)


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO, logger='fbm_placement')
    return caplog


@pytest.fixture
def start(nova_conf, compute_id, placement):
    """Start the service with this nova.conf; without one, again with what is there."""

    def start(text):
        compute_id()
        conf = nova_conf(text)
        return Agent(
            conf,
            reader.read_settings(conf),
            reader.read_agent_options(conf),
            as_service=True,
            wait=lambda seconds: None,
        )

    return start


@pytest.fixture
def nova_compute_reports(placement):
    def write(record):
        placement.node.inventories['MEMORY_MB'] = record
        placement.node.generation += 1

    return write


def run_pass(agent):
    """Make a pass as the loop does; return whether the settings changed."""
    try:
        agent.reconcile(agent.observe())
    except errors.SettingsChanged:
        agent.reconcile(agent.observe())
        return True
    return False


def went_by():
    state = state_file.read(state_file.path(), None)
    return state.configured, state.capacity_mib, state.reserved_mib


def logged(caplog, level):
    lines = [record.getMessage() for record in caplog.records if record.levelno == level]
    caplog.clear()
    return lines


EDITS = {
    'smaller': (conf_text(1024), conf_text(512), report(512), ('enabled', 512, 0)),
    'larger': (conf_text(512), conf_text(1024), report(1024), ('enabled', 1024, 0)),
    'the reserve': (conf_text(1024), conf_text(1024, 8), report(1024, 8), ('enabled', 1024, 8)),
    'off': (conf_text(1024), OFF, report(DRAM_MIB, 256, 1.5), ('disabled', 0, 256)),
    'on': (OFF, conf_text(1024), report(1024), ('enabled', 1024, 0)),
}


@pytest.mark.parametrize(('before', 'edited', 'reported', 'state'), EDITS.values(), ids=EDITS)
def test_an_edit_counts_once_nova_compute_reports_it(
    start, nova_conf, nova_compute_reports, placement, log, before, edited, reported, state
):
    """Not a write of the agent comes in between, and its traits follow."""
    agent = start(before)
    run_pass(agent)
    unchanged = went_by()
    assert unchanged != state
    nova_conf(edited)
    agent.reload()
    assert not run_pass(agent)
    assert went_by() == unchanged
    nova_compute_reports(reported)
    log.clear()
    placement.requests.clear()
    assert run_pass(agent)
    assert went_by() == state
    assert placement.node.inventories['MEMORY_MB'] == reported
    assert ('PUT', f'/resource_providers/{UUID}/inventories/MEMORY_MB') not in placement.writes
    assert placement.node.traits == TRAITS | (ON if state[0] == 'enabled' else set())
    assert logged(log, logging.WARNING) == []
    run_pass(agent)
    assert placement.count(lambda: run_pass(agent)) == [
        ('GET', f'/resource_providers/{UUID}/inventories')
    ]


def test_what_is_logged_of_an_edit(start, nova_conf, nova_compute_reports, log):
    agent = start(conf_text(1024))
    run_pass(agent)
    nova_conf(conf_text(512, 8))
    log.clear()
    agent.reload()
    assert [record for record in log.records if record.levelno > logging.INFO] == []
    reloaded, pending = logged(log, logging.INFO)
    assert reloaded.startswith('Configuration reloaded')
    assert pending == (
        'nova.conf has file-backed memory enabled, 512 MiB, 8 MiB of it reserved; the agent goes '
        'on with enabled, 1024 MiB until nova-compute reports the new value: restart nova-compute'
    )
    nova_compute_reports(report(512, 8))
    run_pass(agent)
    (line,) = logged(log, logging.INFO)
    assert line == (
        'File-backed memory enabled, 512 MiB, 8 MiB of it reserved, as in the edited nova.conf '
        '(Placement has total=512 reserved=8 max_unit=512 allocation_ratio=1.0); before: enabled, '
        '1024 MiB'
    )
    agent.reload()
    assert len(logged(log, logging.INFO)) == 1


def test_another_inventory_is_overwritten_although_nova_conf_was_edited(
    start, nova_conf, nova_compute_reports, placement
):
    """Written by hand, or by nova-compute with an earlier edit."""
    agent = start(conf_text(1024))
    run_pass(agent)
    nova_conf(conf_text(512))
    nova_compute_reports(report(700))
    assert not run_pass(agent)
    assert placement.node.inventories['MEMORY_MB'] == report(1024)


def test_a_report_that_comes_while_the_agent_writes(
    start, nova_conf, nova_compute_reports, placement
):
    """The write gets a conflict, and the next try finds the report."""
    agent = start(conf_text(1024))
    run_pass(agent)
    nova_conf(conf_text(512))
    nova_compute_reports(report(700))

    def before(method, path):
        if method == 'PUT':
            placement.before = lambda method, path: None
            nova_compute_reports(report(512))

    placement.before = before
    assert run_pass(agent)
    assert placement.node.inventories['MEMORY_MB'] == report(512)


WRONG = {
    'no number': conf_text('many'),
    'forbidden': conf_text(512).replace('ratio = 1.0', 'ratio = 2.0'),
    'half written': '[libv',
}


@pytest.mark.parametrize('text', WRONG.values(), ids=WRONG)
def test_a_wrong_edit_is_logged_once(start, nova_conf, nova_compute_reports, home, log, text):
    """The agent goes on with what is valid; corrected, it counts."""
    agent = start(conf_text(1024))
    run_pass(agent)
    file = home.folder / 'nova.conf'
    good = file.read_text()
    file.write_text(good.split('[DEFAULT]\nram')[0] + text)
    log.clear()
    for _ in range(3):
        nova_compute_reports(report(512))
        assert not run_pass(agent)
    wrong = [line for line in logged(log, logging.WARNING) if line.startswith('nova.conf was')]
    (line,) = wrong
    assert line.startswith('nova.conf was changed and cannot be used: ')
    assert 'the agent goes on with file-backed memory enabled, 1024 MiB' in line
    assert went_by() == ('enabled', 1024, 0)
    nova_conf(conf_text(512))
    nova_compute_reports(report(512))
    assert run_pass(agent)
    assert went_by() == ('enabled', 512, 0)


def test_a_wrong_edit_is_logged_at_a_reload(start, nova_conf, log, home):
    agent = start(conf_text(1024))
    file = home.folder / 'nova.conf'
    file.write_text(file.read_text().replace('1024', '-1'))
    agent.reload()
    (line,) = logged(log, logging.WARNING)
    assert '[libvirt]file_backed_memory is -1' in line


def test_a_new_agent_waits_for_nova_compute_too(start, nova_compute_reports, placement):
    """The one before it crashed, or was restarted alone, after an edit."""
    run_pass(start(conf_text(1024)))
    agent = start(conf_text(512))
    assert not run_pass(agent)
    assert went_by() == ('enabled', 1024, 0)
    assert placement.node.inventories['MEMORY_MB'] == report(1024)
    nova_compute_reports(report(512))
    assert run_pass(agent)
    assert went_by() == ('enabled', 512, 0)


@pytest.mark.parametrize('text', [conf_text(1024, 8), OFF, OFF + 'ram_allocation_ratio = 4.0\n'])
def test_a_restart_without_an_edit_changes_nothing(start, nova_compute_reports, text, log):
    nova_compute_reports(report(DRAM_MIB, 256, 4.0))
    run_pass(start(text))
    before = went_by()
    log.clear()
    assert not run_pass(start(text))
    assert went_by() == before
    assert not [line for line in logged(log, logging.INFO) if 'edited' in line]


@pytest.mark.parametrize('reported', [report(512), report(700), None])
def test_a_new_agent_goes_by_nova_conf_where_nothing_speaks_against_it(
    start, nova_compute_reports, placement, reported
):
    run_pass(start(conf_text(1024)))
    nova_compute_reports(reported)
    if reported is None:
        del placement.node.inventories['MEMORY_MB']
    agent = start(conf_text(512))
    with pytest.raises(errors.SettingsChanged):
        agent.reconcile(agent.observe())
    agent.observe()
    assert went_by() == ('enabled', 512, 0)


def test_a_single_pass_goes_by_nova_conf(nova_conf, compute_id, placement, start):
    """``--once`` is what a person asked for."""
    run_pass(start(conf_text(1024)))
    conf = nova_conf(conf_text(512))
    once = Agent(conf, reader.read_settings(conf), reader.read_agent_options(conf))
    once.reconcile(once.observe())
    assert placement.node.inventories['MEMORY_MB'] == report(512)

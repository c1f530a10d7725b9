# SPDX-License-Identifier: Apache-2.0
"""``fbm-status hook``: arguments, output and exit codes."""

import json
import types
from typing import cast

import pytest
from oslo_config import cfg

from fbm_placement.cmd import hook
from fbm_placement.doctor import checks
from fbm_placement.doctor.facts import Facts
from fbm_placement.hook import install
from fbm_placement.host import hook_status
from tests.hook_lab import state


@pytest.fixture
def run(tmp_path, capsys):
    hooks_dir = tmp_path / 'hooks'

    def run_it(*args):
        conf = cfg.ConfigOpts()
        conf.register_cli_opt(cfg.SubCommandOpt('command', handler=hook.add_parser))
        conf(['hook', *args], project='nova', prog='fbm-status', default_config_files=[])
        code = conf.command.func(conf)
        return (code, *capsys.readouterr())

    run_it.hooks_dir = str(hooks_dir)  # type: ignore[attr-defined]
    return run_it


def test_install_check_and_remove(run, monkeypatch):
    where = f'--hooks-dir={run.hooks_dir}'
    program, hook = install.paths(run.hooks_dir).values()
    reload_it = (
        'libvirt had no hook for QEMU before; reload it once: systemctl reload libvirtd (or '
        'virtqemud)\n'
    )
    both = f'{program}: installed\n{hook}: installed\n{reload_it}'
    assert run('install', where) == (0, both, '')
    both = f'{program}: unchanged\n{hook}: unchanged\n'
    assert run('install', where) == (0, both, '')
    monkeypatch.setattr('fbm_placement.host.hook_status.not_enforcing_reason', lambda: None)
    works = 'installed, and it works; to see what it refused: journalctl -t fbm-hook\n'
    assert run('check', where) == (0, works, '')
    assert run('remove', where) == (0, f'{hook}: removed\n{program}: removed\n', '')
    assert run('remove', where) == (0, f'{hook}: not there\n{program}: not there\n', '')


NOTHING = 'installed, and it works, but it refuses nothing now: '
NO_STATE = f'{NOTHING}it does not enforce without a fresh state file: '
STATES: dict[str, tuple[dict[str, object] | None, str | None]] = {
    'fresh': ({}, None),
    'none': (None, f'{NO_STATE}no FILE: is fbm-agent running on this host?'),
    'stale': ({'valid_until_uptime': 1}, f'{NO_STATE}FILE is stale; check the fbm-agent service'),
    'off': ({'hook_mode': 'off'}, f'{NOTHING}[file_backed_memory]hook_mode is off'),
    'warn': ({'hook_mode': 'warn'}, f'{NOTHING}[file_backed_memory]hook_mode is warn'),
}


@pytest.mark.parametrize('configured', ['enabled', 'disabled'])
@pytest.mark.parametrize(('changes', 'reason'), STATES.values(), ids=STATES)
def test_check_and_doctor_find_the_same(run, monkeypatch, tmp_path, changes, reason, configured):
    run('install', f'--hooks-dir={run.hooks_dir}')
    file = tmp_path / 'host.json'
    if changes is not None:
        file.write_text(json.dumps(state(configured=configured, **changes)))
    monkeypatch.setenv('RUNTIME_DIRECTORY', str(tmp_path))
    facts = types.SimpleNamespace(
        hook_findings=[],
        hook_not_enforcing=hook_status.not_enforcing_reason(),
        hook_newer_than_libvirtd=False,
    )
    found = checks.hook(cast(Facts, facts))
    code, out, err = run('check', f'--hooks-dir={run.hooks_dir}')
    if reason is None:
        assert (code, err, found.code.name, found.details) == (0, '', 'SUCCESS', out.strip())
    else:
        reason = reason.replace('FILE', str(file))
        assert (code, out, found.code.name, found.details) == (1, '', 'WARNING', reason)
        assert err == f'{reason}\n'


def test_check_reports_what_is_wrong(run):
    code, out, err = run('check', '--hooks-dir', run.hooks_dir)
    assert (code, out) == (1, '')
    assert err.count('is missing; run "fbm-status hook install" as root\n') == 2


def test_where_libvirt_is_not_the_error_is_for_main(run):
    with pytest.raises(install.HookError, match='libvirt is not installed here'):
        run('install', '--hooks-dir', '/nonexistent/libvirt/hooks')


@pytest.mark.parametrize('command', ['install', 'check', 'remove'])
def test_help_names_the_directory(run, capsys, command):
    with pytest.raises(SystemExit) as ended:
        run(command, '--help')
    assert ended.value.code == 0
    assert 'default: /etc/libvirt/hooks' in capsys.readouterr().out


def test_a_command_must_be_named(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    assert 'COMMAND' in capsys.readouterr().err

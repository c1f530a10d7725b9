# SPDX-License-Identifier: Apache-2.0
"""``fbm-status hook``: arguments, output and exit codes."""

import pytest
from oslo_config import cfg

from fbm_placement.cmd import hook
from fbm_placement.hook import install


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
    assert run('check', where) == (0, 'the hook is installed, and it works\n', '')
    assert run('remove', where) == (0, f'{hook}: removed\n{program}: removed\n', '')
    assert run('remove', where) == (0, f'{hook}: not there\n{program}: not there\n', '')


def test_check_reports_that_nothing_is_refused(run, monkeypatch, tmp_path):
    where = f'--hooks-dir={run.hooks_dir}'
    run('install', where)
    monkeypatch.setenv('RUNTIME_DIRECTORY', str(tmp_path))
    code, out, _ = run('check', where)
    assert code == 0
    assert 'but it refuses nothing now: it does not enforce without a fresh state file: no ' in out


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

# SPDX-License-Identifier: Apache-2.0
"""Which program a command line runs."""

import pytest

from fbm_placement.host.processes import command_line, program_of, running

PYTHON = '/usr/bin/python3'
SCRIPT = '/usr/bin/nova-compute'


@pytest.mark.parametrize(
    'argv',
    [
        [SCRIPT, '--config-file', '/etc/nova/nova.conf'],
        ['nova-compute'],
        [PYTHON, SCRIPT],
        [PYTHON, '-s', SCRIPT],
        [PYTHON, '-sE', '-u', SCRIPT],
        [PYTHON, '-X', 'dev', SCRIPT],
        [PYTHON, '-Xdev', '-W', 'ignore', '-Wd::ImportWarning', SCRIPT],
        [PYTHON, '-sW', 'ignore', SCRIPT, '-c', 'x'],
        [PYTHON, '-I', '--', SCRIPT],
        [PYTHON, '--check-hash-based-pycs', 'never', SCRIPT],
        ['/usr/libexec/platform-python', '-s', SCRIPT],
        ['/opt/stack/data/venv/bin/python3.11', '/opt/stack/data/venv/bin/nova-compute'],
        ['/usr/bin/pypy3', SCRIPT],
        ['/usr/bin/env', 'python3', '-s', SCRIPT],
        ['env', '-i', 'LANG=C', '/var/lib/kolla/venv/bin/nova-compute'],
        ['nova-compute: master process [/usr/bin/nova-compute --config-file /etc/nova/nova.conf]'],
    ],
)
def test_nova_compute_wherever_its_script_stands(argv):
    assert program_of(argv) == 'nova-compute'


@pytest.mark.parametrize(
    ('argv', 'name'),
    [
        ([], ''),
        ([PYTHON], ''),
        ([PYTHON, '-s'], ''),
        ([PYTHON, '-X'], ''),
        ([PYTHON, '-c', 'import nova', SCRIPT], ''),
        ([PYTHON, '-m', 'pdb', SCRIPT], ''),
        ([PYTHON, '-W', SCRIPT, '/usr/bin/nova-api'], 'nova-api'),
        (['/usr/bin/vim', SCRIPT], 'vim'),
        (['tail', '-f', '/var/log/nova/nova-compute'], 'tail'),
        (['/usr/bin/nova-compute.exe'], 'nova-compute.exe'),
        (['env'], ''),
    ],
)
def test_another_program(argv, name):
    assert program_of(argv) == name


def test_the_processes_of_a_program(tmp_path):
    for pid, argv in ((7, [PYTHON, '-s', SCRIPT]), (8, ['/usr/sbin/libvirtd']), (9, [PYTHON])):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / 'cmdline').write_text('\0'.join(argv) + '\0')
    assert command_line(9, str(tmp_path)) == [PYTHON]
    assert command_line(10, str(tmp_path)) == []
    assert list(running(('nova-compute',), str(tmp_path))) == [7]
    assert sorted(running(('nova-compute', 'libvirtd'), str(tmp_path))) == [7, 8]

# SPDX-License-Identifier: Apache-2.0
"""The configuration is read from the files that nova-compute reads, without Nova."""

import ast
import os
import pathlib
import sys
from types import SimpleNamespace

import pytest
from oslo_config import cfg
from oslo_utils import netutils

import fbm_placement
from fbm_placement import conf as configuration
from fbm_placement import errors
from fbm_placement.agent import provider
from fbm_placement.conf import nova, reader
from fbm_placement.placement import session


def refusal(home, *args):
    with pytest.raises(errors.ConfigurationError) as caught:
        home.load(*args)
    (reason,) = caught.value.reasons
    assert '\n' not in reason
    return reason


def test_the_three_places(home):
    """nova.conf, nova-compute.conf and nova.conf.d are read; the later wins, as for Nova."""
    home.write('[DEFAULT]\nreserved_host_memory_mb = 1\nram_allocation_ratio = 2\nhost = a\n')
    home.write('[DEFAULT]\nram_allocation_ratio = 1.0\nhost = b\n', 'nova-compute.conf')
    home.write('[DEFAULT]\nhost = c\n', 'nova.conf.d/10-host.conf')
    conf = home.load()
    assert conf.reserved_host_memory_mb == 1
    assert conf.ram_allocation_ratio == 1.0
    assert conf.host == 'c'
    assert conf.config_file == [
        str(home.folder / 'nova.conf'),
        str(home.folder / 'nova-compute.conf'),
    ]


def test_files_of_the_agents_own_name_are_not_read(home):
    """Nova would not read fbm-agent.conf, so the agent must not either."""
    home.write('[DEFAULT]\nhost = a\n')
    home.write('[DEFAULT]\nhost = b\n', 'fbm-agent.conf')
    assert home.load().host == 'a'


def test_a_directory_alone_will_do(home):
    home.write('[libvirt]\nfile_backed_memory = 7\n', 'nova.conf.d/a.conf')
    conf = home.load()
    assert conf.libvirt.file_backed_memory == 7
    assert conf.config_file == []


def test_named_files_replace_the_default_ones(home, tmp_path):
    """``--config-file`` and ``--config-dir`` are as for nova-compute (devstack: nova-cpu.conf)."""
    home.write('[DEFAULT]\nhost = a\nram_allocation_ratio = 3\n')
    home.write('[DEFAULT]\nhost = b\n', '../more/x.conf')
    conf = home.load('--config-file', str(tmp_path / 'more/x.conf'))
    assert conf.host == 'b'
    assert conf.ram_allocation_ratio is None
    assert home.load('--config-dir', str(tmp_path / 'more')).host == 'b'


def test_options_of_nova_that_are_not_known_are_ignored(home):
    home.write('[DEFAULT]\ntransport_url = rabbit://\n[filter_scheduler]\nhost_subset_size = 1\n')
    assert home.load().host


@pytest.mark.parametrize(
    ('line', 'option', 'expected'),
    [
        ('host = $my_ip\nmy_ip = 192.0.2.7', 'host', '192.0.2.7'),
        ('host = compute-${my_ip}\nmy_ip = 192.0.2.7', 'host', 'compute-192.0.2.7'),
        ('state_path = $pybasedir/x\npybasedir = /opt', 'state_path', '/opt/x'),
        ('pybasedir = /opt', 'state_path', '/opt'),
        ('host = $my_ip', 'host', netutils.get_my_ipv4()),
    ],
)
def test_interpolation(home, line, option, expected):
    """What Nova's options refer to can be referred to."""
    home.write(f'[DEFAULT]\n{line}\n')
    assert home.load()[option] == expected


def test_unknown_interpolation_in_state_path(home):
    """What Nova knows and the agent doesn't ends in a line with the way out."""
    home.write('[DEFAULT]\nstate_path = $instances_path/..\n')
    conf = home.load()
    with pytest.raises(errors.ConfigurationError) as caught:
        provider.read_compute_ids(conf)
    line = str(caught.value)
    assert line.startswith('[DEFAULT]state_path has a $')
    assert 'write it out without the $' in line


NO_AUTH = '[placement]\nauth_type = none\nendpoint = http://placement.test\n'


def test_keystoneauth_defaults_are_those_of_nova(home):
    """Without Nova's defaults the catalogue has no such service; without a timeout it hangs."""
    home.write(NO_AUTH)
    adapter = session.adapter(home.load())
    assert adapter.service_type == 'placement'
    assert adapter.interface == ['internal', 'public']
    assert adapter.session.timeout == 30


def test_what_is_set_replaces_the_defaults(home):
    home.write(
        f'{NO_AUTH}service_type = mine\nvalid_interfaces = admin\ntimeout = 4\n'
        'region_name = One\ninsecure = true\n'
    )
    adapter = session.adapter(home.load())
    assert (adapter.service_type, adapter.interface) == ('mine', ['admin'])
    assert (adapter.region_name, adapter.session.timeout) == ('One', 4)
    assert adapter.session.verify is False


def test_auth_section(home):
    """``auth_section`` puts the credentials elsewhere, as it does for Nova."""
    home.write(
        '[placement]\nauth_section = keystone\n'
        '[keystone]\nauth_type = admin_token\nendpoint = http://placement.test\ntoken = t\n'
    )
    adapter = session.adapter(home.load())
    assert adapter.get_token() == 't'
    assert adapter.get_endpoint() == 'http://placement.test'


def test_versions_are_ignored(home):
    """``version``, ``min_version`` and ``max_version`` would make keystoneauth ask the root."""
    home.write(f'{NO_AUTH}min_version = 9.0\nmax_version = 9.9\nversion = 9.5\n')
    adapter = session.adapter(home.load())
    assert (adapter.version, adapter.min_version, adapter.max_version) == (None, None, None)
    assert adapter.default_microversion == '1.26'


@pytest.mark.parametrize(
    ('section', 'reason'),
    [
        ('', '[placement]auth_type is not set'),
        ('auth_section = nowhere', '[placement]auth_type is not set'),
        ('auth_type = nonsense', '[placement]auth_type: The plugin nonsense could not be found'),
        (
            'auth_type = v3samlpassword',
            '[placement]auth_type is v3samlpassword: a Python package that it needs is missing',
        ),
        ('auth_type = password', '[placement]auth_url is not set: auth_type password needs it'),
        ('auth_type = none\nendpoint = http://x\ntimeout = soon', '[placement]: timeout: '),
        (
            (
                'auth_type = v3applicationcredential\nauth_url = http://x\n'
                'application_credential_id = 7'
            ),
            (
                '[placement]application_credential_secret is not set: auth_type '
                'v3applicationcredential needs it'
            ),
        ),
        (
            (
                'auth_section = keystone\n[keystone]\nauth_type = v3password\nauth_url = http://x\n'
                'username = nova\nuser_domain_id = default\npassword ='
            ),
            '[keystone]password is not set: auth_type v3password needs it',
        ),
        (
            'auth_type = password\nauth_url = keystone:5000/v3\nusername = nova\npassword = x',
            '[placement]auth_url is keystone:5000/v3: expected http:// or https:// and a host',
        ),
        (
            'auth_type = none\nendpoint = nova:hunter2@placement',
            '[placement]endpoint is placement: expected http:// or https:// and a host',
        ),
        (
            'auth_type = none\nendpoint = http://placement:port',
            '[placement]endpoint is http://placement:port: expected http:// or https://',
        ),
        *(
            (
                f'auth_type = none\nendpoint_override = {url}',
                f'[placement]endpoint_override is {url}: expected http:// or https:// and a host',
            )
            for url in ('/placement', 'placement.test', 'http://[bad', 'ftp://placement.test')
        ),
        (
            'auth_type = password\nauth_url = /v3',
            (
                '[placement]auth_url is /v3: expected http:// or https:// and a host; '
                '[placement]password is not set: auth_type password needs it'
            ),
        ),
    ],
)
def test_a_placement_section_that_cannot_be_used(home, section, reason):
    """Waiting does not fix it, so it is a ConfigurationError, before any request."""
    home.write(f'[placement]\n{section}\n')
    with pytest.raises(errors.ConfigurationError) as caught:
        session.adapter(home.load())
    assert reason in str(caught.value)
    assert 'hunter2' not in str(caught.value)


CASES = pathlib.Path(__file__).parents[2] / 'cases' / 'nova-conf'


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        (
            'placement-without-password',
            '[placement]password is not set: auth_type password needs it',
        ),
        (
            'placement-auth-type-extra-not-installed',
            (
                '[placement]auth_type is v3kerberos: a Python package that it needs is missing '
                'here: install keystoneauth1[kerberos], [saml2] or [oauth1]'
            ),
        ),
        (
            'config-source-castellan',
            (
                "[DEFAULT]config_source: could not load configuration from 'secrets'. driver: "
                "Valid values are [remote_file], but found 'castellan' (in {path}); fix it, or "
                "install nova-compute's driver for it in this environment too"
            ),
        ),
    ],
)
def test_placement_sections_of_the_field(home, capsys, name, reason):
    """One line, and nothing that oslo.config logs by itself."""
    path = str(CASES / f'{name}.conf')
    with pytest.raises(errors.ConfigurationError) as caught:
        session.connect(home.load('--config-file', path))
    assert caught.value.reasons == (reason.replace('{path}', path),)
    assert capsys.readouterr() == ('', '')


def test_no_file_at_all(home):
    reason = refusal(home)
    assert reason.startswith('no configuration: expected nova.conf, nova-compute.conf')
    assert f'{home.path}/.nova' in reason
    assert '--config-file PATH' in reason


def test_a_copy_in_the_home_of_root(home, monkeypatch):
    """Root finds what the agent finds, which runs as nova."""
    for user in ('root', 'nova'):
        home.write(f'[DEFAULT]\nstate_path = /{user}\n', f'../{user}/nova.conf')
    homes = {user: SimpleNamespace(pw_dir=str(home.path / user)) for user in ('root', 'nova')}
    monkeypatch.setattr('pwd.getpwnam', homes.__getitem__)
    monkeypatch.setattr(cfg, '_get_config_dirs', lambda project=None: [os.path.expanduser('~')])
    monkeypatch.setenv('HOME', homes['root'].pw_dir)
    assert home.load().state_path == '/nova'
    assert os.environ['HOME'] == homes['root'].pw_dir
    del homes['nova']
    assert home.load().state_path == '/root'


@pytest.mark.parametrize('option', ['--config-file', '--config-dir'])
def test_a_named_file_or_directory_that_is_missing(home, option):
    assert '/no/such/path' in refusal(home, option, '/no/such/path')


def test_a_file_that_may_not_be_read(home, monkeypatch):
    """The reason names the file (root reads all, so open() is made to fail)."""
    file = home.write('[DEFAULT]\n')

    def refuse(path, *args, **kwargs):
        if str(path) == str(file):
            raise PermissionError(13, 'Permission denied', str(file))
        return open(path, *args, **kwargs)

    monkeypatch.setattr(cfg.iniparser, 'open', refuse, raising=False)
    monkeypatch.setattr(cfg, 'open', refuse, raising=False)
    reason = refusal(home)
    assert str(file) in reason
    assert reason.endswith('permission denied; run it as root, or as nova-compute does (nova)')


@pytest.mark.parametrize('text', ['what\n', '[DEFAULT\nhost = a\n', ' indented = 1\n'])
def test_a_file_that_cannot_be_parsed(home, text):
    file = home.write(text)
    assert f'{file}:1' in refusal(home)


def test_own_options_have_a_sample_and_are_registered(home):
    """Only this project's own options are in its sample, each with a text that explains it."""
    ((group, options),) = configuration.list_opts()
    assert group.name == 'file_backed_memory'
    assert [option.name for option in options] == [
        'resource_provider',
        'interval',
        'memory_backing_dir',
        'hook_mode',
    ]
    assert all(option.mutable and len(option.help) > 100 for option in options)
    interval = options[1]
    assert (interval.type.min, interval.type.max, interval.default) == (5, 3600, 60)
    home.write('[file_backed_memory]\ninterval = 30\n')
    conf = home.load()
    assert {option.name for option in options} <= set(conf[group.name])
    assert conf.file_backed_memory.interval == 30


def test_nova_is_found_but_not_imported(home, tmp_path, monkeypatch):
    """``pybasedir`` is where Nova is installed; no line of Nova runs."""
    package = tmp_path / 'lib' / 'nova'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text('raise AssertionError("nova was imported")\n')
    monkeypatch.delitem(sys.modules, 'nova', raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / 'lib'))
    home.write('[DEFAULT]\nstate_path = $pybasedir/state\n')
    conf = home.load()
    reader.read_settings(conf)
    assert conf.state_path == str(tmp_path / 'lib' / 'state')
    assert 'nova' not in sys.modules


def test_without_nova(home, monkeypatch):
    """In an environment of the agent's own there is no Nova: the distribution's place is taken."""
    monkeypatch.setattr(nova.importlib.util, 'find_spec', lambda name: None)
    home.write('')
    assert home.load().pybasedir == '/usr/lib/python3/dist-packages'


def test_no_module_names_nova():
    folder = pathlib.Path(fbm_placement.__file__).parent
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or '']
            else:
                continue
            assert not [m for m in modules if m.split('.')[0] == 'nova'], os.fspath(path)


def test_version(home, capsys):
    with pytest.raises(SystemExit) as caught:
        home.load('--version')
    assert caught.value.code == 0
    assert fbm_placement.version() in capsys.readouterr().out

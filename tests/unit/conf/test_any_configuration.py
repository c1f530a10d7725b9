# SPDX-License-Identifier: Apache-2.0
"""Whatever nova.conf holds: lines that name what is wrong, and never a traceback."""

import contextlib
import io
import json
import logging
import os
import pathlib

import hypothesis
import pytest
from hypothesis import strategies as st

from fbm_placement.agent import logs
from fbm_placement.cmd import agent, status
from fbm_placement.doctor import facts
from tests.fitting_host import FittingHost
from tests.unit.nova_conf_text import ENABLED, PLACEMENT

CASES = pathlib.Path(__file__).parents[2] / 'cases' / 'nova-conf'

pytestmark = pytest.mark.usefixtures('kept_logging')

ANYTHING = st.sampled_from(
    ['', '0', '-1', '7', 'true', 'perhaps', 'x', '/none/x', '$nothing', '%', '%(x)s', 'ä,=:']
)
URLS = st.sampled_from(
    ['http://keystone.test/v3', 'keystone.test:5000', 'http://', 'http://[a', 'http://a:b', '//a']
)
FILES = st.sampled_from(['null.ini', 'broken.ini', 'no-class.ini', 'none.ini', '.', 'good.ini'])
LOGGING = {
    'log_config_append': FILES,
    'syslog_log_facility': st.sampled_from(['LOG_LOCAL9', 'local0', '']),
    'default_log_levels': st.sampled_from(['a=LOUD', 'a', '=', 'fbm_placement=CRITICAL', 'a=9']),
    'rate_limit_except_level': st.sampled_from(['LOUD', 'ERROR', '']),
    'log_rotation_type': st.sampled_from(['interval', 'size', 'daily']),
    'log_rotate_interval_type': st.sampled_from(['weekday', 'decades']),
    'logging_default_format_string': st.sampled_from(['%(none)s', '%(message', '%(message)s']),
    **dict.fromkeys(
        (
            *('debug', 'use_syslog', 'use_journal', 'use_stderr', 'use_json', 'publish_errors'),
            *('log_color', 'log_dir', 'log_file', 'log_date_format', 'log_rotate_interval'),
            *('rate_limit_burst', 'rate_limit_interval', 'max_logfile_count', 'once', 'withdraw'),
        ),
        ANYTHING,
    ),
}
AUTH_TYPES = (
    *('password', 'token', 'v2password', 'v3password', 'v3token', 'v3totp', 'v3multifactor'),
    *('v3applicationcredential', 'v3oidcpassword', 'v3oidcclientcredentials', 'v3oauth1', 'none'),
    *(
        'v3kerberos',
        'v3fedkerb',
        'v3samlpassword',
        'v3adfspassword',
        'v3tokenlessauth',
        'nonsense',
    ),
    *('v3oidcaccesstoken', 'v3oidcauthcode', 'v3oauth2clientcredential', 'admin_token'),
    *('http_basic', 'v3websso', 'v3oidcdeviceauthz', 'v3oauth2mtlsclientcredential', ''),
)
SECTION = {
    'auth_type': st.sampled_from(AUTH_TYPES),
    'auth_section': st.sampled_from(['libvirt', 'none', 'placement']),
    **dict.fromkeys(
        (
            *('auth_url', 'endpoint', 'endpoint_override', 'discovery_endpoint'),
            *('access_token_endpoint', 'identity_provider_url', 'oauth2_endpoint'),
        ),
        URLS,
    ),
    **dict.fromkeys(
        (
            *('username', 'user_id', 'password', 'token', 'passcode', 'user_domain_name'),
            *('project_name', 'project_domain_name', 'system_scope', 'trust_id', 'auth_methods'),
            *('application_credential_id', 'application_credential_secret', 'client_id'),
            *('client_secret', 'identity_provider', 'protocol', 'access_token', 'timeout'),
            *('cafile', 'certfile', 'keyfile', 'insecure', 'valid_interfaces', 'region_name'),
            *('service_type', 'connect_retries', 'retriable_status_codes', 'min_version'),
        ),
        ANYTHING,
    ),
}
SOURCES = st.sampled_from(
    [
        '[DEFAULT]\nconfig_source = secrets\n',
        '[DEFAULT]\nconfig_source = secrets\n[secrets]\ndriver = castellan\n',
        '[DEFAULT]\nconfig_source = a,,b\n[a]\ndriver = remote_file\n[b]\ndriver =\n',
        '[DEFAULT]\nconfig_source = a\n[a]\ndriver = remote_file\nuri = keystone.test\n',
        '[DEFAULT]\nconfig_source = $nothing\n',
    ]
)


def section(name, options):
    return st.fixed_dictionaries({}, optional=options).map(
        lambda values: f'[{name}]\n' + ''.join(f'{key} = {one}\n' for key, one in values.items())
    )


# Few at a time: one that is wrong would hide the others.
CONFIGURATIONS = st.one_of(
    section('DEFAULT', LOGGING).map(lambda text: f'{ENABLED}{PLACEMENT}{text}'),
    section('placement', SECTION).map(lambda text: f'{ENABLED}{text}'),
    SOURCES.map(lambda text: f'{ENABLED}{PLACEMENT}{text}'),
    st.text('[]=\n $%a1:#"\'\t', max_size=30).map(lambda text: f'{ENABLED}{PLACEMENT}{text}'),
)

THOROUGH = os.environ.get('HYPOTHESIS_PROFILE') == 'thorough'
SETTINGS = hypothesis.settings(
    # By default the same in each run, in few seconds; HYPOTHESIS_PROFILE=thorough tries others.
    max_examples=2000 if THOROUGH else 50,
    derandomize=not THOROUGH,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)

COMMANDS = (
    (agent.main, ('--once',)),
    (agent.main, ('--dry-run',)),
    (agent.main, ('--withdraw',)),
    (status.main, ('config', 'check')),
)


@pytest.fixture
def written(home, compute_id, placement, monkeypatch):
    """Return a function that writes nova.conf next to files that it may name."""
    monkeypatch.chdir(home.path)
    monkeypatch.setattr(facts, 'HostObserver', FittingHost)
    # Nothing of this machine.
    monkeypatch.setattr(facts, 'output', lambda *_args, **_kwargs: '')
    monkeypatch.setattr(facts, 'newer_than', lambda *_args: None)
    monkeypatch.setattr(facts.publisher, 'running_agent', lambda: None)
    compute_id()
    null = (CASES / 'logging-root-is-null.conf').read_text()
    home.write(null, '../null.ini')
    home.write(null.replace('handlers = null', 'handlers = stderr'), '../good.ini')
    home.write(null.replace('logging.NullHandler', 'no_such.Handler'), '../no-class.ini')
    home.write('[loggers\n', '../broken.ini')
    return lambda text: home.write(f'{text}\n[DEFAULT]\nstate_path = {home.path}/state\n')


def output_of(main, args):
    """Return the exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        return main(args), out.getvalue(), err.getvalue()


@SETTINGS
@hypothesis.given(text=CONFIGURATIONS)
def test_commands(written, text):
    """Each ends with an exit code of its own, and each reason begins with the program's name."""
    written(text)
    for main, args in COMMANDS:
        code, _, err = output_of(main, args)
        assert code in (0, 1, 2)
        assert not (code and not err), text
        assert [line for line in err.splitlines() if not line.startswith('fbm-')] == []


@hypothesis.settings(SETTINGS, max_examples=SETTINGS.max_examples // 2)
@hypothesis.given(text=CONFIGURATIONS)
def test_doctor(written, text):
    """A file that can be read gives all checks, and no check ends the others."""
    written(text)
    code, out, err = output_of(status.main, ('upgrade', 'check', '--json'))
    readable = output_of(status.main, ('config', 'check'))[0] == 0
    assert code in (0, 1, 2)
    if readable:
        found = {one['check']: one['result'] for one in json.loads(out)['checks']}
        assert len(found) > 10
        assert max(found.values()) == code
        of_placement = ('Rights in Placement', 'Allocations', 'nova-compute and fbm-agent')
        if found['Placement'] == 2:
            assert {found[name] for name in of_placement} == {1}
    assert [line for line in err.splitlines() if not line.startswith('fbm-')] == []


@SETTINGS
@hypothesis.given(text=section('DEFAULT', LOGGING))
def test_logging_of_the_service(written, home, text):
    """What is logged as an error reaches stderr, stdout, a file, or syslog."""
    written(text)
    syslog = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'oslo_log.handlers.syslog.syslog', lambda _priority, line: syslog.append(line)
        )
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            logs.as_a_service(home.load(), 'fbm-agent')
            logging.getLogger('fbm_placement.agent').error('the error of the test')
    files = [path.read_text() for path in home.path.glob('**/*.log')]
    written_somewhere = '\n'.join([*syslog, *files, out.getvalue(), err.getvalue()])
    assert 'the error of the test' in written_somewhere
    assert 'Traceback' not in out.getvalue() + err.getvalue()

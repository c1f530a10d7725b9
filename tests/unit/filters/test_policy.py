# SPDX-License-Identifier: Apache-2.0
"""The scheduler's options: wrong values stop nova-scheduler at its start."""

import pytest
from oslo_config import cfg

from fbm_filters import policy
from fbm_filters.rules import ANY, FORBIDDEN, NEEDS, Policy


@pytest.fixture
def conf(tmp_path):
    """Return a function that reads a file with the scheduler's options."""

    def read(text: str = '') -> cfg.ConfigOpts:
        path = tmp_path / 'nova.conf'
        path.write_text(f'[file_backed_memory]\n{text}\n')
        conf = cfg.ConfigOpts()
        policy.register_opts(conf)
        conf(['--config-file', str(path)], project='nova')
        return conf

    return read


def test_defaults(conf) -> None:
    """Everything may go anywhere but where it can't be."""
    assert policy.read_policy(conf()) == Policy(ANY, frozenset(NEEDS))
    assert conf().file_backed_memory.prefilter is True
    assert conf().file_backed_memory.refresh_interval == 60


def test_set(conf) -> None:
    """As an operator would."""
    read = policy.read_policy(conf('default_policy = forbidden\nincompatible = page_size, vdpa'))
    assert read == Policy(FORBIDDEN, frozenset({'page_size', 'vdpa'}))
    assert policy.read_policy(conf('incompatible =')).incompatible == frozenset()


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('default_policy = maybe', 'default_policy'),
        ('incompatible = page_size, hugepages', 'hugepages'),
    ],
)
def test_wrong_values(conf, text: str, told: str) -> None:
    """The option or the value is named."""
    with pytest.raises(cfg.ConfigFileValueError, match=told):
        policy.read_policy(conf(text))


@pytest.mark.parametrize('text', ['refresh_interval = 0', 'refresh_interval = soon'])
def test_a_wrong_interval(conf, text: str) -> None:
    """It is read at the start too."""
    read = conf(text)
    with pytest.raises(cfg.ConfigFileValueError, match='refresh_interval'):
        _ = read.file_backed_memory.refresh_interval


def test_options_are_published() -> None:
    """With help, for the sample and the docs; no Nova is needed for that."""
    ((group, opts),) = policy.list_opts()
    assert group.name == 'file_backed_memory'
    assert {opt.name for opt in opts} == {
        'prefilter',
        'default_policy',
        'incompatible',
        'refresh_interval',
    }
    assert all(opt.help for opt in opts)

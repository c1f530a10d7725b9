# SPDX-License-Identifier: Apache-2.0
"""The scheduler's options: wrong values stop nova-scheduler at its start."""

import pytest
from oslo_config import cfg

from fbm_filters import options
from fbm_filters.rules import NEEDS, Policy


@pytest.fixture
def conf(tmp_path):
    def read(text: str = '') -> cfg.ConfigOpts:
        path = tmp_path / 'nova.conf'
        path.write_text(f'[file_backed_memory]\n{text}\n')
        conf = cfg.ConfigOpts()
        options.register_opts(conf)
        conf(['--config-file', str(path)], project='nova')
        return conf

    return read


def test_defaults(conf) -> None:
    assert options.read_policy(conf()) == Policy('any', frozenset(NEEDS))
    assert conf().file_backed_memory.prefilter is True
    assert conf().file_backed_memory.refresh_interval == 60


def test_set(conf) -> None:
    read = options.read_policy(conf('default_policy = forbidden\nincompatible = page_size, vdpa'))
    assert read == Policy('forbidden', frozenset({'page_size', 'vdpa'}))
    assert options.read_policy(conf('incompatible =')).incompatible == frozenset()


@pytest.mark.parametrize(
    ('option', 'value', 'wrong'),
    [
        ('default_policy', 'maybe', "Valid values are [any, forbidden], but found 'maybe'"),
        ('incompatible', 'foo', "but found 'foo'"),
        ('incompatible', 'page_size, hugepages', "but found 'hugepages'"),
        ('prefilter', 'perhaps', "Unexpected boolean value 'perhaps'"),
        ('refresh_interval', '0', 'Should be greater than or equal to 1'),
        ('refresh_interval', 'soon', "'soon'"),
    ],
)
def test_wrong_values(conf, option: str, value: str, wrong: str) -> None:
    read = conf(f'{option} = {value}')
    with pytest.raises(cfg.ConfigFileValueError) as caught:
        getattr(read.file_backed_memory, option)
    for text in (option, 'nova.conf', wrong):
        assert text in str(caught.value)


def test_options_are_published() -> None:
    """With help, for the sample and the docs; no Nova is needed for that."""
    ((group, opts),) = options.list_opts()
    assert group.name == 'file_backed_memory'
    assert {opt.name for opt in opts} == {
        'prefilter',
        'default_policy',
        'incompatible',
        'refresh_interval',
    }
    assert all(opt.help for opt in opts)

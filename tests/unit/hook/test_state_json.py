# SPDX-License-Identifier: Apache-2.0
"""The hook reads JSON as json does, mostly without importing that."""

import json
import sys

import hypothesis
import pytest
from hypothesis import strategies as st

from fbm_placement.hook import program

TEXTS = {
    'an object': ' {"a": [1, -2.5e3, true, false, null, "\\u00e9\\n\\""]}\n',
    'an integer': '7',
    'space at the end': '{} \t\r\n',
    'the last of two': '{"a": 1, "a": 2}',
    'infinite': '[Infinity, -Infinity]',
    'long': f'[{"9" * 300}]',
}
NO_JSON = [
    '',
    ' ',
    '{',
    '{}{}',
    '{} x',
    '{}\xa0',
    '\ufeff{}',
    "{'a': 1}",
    '[1,]',
    'nul',
    '"\n"',
    'x',
]


def json_or_error(parse, text):
    try:
        return json.dumps(parse(text))
    except (ValueError, RecursionError) as exc:
        return type(exc), str(exc)


@pytest.fixture(params=['its own scanner', 'another', 'none'])
def scanner(request, monkeypatch):
    """A Python whose scanner is as known, wants something else, or is not there."""
    if request.param != 'its own scanner':
        monkeypatch.setitem(sys.modules, '_json', None if request.param == 'none' else object())
    return request.param


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_json_is_read(scanner, text):
    assert program.parse_json(text) == json.loads(text)


@pytest.mark.parametrize('text', [*NO_JSON, '[' * 100_000, f'[{"9" * 5000}]'])
def test_what_is_not_json_is_refused_as_json_refuses_it(scanner, text):
    with pytest.raises((ValueError, RecursionError)):
        program.parse_json(text)
    assert json_or_error(program.parse_json, text) == json_or_error(json.loads, text)


on_a_busy_machine_too = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)


@on_a_busy_machine_too
@hypothesis.given(st.text('{}[]",:\\ \ntrufalsen019.-eEuINity\xa0', max_size=30))
def test_whatever_it_is_both_read_the_same(text):
    assert json_or_error(program.parse_json, text) == json_or_error(json.loads, text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@on_a_busy_machine_too
@hypothesis.given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_whatever_is_written_both_read_the_same(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert program.parse_json(text) == value == json.loads(text)

# SPDX-License-Identifier: Apache-2.0
"""Others' words, made fit for one line of ours."""

import re

_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff]+')
_USERINFO = re.compile(r'(?<=://)[^/@\s]*@')
_REQUEST_ID = re.compile(r' ?\(Request-ID: req-[0-9a-f-]+\)')
_VARYING = re.compile(r'"[^"]*"|\d+')
_LOCATION = re.compile(
    r"^Value for option (\S+) from LocationInfo\(.*detail='(.*?)'\) is not valid: (.*)$"
)


def one_line(text: object) -> str:
    """Return one printable line: no control characters, no user names in URLs, no request ids.

    A request id differs each time, so it would make the same trouble look like another one.
    """
    line = _CONTROL.sub(' ', str(text))
    line = without_userinfo(line)
    return ' '.join(_REQUEST_ID.sub('', line).split())


def without_userinfo(text: str) -> str:
    """Return the text without the user name and password of each URL in it."""
    return _USERINFO.sub('', text)


def skeleton(text: str) -> str:
    """Return what stays the same when the same trouble is told again: no numbers, no quotes."""
    return _VARYING.sub('#', text)


def of_oslo_config(exc: BaseException, *, option_is_told: bool = False) -> str:
    """Return what oslo.config says of a wrong value, without the Python in it."""
    told = r'\3 (in \2)' if option_is_told else r'\1: \3 (in \2)'
    return _LOCATION.sub(told, one_line(exc))


def count(number: int, one: str, more: str) -> str:
    """Return the number with the word that goes with it."""
    return f'{number} {one if number == 1 else more}'

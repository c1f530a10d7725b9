# SPDX-License-Identifier: Apache-2.0
"""Text: what others wrote made fit for one line, and the wording that several modules share."""

import re

_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff]+')
_USERINFO = re.compile(r'(?<=://)[^/@\s]*@')
_REQUEST_ID = re.compile(r' ?\(Request-ID: req-[0-9a-f-]+\)')
_VARYING = re.compile(r'"[^"]*"|\d+')
_LOCATION = re.compile(
    r"Value for option (\S+) from LocationInfo\(.*detail='(.*?)'\) is not valid: (.*)$"
)


def one_line(text: object) -> str:
    """Return one printable line: no control characters, no user names in URLs, no request ids.

    A request id differs each time, so the same error would not be recognized.
    """
    line = _CONTROL.sub(' ', str(text))
    line = without_userinfo(line)
    return ' '.join(_REQUEST_ID.sub('', line).split())


def without_userinfo(text: str) -> str:
    """Return the text without the user name and password of each URL in it."""
    return _USERINFO.sub('', text)


def printable(text: str) -> str:
    r"""Return the text with control characters escaped for a terminal, e.g. as \x1b."""
    return ''.join(
        letter if letter.isprintable() else letter.encode('unicode_escape').decode('ascii')
        for letter in text
    )


def without_numbers(text: str) -> str:
    """Return the part of a message that stays when it is repeated: no numbers, no quotes."""
    return _VARYING.sub('#', text)


def config_error_text(exc: object, *, with_option: bool = True) -> str:
    """Return oslo.config's message about a wrong value, without the Python in it."""
    message = r'\1: \3 (in \2)' if with_option else r'\3 (in \2)'
    return _LOCATION.sub(message, one_line(exc))


def count(number: int, one: str, more: str) -> str:
    return f'{number} {one if number == 1 else more}'


def state_name(enabled: bool) -> str:
    return 'enabled' if enabled else 'disabled'

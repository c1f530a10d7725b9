# SPDX-License-Identifier: Apache-2.0
"""The dataclasses that all rooms share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A reason why the host takes no new instance."""

    key: str
    """Names the problem; unlike the text it stays the same from check to check."""
    text: str
    """What was seen, what was expected, and how to fix it."""
    recovering: bool = False
    """The problem is over, but a few more checks must succeed before the host reopens."""

    def __str__(self) -> str:
        """Return the text."""
        return self.text

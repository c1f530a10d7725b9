# SPDX-License-Identifier: Apache-2.0
"""Errors of the scheduler's side."""

from fbm_placement.errors import FileBackedMemoryError


class PlacementUnknownError(FileBackedMemoryError):
    """Placement could not tell what a decision needs."""

    def __init__(self, what: str, why: object) -> None:
        """Say ``what`` was asked for and ``why`` there is no answer."""
        super().__init__(f'Placement could not tell {what} ({" ".join(str(why).split())})')

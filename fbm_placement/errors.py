# SPDX-License-Identifier: Apache-2.0
"""Errors. Every message says what was seen, what was expected and what to do."""

from collections.abc import Sequence


class FileBackedMemoryError(Exception):
    """What every error of this project is."""


class ConfigurationError(FileBackedMemoryError):
    """The configuration forbids to run; only a person can mend that."""

    def __init__(self, reasons: Sequence[str]) -> None:
        """Hold all ``reasons`` at once, so that one edit can mend them all."""
        super().__init__('; '.join(reasons))
        self.reasons = tuple(reasons)


class NotReadyError(FileBackedMemoryError):
    """Something that others bring is not there yet: the provider, or its inventory."""


class HostError(FileBackedMemoryError):
    """The host itself is not as it should be, or can't be looked at."""


class NoAnswerError(HostError):
    """A filesystem didn't answer in time."""


class PlacementError(FileBackedMemoryError):
    """Placement, or Keystone on the way to it, did not do what was asked."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """Keep ``retry_after``, the seconds that the service asked to wait, beside the message."""
        super().__init__(message)
        self.retry_after = retry_after


class ConflictError(PlacementError):
    """Someone else changed the provider since it was read (409 placement.concurrent_update)."""


class BadRequestError(PlacementError):
    """Placement refused a request as it stands (400): what it named may be gone."""


class ForbiddenError(PlacementError):
    """The user in ``[placement]`` lacks the right for this (403)."""


class NotFoundError(PlacementError):
    """Placement itself, not a proxy, says that a thing doesn't exist (404)."""


class StopRequested(Exception):  # noqa: N818 - a wish, not an error
    """The operator asked the agent to end; raised between two requests, never inside one."""

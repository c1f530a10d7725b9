# SPDX-License-Identifier: Apache-2.0
"""Errors. Every message says what was seen, what was expected and what to do."""

from collections.abc import Sequence


class FileBackedMemoryError(Exception):
    """Base of this project's errors."""


class ConfigurationError(FileBackedMemoryError):
    """The configuration forbids to run; ``reasons`` has every reason, to be fixed at once."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__('; '.join(reasons))
        self.reasons = tuple(reasons)


class NotReadyError(FileBackedMemoryError):
    """Something that others create is not there yet: the provider, or its inventory."""


class NoProviderError(NotReadyError):
    """Placement has no provider that fits."""


class HostError(FileBackedMemoryError):
    """Something on the host is wrong, or can't be seen."""


class NoAnswerError(HostError):
    """A filesystem didn't answer in time."""


class PlacementError(FileBackedMemoryError):
    """Placement, or Keystone on the way to it, did not do what was asked."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConflictError(PlacementError):
    """Another client changed the provider since it was read (409 placement.concurrent_update)."""


class BadRequestError(PlacementError):
    """Placement refused the request (400): what it named may be gone."""


class ForbiddenError(PlacementError):
    """The user in ``[placement]`` lacks the right for this (403)."""


class NotFoundError(PlacementError):
    """Placement itself, not a proxy, says that a thing doesn't exist (404)."""


class StopRequested(Exception):  # noqa: N818 - a request, not an error
    """The operator asked the agent to end; raised between two requests, never inside one."""


class SettingsChanged(Exception):  # noqa: N818 - a request, not an error
    """The agent goes by other settings now, so that the pass has to begin again."""

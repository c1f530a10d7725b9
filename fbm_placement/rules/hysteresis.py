# SPDX-License-Identifier: Apache-2.0
"""How long a problem counts after it was last seen, so that a host does not flap."""

from fbm_placement.model import Problem, Recovery


class Hysteresis:
    """Keeps a problem until ``needed`` checks in a row have found none.

    One that was there from the start ends with the first good check: the host was still booting.

    :param key: of the problem that stands for a recovery that is not complete
    :param settles: where there is no ``recovery``, no process has checked before
    """

    def __init__(
        self, key: str, needed: int, recovery: Recovery | None = None, settles: bool = False
    ) -> None:
        self._key = key
        self._needed = needed
        self.settling = settles and recovery is None
        """Whether no check has been good yet."""
        self.recovery = recovery
        """The last problem and how far its recovery is; None: no problem counts."""

    @property
    def last_was_good(self) -> bool:
        """Whether the last check found no problem."""
        return self.recovery is None or bool(self.recovery.good_looks)

    def after(self, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
        """Return the problems that count after a check that found these."""
        settling, self.settling = self.settling, self.settling and bool(problems)
        if problems:
            self.recovery = Recovery(problems[0].text, 0)
        elif settling:
            self.recovery = None
        elif self.recovery is not None:
            reason, good = self.recovery.reason, self.recovery.good_looks + 1
            self.recovery = Recovery(reason, good) if good < self._needed else None
            text = (
                f'recovering: {good} of {self._needed} successful checks in a row, no action is '
                f'needed (the problem was: {reason})'
            )
            return (Problem(self._key, text, recovering=True),) if self.recovery else ()
        return problems

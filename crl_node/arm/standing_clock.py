"""A clock that stands still while real time goes on: nobody knows what time it will be next."""

from __future__ import annotations

import statistics
from collections import deque

#: A clock that moves seldom (a slow simulation) is waited for so many times as long as it usually takes.
_USUAL = 4.0


class StandingClock:
    """Watches one clock beside a steady one. By a clock that stands still nothing ever grows old.

    When it moves again it may be at another time: a simulator that was started anew takes what was stamped before for
    something far ahead.
    """

    def __init__(self, patience: float) -> None:
        """It stands still when it has not moved for `patience` s of real time, and for longer than it usually does."""
        self.patience = patience
        self.problem = ""  # a sentence while it stands still
        self._now: float | None = None
        self._since = 0.0  # steady s
        self._gaps: deque[float] = deque(maxlen=15)  # steady s between its last steps

    def observe(self, now: float, steady: float) -> str:
        """It is `now` s by the clock, `steady` s by one that always goes on; a sentence when the first stands still."""
        if now != self._now:
            if self._now is not None:
                self._gaps.append(steady - self._since)
            self._now, self._since = now, steady
        still = steady - self._since
        usual = statistics.median(self._gaps) if self._gaps else 0.0
        stands = now > 0.0 and still > max(self.patience, _USUAL * usual)  # at 0 it has not begun
        self.problem = f"the clock has stood still at {now:.3f} s for {still:.1f} s of real time" if stands else ""
        return self.problem

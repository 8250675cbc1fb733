"""How long a message takes from the gate to the controller, told by the joint states that come the other way."""

from __future__ import annotations

import math
from collections import deque

#: The slowest joint states of this long ago count, s.
MEMORY = 1.0
#: More than this is not waited for, s: joint states so old are a matter for the watchdog.
LONGEST = 0.1


class Way:
    """The longest of the last second's joint states' ages at arrival, within [`least` s, LONGEST].

    A controller whose machine is busy tells its joints late, and hears late. With a `least` of 0 there is no way at
    all: the controller waits, as in lockstep, or its messages are made by the gate itself.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._ages: deque[tuple[float, float]] = deque()  # when it came s, age s: ages fall

    def observe(self, now: float, age: float) -> None:
        """Joint states that were measured `age` s ago came at `now` s."""
        if self.least <= 0 or math.isnan(age):
            return
        while self._ages and (self._ages[-1][1] <= age or self._ages[-1][0] > now):
            self._ages.pop()
        self._ages.append((now, age))

    def at(self, now: float) -> float:
        """What to reckon with at `now` s, s."""
        if self.least <= 0:
            return 0.0
        while self._ages and now - self._ages[0][0] > MEMORY:
            self._ages.popleft()
        slowest = self._ages[0][1] if self._ages else 0.0
        return min(max(self.least, slowest), max(self.least, LONGEST))

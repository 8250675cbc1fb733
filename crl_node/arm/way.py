"""How long messages take from the gate to the controller, and how unevenly: told by the joint states that come back."""

from __future__ import annotations

import math
from collections import deque

#: The joint states of this long ago count, s: for the way, and for bunching, which is seldom and comes again.
MEMORY, LONG_MEMORY = 1.0, 10.0
#: More than this is not waited for, s: joint states so old are a matter for the watchdog.
LONGEST = 0.1
#: More than this messages of a stream are not reckoned to bunch, s: too little would be left to brake with.
MOST_BUNCHED = 0.05


class _Largest:
    """The largest value of the last `memory` s; values fall along the queue."""

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self._values: deque[tuple[float, float]] = deque()  # when it came s, value

    def add(self, now: float, value: float) -> None:
        while self._values and (self._values[-1][1] <= value or self._values[-1][0] > now):
            self._values.pop()
        self._values.append((now, value))

    def at(self, now: float) -> float | None:
        while self._values and now - self._values[0][0] > self.memory:
            self._values.popleft()
        return self._values[0][1] if self._values else None


class Way:
    """The longest of the last second's joint states' ages at arrival, within [`least` s, LONGEST].

    A controller whose machine is busy tells its joints late, and hears late. With a `least` of 0 there is no way at
    all: the controller waits, as in lockstep, or its messages are made by the gate itself.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._ages = _Largest(MEMORY)

    def observe(self, now: float, age: float) -> None:
        """Joint states that were measured `age` s ago came at `now` s."""
        if self.least > 0 and not math.isnan(age):
            self._ages.add(now, age)

    def at(self, now: float) -> float:
        """What to reckon with at `now` s, s."""
        if self.least <= 0:
            return 0.0
        return min(max(self.least, self._ages.at(now) or 0.0), max(self.least, LONGEST))


class Bunching:
    """By how much the ages of the last 10 s' joint states differ at arrival, within [`least` s, MOST_BUNCHED].

    Whoever is kept waiting by turns receives several messages at once, and joint states tell of it: they wait in the
    same queues. A difference between the clocks of two machines is in all ages and does not count.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._oldest, self._youngest = _Largest(LONG_MEMORY), _Largest(LONG_MEMORY)

    def observe(self, now: float, age: float) -> None:
        """Joint states that were measured `age` s ago came at `now` s."""
        if math.isfinite(age):
            self._oldest.add(now, age)
            self._youngest.add(now, -age)

    def at(self, now: float) -> float:
        """What to reckon with at `now` s, s."""
        oldest, youngest = self._oldest.at(now), self._youngest.at(now)
        spread = 0.0 if oldest is None or youngest is None else oldest + youngest
        return min(max(self.least, spread), max(self.least, MOST_BUNCHED))

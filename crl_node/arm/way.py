"""How long messages take: to the controller, by the joint states that come back; to the gate, by its answers."""

from __future__ import annotations

import math
from collections import deque

#: The slowest joint states of this long ago count, s.
MEMORY = 1.0
#: More than this is not waited for, s: joint states so old are a matter for the watchdog.
LONGEST = 0.1
#: The longest lead, s: the gate takes commands at most 0.2 s ahead.
LONGEST_LEAD = 0.18
#: A longer lead is given up by this factor a command that was in time; commands that are waited for.
DECAY, COMMANDS = 0.97, 8


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


class Lead:
    """How far ahead of its making a command begins: further where the gate has had to begin commands later of late."""

    def __init__(self) -> None:
        self._extra = 0.0  # s
        self._sent: dict[int, tuple[float, float]] = {}  # sequence: stamp s, extra s

    def at_least(self, least: float) -> float:
        """The lead, s, where `least` s would do if everything were in time."""
        return min(least + self._extra, max(least, LONGEST_LEAD))

    def sent(self, sequence: int, stamp: float) -> None:
        """A command was sent that is to begin at `stamp` s."""
        self._sent = dict([*self._sent.items(), (sequence, (stamp, self._extra))][-COMMANDS:])

    def executed(self, sequence: int, stamp: float) -> bool:
        """The gate lets the command begin at `stamp` s; whether that is later than it was meant to.

        Others' sequence numbers are of no interest.
        """
        if sequence not in self._sent:
            return False
        wanted, extra = self._sent.pop(sequence)
        late = stamp - wanted
        self._extra = min(max(extra + late, self._extra), LONGEST_LEAD) if late > 1e-6 else DECAY * self._extra
        return late > 1e-6

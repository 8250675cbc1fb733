"""How often each input arrives and how old the newest is: for every node's diagnostics."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue


class Meter:
    """Counts one input. Receiving costs one addition and one look at the clock."""

    def __init__(self) -> None:
        self.count = 0
        self.last: float | None = None  # monotonic s
        self._before = (0, time.monotonic())  # count and time of the last report

    def tick(self) -> None:
        """One message came."""
        self.count += 1
        self.last = time.monotonic()

    def values(self) -> dict[str, str]:
        """Rate since the last call, age of the newest message (of real time), and how many there were."""
        now = time.monotonic()
        count, since = self._before
        rate = (self.count - count) / max(now - since, 1e-3)
        self._before = (self.count, now)
        age = "never" if self.last is None else f"{now - self.last:.3f}"
        return {"rate_hz": f"{rate:.1f}", "age_s": age, "received": str(self.count)}


class Meters(dict[str, Meter]):
    """Meters by topic."""

    def metered(self, topic: str, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`callback`, counted under `topic`. The meter survives a new configure."""
        meter = self.setdefault(topic, Meter())

        @functools.wraps(callback)
        def wrapper(message: Any) -> Any:
            meter.tick()
            return callback(message)

        return wrapper

    def all_values(self) -> dict[str, str]:
        """`rate_hz/joint_states: 100.0`, ..."""
        return {f"{key}/{topic}": v for topic, meter in self.items() for key, v in meter.values().items()}


def array_of(status: DiagnosticStatus, values: dict[str, Any], stamp: Any) -> DiagnosticArray:
    """A message with one status and its values as text."""
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message

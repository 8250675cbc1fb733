"""The register of slots: plain arrays, one row each, so that a checkpoint is a dictionary of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crl_node.data import MAX_SLOTS, Array
from crl_node.perception.config import SlotConfig
from crl_node.perception.motion import Motion
from crl_node.perception.shapes import Shapes

CAPACITY = MAX_SLOTS - 1  # row 0 of a belief is the body


class Register:
    """Slots that are in the belief (`used`), and slots lost from sight that may come back (`dormant`)."""

    def __init__(self, config: SlotConfig) -> None:
        m = CAPACITY
        self.ids: NDArray[np.int64] = np.zeros(m, np.int64)
        self.used: NDArray[np.bool_] = np.zeros(m, bool)
        self.dormant: NDArray[np.bool_] = np.zeros(m, bool)
        self.hue: Array = np.zeros((m, 3))  # unit vector in rgb
        self.shade: Array = np.zeros(m)  # mean length of the rgb vector
        self.brightness: Array = np.zeros(m)  # 0..1
        self.brightness_var: Array = np.ones(m)
        self.extent: Array = np.zeros(m)  # m
        self.height: Array = np.zeros(m)  # m
        self.existence: Array = np.zeros(m)
        self.visible: Array = np.zeros(m)
        self.age: Array = np.zeros(m)  # frames since birth
        self.counters: NDArray[np.int64] = np.array([1, 0], np.int64)  # next id, frames seen
        self.stamp: Array = np.full(1, np.nan)  # s, of the last frame
        self.motion = Motion(m, config)
        self.shapes = Shapes(m)

    def rows(self) -> NDArray[np.int64]:
        """Rows in the belief, in the order of their ids (so that a belief's rows do not hop)."""
        used = np.flatnonzero(self.used)
        return used[np.argsort(self.ids[used], kind="stable")]

    def free_row(self) -> int | None:
        """A row for a new slot: an empty one, else the dormant one lost first; None when all are in use."""
        empty = np.flatnonzero(~self.used & ~self.dormant)
        if empty.size:
            return int(empty[0])
        asleep = np.flatnonzero(self.dormant)
        return int(asleep[np.argmin(self.ids[asleep])]) if asleep.size else None

    def claim(self, row: int) -> None:
        """Give `row` a new identity, never used before."""
        self.ids[row] = self.counters[0]
        self.counters[0] += 1
        self.used[row], self.dormant[row] = True, False
        self.age[row] = 0
        self.existence[row], self.visible[row] = 0.6, 1.0
        self.brightness_var[row] = 1.0
        self.shapes.views[row] = 0.0

    def retire(self, row: int, *, remember: bool) -> None:
        """Take `row` out of the belief; remembered rows can be re-identified later."""
        self.used[row], self.dormant[row] = False, remember
        self.existence[row] = 0.0

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The live arrays by name."""
        found: dict[str, NDArray[np.generic]] = {}
        for prefix, part in (("slot", self), ("motion", self.motion), ("shape", self.shapes)):
            for name, value in vars(part).items():
                if isinstance(value, np.ndarray) and not name.startswith("_"):
                    found[f"{prefix}/{name}"] = value
        return found

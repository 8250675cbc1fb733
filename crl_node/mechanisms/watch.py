"""Noticing by itself that a mechanism changed: the last window of steps against everything before it.

Windows do not overlap. When one is full it is judged while the next one fills, one variable per call, so that the
work of a step stays bounded. The judgement is the one between environments (`comparison.compare`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import MAX_SLOTS, Array
from crl_node.mechanisms.environments import Sums, sums_of
from crl_node.mechanisms.statistics import Statistics
from crl_node.structure.comparison import ChangeConfig, compare
from crl_node.structure.variables import Variables


@dataclass(frozen=True)
class WatchConfig:
    """When a change is believed without being told."""

    window: int = 300  # steps
    warm_up: int = 600  # steps of an environment before its first window is judged
    certainty: float = 0.99  # probability of a change from which on it is acted on
    prior: ChangeConfig = ChangeConfig(change_rate=0.02, tolerance=0.25)


class Watch:
    """The windows of motion and brightness."""

    def __init__(self, blocks: tuple[Variables, Variables], config: WatchConfig | None = None) -> None:
        self.blocks, self.config = blocks, config or WatchConfig()
        self.restart()

    def restart(self) -> None:
        """Forget the windows: another environment has begun."""
        self.filling = self._empty()
        self.full: tuple[Statistics, Statistics] | None = None
        self.steps, self.age = 0, 0
        self._queue: list[tuple[int, int]] = []

    def drop_windows(self) -> None:
        """A column has become another term: what the windows hold of it does not compare."""
        age = self.age
        self.restart()
        self.age = age

    def _empty(self) -> tuple[Statistics, Statistics]:
        one, other = (Statistics(MAX_SLOTS, len(block.columns) + block.tail) for block in self.blocks)
        return one, other

    def stepped(self, used: NDArray[np.int_]) -> None:
        """One step has been added to `filling`; `used` are the slots there are."""
        self.steps += 1
        self.age += 1
        if self.steps < self.config.window:
            return
        self.steps, self.full, self.filling = 0, self.filling, self._empty()
        slots = [int(i) for i in used]
        due = self.age >= self.config.warm_up
        self._queue = [(n, i) for n in (0, 1) for i in slots if n == 0 or i] if due else []

    def judge_next(self, odds: tuple[Array, Array]) -> tuple[int, int, int, float] | None:
        """Judge one more variable of the full window; (block, slot, group, probability) when it changed for certain."""
        if not self._queue or self.full is None:
            return None
        number, slot = self._queue.pop(0)
        block = self.blocks[number]
        later = sums_of(self.full[number], slot)
        rest: Sums = block.sums(slot) - later - sums_of(self.filling[number], slot)
        found = compare(
            block.columns, rest, later, block.noise[slot], odds[number][slot], block.inclusion[slot], self.config.prior
        )
        group = int(np.argmax(found.changed))
        probability = float(found.changed[group])
        return (number, slot, group, probability) if probability > self.config.certainty else None

    def recent(self) -> tuple[Statistics, Statistics]:
        """What belongs to the new environment when a change was found: the full window and what came after it."""
        out = self._empty()
        for k in (0, 1):
            if self.full is not None:
                out[k].merge(self.full[k])
            out[k].merge(self.filling[k])
        return out

    def forget(self, slot: int) -> None:
        """Clear a slot for reuse, see `Statistics.forget`."""
        for k, block in enumerate(self.blocks):
            parents = np.append(block.columns.parent == slot, np.zeros(block.tail, bool))
            for statistics in (self.filling[k], *([self.full[k]] if self.full is not None else [])):
                statistics.forget(slot, parents)
        self._queue = [(n, i) for n, i in self._queue if i != slot]

"""Any engine on many candidate columns: it works on the few that could matter, the rest is judged alone.

Per variable a greedy climb finds a good set; the columns whose addition to it, or exchange for one of its members, has
the best odds go to the engine. All others get the probability of joining that set alone. With F columns the engine
costs what `most_columns` cost, and the screening O(m F) a move: a thousand candidates stay within reach of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array
from crl_node.structure.average import group_softmax
from crl_node.structure.engine import Engine, Particles, Support
from crl_node.structure.evidence import Bools, Problem, log_evidence, log_score
from crl_node.structure.neighbours import Batch, climb

#: Numbers in one block of neighbour scores: bounds memory.
_BLOCK = 6_000_000


class ScreenedEngine:
    """`engine` on the `most_columns` columns of each variable that could matter; see `engine.Engine`."""

    def __init__(self, make: Callable[[], Engine], *, most_columns: int = 96, most_moves: int = 60) -> None:
        """`make` returns the engine; a new one is made when other columns come into question."""
        self.make, self.most_columns, self.most_moves = make, most_columns, most_moves
        self.engine = make()
        self._best: Bools = np.zeros((0, 0), bool)
        self._columns: list[NDArray[np.int_]] = []

    def update(self, problems: Sequence[Problem]) -> None:
        """See `Engine`; climbs start from the best sets of last time."""
        self.problems = list(problems)
        count, width = len(problems), len(problems[0].group)
        self._outside = np.zeros((count, width))
        if width <= self.most_columns:
            self._restrict([np.arange(width)] * count)
            self.engine.update(problems)
            return
        if self._best.shape != (count, width):
            self._best = np.zeros((count, width), bool)
        columns = []
        rows = max(1, _BLOCK // (12 * width))
        for start in range(0, count, rows):
            block = list(problems[start : start + rows])
            variable = np.arange(len(block))
            sets = self._best[start : start + rows] & np.stack([p.allowed for p in block])
            score = np.array([float(log_score(p, s[None])[0]) for p, s in zip(block, sets, strict=True)])
            batch = Batch(block)
            sets, _ = climb(batch, variable, sets, score, most_moves=self.most_moves, exchanges=False)
            moves = batch.moves(variable, sets)
            promise = np.maximum(moves.add, moves.exchange.max(axis=1))
            promise[sets] = np.inf
            top = np.argpartition(-promise, self.most_columns - 1, axis=1)[:, : self.most_columns]
            columns += [np.sort(row) for row in top]
            self._best[start : start + rows] = sets
            for k, (problem, odds) in enumerate(zip(block, moves.add, strict=True)):
                self._outside[start + k] = group_softmax(problem, odds, np.isfinite(odds))
        self._restrict(columns)
        for k, chosen in enumerate(columns):
            self._outside[k, chosen] = 0.0
        self.engine.update([p.restricted(c) for p, c in zip(problems, columns, strict=True)])

    def _restrict(self, columns: list[NDArray[np.int_]]) -> None:
        """Warm starts go by position: with other columns the engine begins anew."""
        if len(columns) != len(self._columns) or not all(map(np.array_equal, columns, self._columns)):
            self.engine = self.make()
        self._columns = columns

    def log_evidence(self, variable: int, sets: Bools) -> Array:
        """See `Engine`."""
        return log_evidence(self.problems[variable], sets)

    def inclusion(self) -> Array:
        """See `Engine`."""
        out = self._outside.copy()
        for k, (chosen, inside) in enumerate(zip(self._columns, self.engine.inclusion(), strict=True)):
            out[k, chosen] = inside
        return out

    def sample(self, count: int, rng: np.random.Generator) -> list[Particles]:
        """See `Engine`. Columns that were judged alone stay out of all particles."""
        return [
            Particles(self._widened(k, particles.sets), particles.log_weight)
            for k, particles in enumerate(self.engine.sample(count, rng))
        ]

    def support(self, variable: int) -> Support:
        """See `Engine`; sets of the screened columns."""
        inner = self.engine.support(variable)
        return Support(
            self._widened(variable, inner.sets), inner.log_probability, inner.missed, inner.log_evidence
        )

    def _widened(self, variable: int, sets: Bools) -> Bools:
        out = np.zeros((len(sets), len(self.problems[variable].group)), bool)
        out[:, self._columns[variable]] = sets
        return out

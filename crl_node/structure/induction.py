"""Contact radii that the model finds for itself: where the evidence asks for another length, a dead alternative goes.

The grammar gives every PUSH three radii. When a pair has had enough contacts, radii from half to 1.4 times the sum of
the two extents are compared by their evidence beside the rest of the target's best term set, on the transitions in
`mechanisms.reservoir`. One that beats all three by `Config.margin` nats takes the place of the least probable of them,
and that column of the sums is computed anew from these transitions. A column that is silent outside of them is still
the column of a data matrix: the Gram matrix stays positive semidefinite.

Exact: all sums of the new column, but for approaches below `reservoir.LEAST`, in which a push is felt by less than
that. Earlier environments never met such a pair (`Reservoir.finish`), so the column is silent there.
Not done: rest lengths of springs. A spring acts in every step, also in those in which nothing happens and which nobody
keeps, so its sums cannot be computed anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crl_node.checkpoint import Arrays
from crl_node.data import MAX_SLOTS, Array, TermKind
from crl_node.mechanisms.environments import Sums
from crl_node.mechanisms.reservoir import LONGEST, Reservoir
from crl_node.mechanisms.statistics import REGIMES
from crl_node.mechanisms.tail import tail_features
from crl_node.mechanisms.terms import Scene, TermTable, features
from crl_node.structure.evidence import submatrix
from crl_node.structure.variables import Variables


@dataclass(frozen=True)
class Config:
    """When and among what a length is chosen."""

    factors: tuple[float, float, int] = (0.5, LONGEST, 37)  # shortest, longest x sum of extents, how many
    least_rows: int = 12  # transitions of a pair before it is judged, and
    growth: float = 1.4  # times as many before it is judged again
    margin: float = 6.0  # nats by which a length must beat every alternative: more than the log of how many are tried
    push: float = 3.0  # nats by which it must beat no push at all


@dataclass(frozen=True)
class Change:
    """One length that took the place of another."""

    target: int  # slot index
    column: int
    before: float  # m
    after: float  # m
    nats: float  # by which it beats the best alternative there was


class Induction:
    """Lengths of their own for PUSH columns of one model's motion variables."""

    def __init__(self, block: Variables, config: Config | None = None, capacity: int | None = None) -> None:
        self.block, self.config = block, config or Config()
        self.reservoir = Reservoir() if capacity is None else Reservoir(capacity)
        self.length = np.zeros((MAX_SLOTS, len(block.columns)))  # [S, F] m, 0: the grammar's
        self.judged = np.zeros((MAX_SLOTS, MAX_SLOTS), np.int64)  # transitions when the pair was last judged

    def applied(self, lengths: Array) -> Array:
        """The grammar's `lengths` [S, F] m with those that were found."""
        return np.where(self.length > 0.0, self.length, lengths)

    def judge(self, target: int, lengths: Array, scene: Scene, log_prior_odds: Array) -> Change | None:
        """Judge the pair of `target` that has most new contacts, if any has enough; the change that was made.

        `lengths` [S, F] m as they are, `scene` gives extents, rim and step, `log_prior_odds` [F].
        """
        count, judged = self.reservoir.count[target], self.judged[target]
        due = (count >= self.config.least_rows) & (count >= self.config.growth * judged)
        if not due.any():
            return None
        parent = int(np.argmax(np.where(due, count / np.maximum(judged, 1), -1.0)))
        self.judged[target, parent] = count[parent]
        columns = self.block.columns
        group = np.flatnonzero((columns.kind == TermKind.PUSH) & (columns.parent == parent))
        if not np.isfinite(log_prior_odds[group]).all():
            return None
        reach = scene.extent[target] + scene.extent[parent]
        candidates = np.linspace(*self.config.factors) * reach
        gain = self._gain(target, parent, np.concatenate([lengths[target, group], candidates]), lengths, scene)
        present, tried = gain[: len(group)], gain[len(group) :]
        best = int(np.argmax(tried))
        nats = float(tried[best] - present.max())
        if nats < self.config.margin or tried[best] < self.config.push:
            return None
        column = int(group[np.argmin(present)])
        found = Change(target, column, float(lengths[target, column]), float(candidates[best]), nats)
        self.length[target, column] = found.after
        self._recompute(found, parent, self.applied(lengths), scene)
        return found

    def _gain(self, target: int, parent: int, candidates: Array, lengths: Array, scene: Scene) -> Array:
        """[K] log evidence of a push at each of `candidates` m beside the rest of the best set, against none."""
        block, columns = self.block, self.block.columns
        rest = block.best[target] & ~((columns.kind == TermKind.PUSH) & (columns.parent == parent))
        members = np.flatnonzero(rest)
        count = len(candidates)
        table = TermTable(
            np.concatenate([columns.kind[members], np.full(count, TermKind.PUSH, np.int32)]),
            np.full(len(members) + count, target, np.int32),
            np.concatenate([columns.parent[members], np.full(count, parent, np.int32)]),
            np.concatenate([lengths[target, members], candidates]),
        )
        rows = self.reservoir.of(target, parent)
        phi = self._features(table, rows, scene)
        kept = {name: array[rows] for name, array in self.reservoir.rows.items()}
        inverse = 1.0 / np.square(block.noise[target])
        weight = (kept["weight"][:, target] * inverse[kept["regime"][:, target]])[:, None, None]
        pushed = phi[:, len(members) :]
        own = (weight * np.square(pushed)).sum(axis=(0, 2))
        cross = np.einsum("nmc,nkc->mk", weight * phi[:, : len(members)], pushed)
        moment = np.einsum("nkc,nc->k", weight * pushed, kept["change"][:, target])
        problem = block.problem(target, np.zeros(len(columns)))
        column = int(np.flatnonzero((columns.kind == TermKind.PUSH) & (columns.parent == parent))[0])
        mean, std = float(block.prior_mean[target, column]), float(block.prior_std[target, column])
        pivot, pull = 1.0 + std**2 * own, std * moment + mean / std
        if members.size:
            scaled = cross * std * block.prior_std[target, members, None]
            solved = np.linalg.solve(submatrix(problem.precision, members), scaled)
            pivot = pivot - (scaled * solved).sum(axis=0)
            pull = pull - problem.linear[members] @ solved
        pivot = np.maximum(pivot, 1.0)
        return np.asarray(0.5 * (np.square(pull) / pivot - np.log(pivot) - (mean / std) ** 2))

    def _features(self, table: TermTable, rows: np.ndarray, scene: Scene) -> Array:
        kept = self.reservoir.rows
        there = Scene(scene.extent, kept["here"][rows], scene.wall, scene.dt)
        return features(table, kept["state"][rows], kept["action"][rows], kept["body_step"][rows], there)[..., :2]

    def _recompute(self, change: Change, parent: int, lengths: Array, scene: Scene) -> None:
        """All sums of the changed column, from the transitions that are kept."""
        block, target, column = self.block, change.target, change.column
        rows = self.reservoir.of(target, parent)
        size = len(block.columns)
        table = TermTable(
            block.columns.kind, np.full(size, target, np.int32), block.columns.parent, lengths[target]
        )
        kept = self.reservoir.rows
        psi = tail_features(kept["state"][rows], kept["body_step"][rows])[:, target]  # [N, 2, T]
        phi = np.concatenate([self._features(table, rows, scene), psi.swapaxes(1, 2)[:, : block.tail]], axis=1)
        sums = Sums(*(np.zeros(shape) for shape in ((REGIMES, phi.shape[1]), (REGIMES,), (REGIMES,), (REGIMES,))))
        for r in range(REGIMES):
            weight = kept["weight"][rows, target] * (kept["regime"][rows, target] == r)
            part = weight[:, None] * phi[:, column]
            sums.gram[r] = np.einsum("nc,nfc->f", part, phi)
            sums.cross[r] = np.sum(part * kept["change"][rows, target])
        block.set_column(target, column, sums.gram, sums.cross)

    def finish(self) -> None:
        """Another environment begins."""
        self.reservoir.finish()
        self.judged[...] = 0

    def forget(self, slot: int) -> None:
        """Clear a slot for reuse, as target and as parent."""
        self.reservoir.forget(slot)
        self.judged[slot] = self.judged[:, slot] = 0
        self.length[slot] = 0.0
        self.length[:, self.block.columns.parent == slot] = 0.0
        self.block.experience.own = self.length > 0.0

    def merge(self, other: Induction) -> None:
        """Add another model's transitions; ValueError when it found other lengths."""
        if not np.array_equal(self.length, other.length):
            raise ValueError("the models have found different contact radii, their sums do not add: not merged")
        self.reservoir.merge(other.reservoir)

    def state(self) -> dict[str, Arrays]:
        """Arrays by name, for a checkpoint."""
        return {**self.reservoir.state(), "induced_length": self.length, "induced_judged": self.judged}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take over arrays written by `state`; ValueError when one does not fit."""
        length, judged = np.asarray(arrays["induced_length"], float), np.asarray(arrays["induced_judged"], np.int64)
        if length.shape != self.length.shape or judged.shape != self.judged.shape or not np.isfinite(length).all():
            raise ValueError(f"checkpoint array 'induced_length' has shape {length.shape}; not loaded")
        self.reservoir.restore(arrays)
        self.length, self.judged = length.copy(), judged.copy()
        self.block.experience.own = self.length > 0.0

"""Scores of every neighbour of many term sets at once: the arithmetic of chains and searches.

For B states, each a set M of one of V variables' problems, one call gives the log odds of every single move: add a
column, drop a member, exchange a member for a column. With K = Lambda_MM^-1, S = K Lambda_M:, w = K h_M:

  add j      pivot_j = Lambda_jj - Lambda_jM S_j,        pull_j = h_j - h_M' S_j
  drop i     log|Lambda| grows by log K_ii,              q falls by w_i^2 / K_ii
  i -> j     pivot_j + S_ij^2 / K_ii,                    pull_j + S_ij w_i / K_ii

and q grows by pull^2 / pivot, log|Lambda| by log pivot with what is added. Cost O(B m F) after B inverses of size m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array
from crl_node.structure.evidence import LEAST_RESIDUAL, Bools, Problem

#: A Schur complement of I + something positive semidefinite is >= 1; rounding may say otherwise.
_LEAST_PIVOT = 1.0


@dataclass(frozen=True)
class Moves:
    """Log odds, nats, of every neighbour of B states against the state itself; -inf where there is none."""

    members: NDArray[np.int_]  # [B, m] columns that are in, padded with -1
    add: Array  # [B, F]
    drop: Array  # [B, m]
    exchange: Array  # [B, m, F] member out, column in

    def flat(self) -> Array:
        """[B, F + m + m F] all of them side by side: add, drop, exchange."""
        return np.concatenate([self.add, self.drop, self.exchange.reshape(len(self.add), -1)], axis=1)

    def apply(self, sets: Bools, rows: NDArray[np.int_], choice: NDArray[np.int_]) -> Bools:
        """[N, F] the neighbours numbered `choice` [N] (as in `flat`) of the states `rows` [N] of `sets` [B, F]."""
        f, m = self.add.shape[1], self.members.shape[1]
        out = sets[rows].copy()
        n = np.arange(len(rows))
        adds = choice < f
        out[n[adds], choice[adds]] = True
        drops = (choice >= f) & (choice < f + m)
        out[n[drops], self.members[rows[drops], choice[drops] - f]] = False
        swaps = choice >= f + m
        which = choice[swaps] - f - m
        out[n[swaps], self.members[rows[swaps], which // f]] = False
        out[n[swaps], which % f] = True
        return out


class Batch:
    """The problems of V variables with the same columns, as stacked arrays. Equal precisions are stored once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """ValueError unless all problems have as many columns."""
        columns = len(problems[0].group)
        for number, problem in enumerate(problems):
            if len(problem.group) != columns:
                raise ValueError(f"variable {number} has {len(problem.group)} candidate columns, variable 0 {columns}")
        unique: dict[int, int] = {}
        self.owner = np.array([unique.setdefault(id(p.precision), len(unique)) for p in problems])
        kept = {self.owner[v]: p.precision for v, p in enumerate(problems)}
        self.precision = np.stack([kept[u] for u in range(len(unique))])  # [U, F, F]
        self.diagonal = np.stack([np.diag(p.precision) for p in problems])
        self.linear = np.stack([p.linear for p in problems])
        self.pull = np.stack([p.pull for p in problems])
        self.odds = np.stack([p.log_prior_odds for p in problems])
        self.shape = np.array([p.shape for p in problems])
        self.rate = np.array([p.rate for p in problems])
        self.group = np.stack([p.group for p in problems])  # [V, F]
        self.grouped = any(len(np.unique(p.group)) < columns for p in problems)
        self.size = np.stack([p.size_nats(np.arange(columns + 2)) for p in problems])
        self.problems = problems

    def fit(self, quadratic: Array, variable: NDArray[np.int_]) -> Array:
        """`Problem.fit` for `quadratic` [B, ...] of the variables [B]."""
        shape, rate = self.shape[variable], self.rate[variable]
        known = np.isinf(shape)
        if known.all():
            return np.asarray(0.5 * quadratic)
        extra = (slice(None),) + (None,) * (quadratic.ndim - 1)
        share = np.maximum(1.0 - 0.5 * quadratic / rate[extra], LEAST_RESIDUAL)
        student = -np.where(known, 0.0, shape)[extra] * np.log(share)
        return np.asarray(np.where(known[extra], 0.5 * quadratic, student) if known.any() else student)

    def moves(self, variable: NDArray[np.int_], sets: Bools, *, exchanges: bool = True) -> Moves:
        """Every neighbour of the states `sets` [B, F] of the variables [B]; without exchanges they stay -inf."""
        b, f = sets.shape
        count = sets.sum(axis=1)
        m = max(int(count.max(initial=0)), 1)
        order = np.argsort(~sets, axis=1, kind="stable")[:, :m]
        held = np.arange(m)[None] < count[:, None]  # [B, m]
        members = np.where(held, order, -1)
        safe = np.where(held, order, 0)
        owner = self.owner[variable]
        cross = self.precision[owner[:, None], safe]  # [B, m, F]
        cross *= held[:, :, None]
        inner = np.take_along_axis(cross, safe[:, None, :], axis=2) * held[:, None, :]
        diagonal = np.arange(m)
        inner[:, diagonal, diagonal] += ~held
        inverse = np.linalg.inv(inner)
        solved = inverse @ cross
        linear = self.linear[variable]
        own = np.take_along_axis(linear, safe, 1) * held
        mean = np.einsum("bij,bj->bi", inverse, own)
        pull_in = np.take_along_axis(self.pull[variable], safe, 1) * held
        quadratic = np.einsum("bi,bi->b", own, mean) - pull_in.sum(axis=1)
        pivot = np.maximum(self.diagonal[variable] - np.einsum("bmf,bmf->bf", cross, solved), _LEAST_PIVOT)
        rest = linear - np.einsum("bm,bmf->bf", own, solved)
        base = self.fit(quadratic, variable)
        size = self.size[variable]
        rows = np.arange(b)
        up = size[rows, count + 1] - size[rows, count]
        down = size[rows, np.maximum(count - 1, 0)] - size[rows, count]
        odds, cost = self.odds[variable], self.pull[variable]

        gained = self.fit(quadratic[:, None] + np.square(rest) / pivot - cost, variable) - base[:, None]
        add = gained - 0.5 * np.log(pivot) + odds + up[:, None]

        spread = np.where(held, np.diagonal(inverse, axis1=1, axis2=2), 1.0)
        left = quadratic[:, None] - np.square(mean) / spread + pull_in
        out_odds = np.where(held, np.take_along_axis(odds, safe, 1), 0.0)
        drop = self.fit(left, variable) - base[:, None] - 0.5 * np.log(spread) - out_odds + down[:, None]
        drop[~held] = -np.inf

        add[sets] = -np.inf
        group_of = np.where(held, np.take_along_axis(self.group[variable], safe, 1), -1)  # [B, m]
        if self.grouped:
            taken = group_of[:, :, None] == self.group[variable][:, None, :]  # [B, m, F]
            anyone = taken.sum(axis=1)
            add[anyone > 0] = -np.inf
        if not exchanges:
            return Moves(members, add, drop, np.full((b, m, f), -np.inf))

        ratio = solved / spread[:, :, None]
        pivot_swap = pivot[:, None, :] + solved * ratio
        rest_swap = rest[:, None, :] + ratio * mean[:, :, None]
        quadratic_swap = left[:, :, None] + np.square(rest_swap) / pivot_swap - cost[:, None, :]
        exchange = self.fit(quadratic_swap, variable) - base[:, None, None]
        exchange -= 0.5 * np.log(spread)[:, :, None] + 0.5 * np.log(pivot_swap)
        exchange += odds[:, None, :] - out_odds[:, :, None]
        exchange[~held] = -np.inf

        exchange[np.broadcast_to(sets[:, None, :], exchange.shape)] = -np.inf
        if self.grouped:
            exchange[(anyone[:, None, :] - taken) > 0] = -np.inf
        return Moves(members, add, drop, exchange)


def climb(
    batch: Batch, variable: NDArray[np.int_], sets: Bools, score: Array, *, most_moves: int, exchanges: bool = True
) -> tuple[Bools, Array]:
    """Greedy ascent of B states until none improves by one move: the sets [B, F] and scores [B] reached."""
    sets, score = sets.copy(), score.copy()
    active = np.arange(len(sets))
    for _ in range(most_moves):
        moves = batch.moves(variable[active], sets[active], exchanges=exchanges)
        flat = moves.flat()
        choice = np.argmax(flat, axis=1)
        gain = flat[np.arange(len(active)), choice]
        rows = np.flatnonzero(gain > 1e-9)
        if not rows.size:
            break
        sets[active[rows]] = moves.apply(sets[active], rows, choice[rows])
        score[active[rows]] += gain[rows]
        active = active[rows]
    return sets, score

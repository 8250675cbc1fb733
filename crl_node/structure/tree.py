"""The tree of decisions over term sets: columns are decided in or out one after the other, so a set has one path.

A node is a prefix of decisions together with a *completion*: the set that has the decided columns as decided and the
others as a greedy climb leaves them. Its precision is kept swept by the completion (Goodnight 1979, A tutorial on the
SWEEP operator), bordered with h: what any column's being in or out is worth next to the rest can be read off in O(F).

The flow of a node, F(s) = sum over all sets below it of p(y, M), is expanded around its completion: columns taken as
independent given the completion, the prior on the size exactly (a Poisson-binomial sum). With flows of both children a
decision's probability is F(child) / sum of F(children); what the expansion misses is left to a learned correction.
Exact where columns are orthogonal and the noise is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from crl_node.data import Array
from crl_node.structure.evidence import Bools, Problem, log_score
from crl_node.structure.neighbours import Batch, climb

Ints = NDArray[np.int_]
#: Log odds beyond which a column counts as certain [nats]; keeps exponentials finite.
_CERTAIN = 300.0
#: Moves to the reference, at most.
_MOST_MOVES = 64
#: Numbers that describe a decision, and those that describe what it does to one open column.
GLOBAL, PAIR = 20, 10


@dataclass
class Nodes:
    """B nodes with `start` columns decided. Columns are in the order of decision of their variable."""

    start: int
    owner: Ints  # [B] variable
    swept: Array  # [B, n + 1, n + 1] Lambda bordered by h, swept by the completion; only the n columns still open
    sets: Bools  # [B, F] the completion
    score: Array  # [B] nats, log p(y, M) of the completion

    def take(self, rows: Ints | Bools) -> Nodes:
        """The nodes `rows`, copied."""
        return Nodes(self.start, self.owner[rows], self.swept[rows], self.sets[rows], self.score[rows])

    def decided(self) -> Nodes:
        """The same with the next column decided as in the completion; shares memory."""
        return Nodes(self.start + 1, self.owner, self.swept[:, 1:, 1:], self.sets, self.score)

    @property
    def open(self) -> Bools:
        """[B, n] the completion's part that is not decided."""
        return self.sets[:, self.start :]

    @property
    def diagonal(self) -> Array:
        """[B, n] pivots of columns that are out, variances of those that are in (positive)."""
        return np.abs(np.diagonal(self.swept, axis1=1, axis2=2)[:, :-1])

    def __len__(self) -> int:
        return len(self.owner)


def joined(parts: Sequence[Nodes]) -> Nodes:
    """All nodes of `parts`."""
    return Nodes(
        parts[0].start,
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("owner", "swept", "sets", "score")),
    )


@dataclass(frozen=True)
class Features:
    """What the correction of a decision sees, of B decisions with n columns still open."""

    row: NDArray[np.float32]  # [B, GLOBAL]
    pair: NDArray[np.float32]  # [B, n, PAIR]


@dataclass
class Step:
    """Both children of B nodes at the decision of one column."""

    kept: Nodes  # [B] children in which the column is as in the completion
    flipped: Nodes  # [R] children in which it is not
    rows: Ints  # [R] which nodes may flip: only these have a flipped child and features
    logit: Array  # [B] log odds of flipping by the expansion, -inf where the column may not flip
    features: Features


class Tree:
    """Trees of V variables that are walked in step. Deterministic."""

    def __init__(self, problems: Sequence[Problem], starts: Bools | None = None, *, climbs: int = 4) -> None:
        """`starts` [V, F]: sets from which the reference climbs, for a warm start."""
        self.batch = Batch(problems)
        self.climbs = climbs
        v, f = self.batch.linear.shape
        self.variables, self.columns = v, f
        none = np.zeros((v, f), bool)
        each = np.arange(v)
        reference, score = climb(self.batch, each, none, _scores(problems, none), most_moves=_MOST_MOVES)
        if starts is not None:
            other, found = climb(self.batch, each, starts, _scores(problems, starts), most_moves=_MOST_MOVES)
            better = found > score
            reference[better] = other[better]
        self.reference = reference
        moves = self.batch.moves(each, reference, exchanges=False)
        # What is in comes first, then what is likeliest to come in.
        rank = np.where(reference, np.inf, np.maximum(moves.add, -1e9))
        rank[~np.isfinite(self.batch.odds)] = -np.inf
        self.order = np.argsort(-rank, axis=1, kind="stable")  # [V, F] position -> column
        at = (np.arange(v)[:, None], self.order)
        self.odds, self.pull = self.batch.odds[at], self.batch.pull[at]
        self.group = np.take_along_axis(self.batch.group, self.order, 1)  # [V, F]
        self.same = self._same()
        self.root = self._root(problems)

    def _same(self) -> Bools:
        """[V, F, F] which columns are of one group; empty where groups are single columns."""
        if not self.batch.grouped:
            return np.zeros((0, 0, 0), bool)
        return np.asarray(self.group[:, :, None] == self.group[:, None, :])

    def _root(self, problems: Sequence[Problem]) -> Nodes:
        v, f = self.variables, self.columns
        swept = np.zeros((v, f + 1, f + 1))
        own = self.batch.precision[self.batch.owner]
        swept[:, :f, :f] = own[np.arange(v)[:, None, None], self.order[:, :, None], self.order[:, None, :]]
        swept[:, :f, f] = swept[:, f, :f] = np.take_along_axis(self.batch.linear, self.order, 1)
        nodes = Nodes(0, np.arange(v), swept, np.zeros((v, f), bool), _scores(problems, self.reference))
        wanted = np.take_along_axis(self.reference, self.order, 1)
        for t in range(f):
            rows = np.flatnonzero(wanted[:, t])
            if rows.size:
                _sweep(nodes, rows, np.full(len(rows), t))
        return nodes

    def odds_in(self, nodes: Nodes) -> Array:
        """[B, n] log odds of in against out of each open column next to the rest of the completion.

        The prior on the size is left out. -inf for what may not come in: forbidden columns and those whose group is
        held by another.
        """
        owner, member, start = nodes.owner, nodes.open, nodes.start
        diagonal = nodes.diagonal
        sign = np.where(member, -1.0, 1.0)
        # Lambda >= I: pivots are >= 1 and members' variances <= 1, whatever rounding says.
        diagonal = np.where(member, np.clip(diagonal, 1e-30, 1.0), np.maximum(diagonal, 1.0))
        quadratic = self.quadratic(nodes)
        other = quadratic[:, None] + sign * (
            np.square(nodes.swept[:, :-1, -1]) / diagonal - self.pull[owner, start:]
        )
        fit = self.batch.fit(np.concatenate([other, quadratic[:, None]], axis=1), owner)
        odds = sign * (fit[:, :-1] - fit[:, -1:] - 0.5 * np.log(diagonal)) + self.odds[owner, start:]
        if self.batch.grouped:
            held = np.einsum("bi,bij->bj", nodes.sets, self.same[owner][:, :, start:]) > 0
            odds[held & ~member] = -np.inf
        return np.asarray(odds)

    def quadratic(self, nodes: Nodes) -> Array:
        """[B] q of the completion, see `evidence`."""
        return np.asarray(-nodes.swept[:, -1, -1] - np.einsum("bf,bf->b", self.pull[nodes.owner], nodes.sets))

    def size_steps(self, nodes: Nodes) -> tuple[Array, Array]:
        """[B] nats by which the prior on the size changes with one column more, and with one less."""
        size, r, count = self.batch.size[nodes.owner], np.arange(len(nodes)), nodes.sets.sum(axis=1)
        now = size[r, count]
        return size[r, count + 1] - now, size[r, np.maximum(count - 1, 0)] - now

    def flip(self, nodes: Nodes, rows: Ints, columns: Ints, odds: Array) -> None:
        """Flip one open column [R] of the nodes `rows` [R] in place; `odds` [B, n] as `odds_in` gives them.

        A column that comes in drives out the open column that holds its group.
        """
        r = np.arange(len(rows))
        member = nodes.open[rows, columns]
        if self.batch.grouped:
            same = self.same[nodes.owner[rows], columns + nodes.start][:, nodes.start :]
            rival = same & nodes.open[rows] & ~member[:, None]
            swap = np.flatnonzero(rival.any(axis=1))
            if swap.size:
                self.flip(nodes, rows[swap], np.argmax(rival[swap], axis=1), odds)
                fresh = odds.copy()
                fresh[rows[swap]] = self.odds_in(nodes.take(rows[swap]))
                self.flip(nodes, rows, columns, fresh)
                return
        count = nodes.sets[rows].sum(axis=1)
        size = self.batch.size[nodes.owner[rows]]
        after = np.where(member, count - 1, count + 1)
        gained = np.where(member, -1.0, 1.0) * odds[rows, columns]
        nodes.score[rows] += gained + size[r, after] - size[r, count]
        _sweep(nodes, rows, columns)

    def flow(self, nodes: Nodes, odds: Array) -> Array:
        """[B] log F of the nodes: the expansion around their completion. `odds` [B, n] as `odds_in` gives them."""
        size = self.batch.size[nodes.owner]
        rows = np.arange(len(nodes))
        count = nodes.sets.sum(axis=1)
        before = nodes.sets[:, : nodes.start].sum(axis=1)
        tilt = self.size_steps(nodes)[0]
        free = np.clip(odds, -_CERTAIN, _CERTAIN)
        lifted = free + tilt[:, None]
        inside = np.where(nodes.open, free, 0.0).sum(axis=1)
        width = lifted.shape[1]
        if self.batch.grouped and width:
            lifted = _by_group(lifted, self.group[nodes.owner, nodes.start :])
        total = np.logaddexp(0.0, lifted)
        p, q = np.exp(lifted - total).T.copy(), np.exp(-total).T.copy()
        # Distribution of the number of open columns that are in; axes turned, so that a column is contiguous.
        mass = np.zeros((width + 1, len(nodes)))
        mass[0] = 1.0
        for j in range(width):
            moved = mass[: j + 1] * p[j]
            mass[: j + 1] *= q[j]
            mass[1 : j + 2] += moved
        m = np.arange(width + 1)
        reach = np.minimum(before[:, None] + m, size.shape[1] - 1)
        weight = size[rows[:, None], reach] - size[rows, count][:, None] - tilt[:, None] * m
        top = weight.max(axis=1)
        spread = np.log(np.einsum("mb,bm->b", mass, np.exp(weight - top[:, None]))) + top
        return np.asarray(nodes.score - inside + total.sum(axis=1) + spread)

    def step(self, nodes: Nodes) -> Step:
        """Both children of `nodes` at the decision of their next column."""
        t = nodes.start
        odds = self.odds_in(nodes)
        able = np.isfinite(self.odds[nodes.owner, t])
        if self.batch.grouped and t:
            able &= ~(self.same[nodes.owner, t, :t] & nodes.sets[:, :t]).any(axis=1)
        rows = np.flatnonzero(able)
        whole = nodes.take(rows)
        self.flip(whole, np.arange(len(rows)), np.zeros(len(rows), int), odds[rows])
        flipped = whole.decided()
        changed = self.climb(flipped)
        kept = nodes.decided()
        keep = self.flow(kept, odds[:, 1:])
        logit = np.full(len(nodes), -np.inf)
        logit[rows] = self.flow(flipped, changed) - keep[rows]
        part = nodes if able.all() else nodes.take(rows)
        features = self.features(part, flipped, odds[rows], changed, logit[rows])
        return Step(kept, flipped, rows, logit, features)

    def climb(self, nodes: Nodes) -> Array:
        """Improve the completions by flips of open columns, in place; returns their `odds_in` [B, n]."""
        odds = self.odds_in(nodes)
        if not odds.shape[1] or not len(nodes):
            return odds
        rows = np.arange(len(nodes))
        for _ in range(self.climbs):
            part = nodes if len(rows) == len(nodes) else nodes.take(rows)
            up, down = self.size_steps(part)
            gain = np.where(part.open, -odds[rows] + down[:, None], odds[rows] + up[:, None])
            best = np.argmax(gain, axis=1)
            go = gain[np.arange(len(rows)), best] > 1e-9
            if not go.any():
                break
            rows, best = rows[go], best[go]
            self.flip(nodes, rows, best, odds)
            odds[rows] = self.odds_in(nodes.take(rows))
        return odds

    def features(self, nodes: Nodes, flipped: Nodes, odds: Array, changed: Array, logit: Array) -> Features:
        """What the correction sees of the decisions: numbers of about unit size, see `GLOBAL` and `PAIR`."""
        n = odds.shape[1] - 1
        shape, rate = self.batch.shape[nodes.owner], self.batch.rate[nodes.owner]
        known = np.isinf(shape)
        diagonal = nodes.diagonal
        line = nodes.swept[:, 0, :]
        row = np.empty((len(nodes), GLOBAL), np.float32)
        pair = np.empty((len(nodes), n, PAIR), np.float32)
        row[:, 0] = squash(logit)
        row[:, 1] = squash(odds[:, 0])
        row[:, 2] = nodes.open[:, 0]
        row[:, 3] = n / 16.0
        row[:, 4] = np.where(known, 0.0, 4.0 / np.where(known, 1.0, shape))
        row[:, 5] = squash(np.square(line[:, -1]) / diagonal[:, 0])
        for k, (child, g) in enumerate(((nodes.decided(), odds[:, 1:]), (flipped, changed))):
            tilt = self.size_steps(child)[0]
            p = expit(g + tilt[:, None])
            vague = p * (1.0 - p)
            across = child.diagonal
            square = np.square(child.swept[:, :n, :n])
            entangled = np.matmul(square, (vague / across)[:, :, None])[:, :, 0] / across - vague
            left = np.where(known, 0.0, np.log(np.maximum(1.0 - 0.5 * self.quadratic(child) / rate, 1e-13)))
            row[:, 6 + 7 * k] = child.sets.sum(axis=1) / 8.0
            row[:, 7 + 7 * k] = child.sets[:, : child.start].sum(axis=1) / 8.0
            row[:, 8 + 7 * k] = tilt / 4.0
            row[:, 9 + 7 * k] = p.sum(axis=1) / 4.0
            row[:, 10 + 7 * k] = vague.sum(axis=1)
            row[:, 11 + 7 * k] = left / 4.0
            row[:, 12 + 7 * k] = (entangled * vague).sum(axis=1)
            pair[:, :, 4 * k] = p
            pair[:, :, 4 * k + 1] = squash(g)
            pair[:, :, 4 * k + 2] = child.open
            pair[:, :, 4 * k + 3] = np.minimum(entangled, 10.0)
        share = line[:, 1:-1] / diagonal[:, 1:] / diagonal[:, :1]
        pair[:, :, 8] = np.minimum(share * line[:, 1:-1], 1.0)
        pair[:, :, 9] = squash(share * line[:, -1:] * nodes.swept[:, 1:-1, -1])
        return Features(row, pair)


def squash(value: Array) -> Array:
    """Odd, about linear below 2, logarithmic beyond; infinities become large."""
    return np.asarray(np.arcsinh(np.clip(value, -1e6, 1e6) / 2.0) / 2.0)


def _by_group(lifted: Array, group: NDArray[np.int32]) -> Array:
    """[B, n] columns of a group as one: the log of their odds' sum at the first of them, -inf at the others."""
    same = group[:, :, None] == group[:, None, :]
    first = ~np.tril(same, -1).any(axis=2)
    top = np.where(same, lifted[:, None, :], -np.inf).max(axis=2)
    safe = np.maximum(top, -_CERTAIN)
    total = safe + np.log(
        np.maximum(np.where(same, np.exp(lifted[:, None, :] - safe[:, :, None]), 0.0).sum(2), 1e-300)
    )
    return np.asarray(np.where(first, total, -2 * _CERTAIN))


def _sweep(nodes: Nodes, rows: Ints, columns: Ints) -> None:
    """Sweep open columns [R] of the nodes `rows` [R] in or out, in place."""
    picked = nodes.swept[rows]
    r = np.arange(len(rows))
    line = picked[r, columns]
    pivot = line[r, columns]
    sign = np.where(nodes.open[rows, columns], -1.0, 1.0)
    ratio = line / pivot[:, None]
    picked -= line[:, :, None] * ratio[:, None, :]
    picked[r, columns, :] = picked[r, :, columns] = ratio * sign[:, None]
    picked[r, columns, columns] = -1.0 / pivot
    nodes.swept[rows] = picked
    nodes.sets[rows, columns + nodes.start] ^= True


def _scores(problems: Sequence[Problem], sets: Bools) -> Array:
    return np.array([float(log_score(p, s[None])[0]) for p, s in zip(problems, sets, strict=True)])

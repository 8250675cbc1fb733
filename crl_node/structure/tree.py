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
from crl_node.structure.neighbours import Batch

Ints = NDArray[np.int_]
#: Log odds beyond which a column counts as certain [nats]; keeps exponentials finite.
_CERTAIN = 300.0
#: Numbers that describe a decision, and those that describe what it does to one open column.
GLOBAL, PAIR = 20, 10


@dataclass
class Nodes:
    """B nodes. Columns are in the order of decision of their variable."""

    owner: Ints  # [B] variable
    swept: Array  # [B, F + 1, F + 1] Lambda bordered by h, swept by the completion
    sets: Bools  # [B, F] the completion
    score: Array  # [B] nats, log p(y, M) of the completion

    def take(self, rows: Ints | Bools) -> Nodes:
        """The nodes `rows`, copied."""
        return Nodes(self.owner[rows], self.swept[rows], self.sets[rows], self.score[rows])

    def __len__(self) -> int:
        return len(self.owner)


def joined(parts: Sequence[Nodes]) -> Nodes:
    """All nodes of `parts`."""
    return Nodes(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("owner", "swept", "sets", "score"))
    )


@dataclass(frozen=True)
class Features:
    """What the correction of a decision sees, of B decisions with n columns still open."""

    row: NDArray[np.float32]  # [B, GLOBAL]
    pair: NDArray[np.float32]  # [B, n, PAIR]


@dataclass
class Step:
    """Both children of B nodes at the decision of one column."""

    flipped: Nodes  # [B] children in which the column is other than in the completion
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
        reference = _climbed(self.batch, np.zeros((v, f), bool))
        if starts is not None:
            other = _climbed(self.batch, starts)
            better = _scores(problems, other) > _scores(problems, reference)
            reference[better] = other[better]
        self.reference = reference
        moves = self.batch.moves(np.arange(v), reference)
        # What is in comes first, then what is likeliest to come in.
        rank = np.where(reference, np.inf, np.maximum(moves.add, -1e9))
        rank[~np.isfinite(self.batch.odds)] = -np.inf
        self.order = np.argsort(-rank, axis=1, kind="stable")  # [V, F] position -> column
        at = (np.arange(v)[:, None], self.order)
        self.odds, self.pull = self.batch.odds[at], self.batch.pull[at]
        self.group = self.batch.group[self.order]  # [V, F]
        self.same = self.group[:, :, None] == self.group[:, None, :]  # [V, F, F]
        self.root = self._root(problems)

    def _root(self, problems: Sequence[Problem]) -> Nodes:
        v, f = self.variables, self.columns
        swept = np.zeros((v, f + 1, f + 1))
        own = self.batch.precision[self.batch.owner]
        swept[:, :f, :f] = own[np.arange(v)[:, None, None], self.order[:, :, None], self.order[:, None, :]]
        swept[:, :f, f] = swept[:, f, :f] = np.take_along_axis(self.batch.linear, self.order, 1)
        nodes = Nodes(np.arange(v), swept, np.zeros((v, f), bool), _scores(problems, self.reference))
        wanted = np.take_along_axis(self.reference, self.order, 1)
        for t in range(f):
            rows = np.flatnonzero(wanted[:, t])
            if rows.size:
                _sweep(nodes, rows, np.full(len(rows), t))
        return nodes

    def odds_in(self, nodes: Nodes) -> Array:
        """[B, F] log odds of in against out of each column next to the rest of the completion, size prior left out.

        -inf for what may not come in: forbidden columns and those whose group is held by another.
        """
        f = self.columns
        owner = nodes.owner
        diagonal = np.abs(np.diagonal(nodes.swept, axis1=1, axis2=2)[:, :f])
        sign = np.where(nodes.sets, -1.0, 1.0)
        # Lambda >= I: pivots are >= 1 and members' variances <= 1, whatever rounding says.
        diagonal = np.where(nodes.sets, np.clip(diagonal, 1e-30, 1.0), np.maximum(diagonal, 1.0))
        pull = self.pull[owner]
        quadratic = -nodes.swept[:, f, f] - np.where(nodes.sets, pull, 0.0).sum(axis=1)
        other = quadratic[:, None] + sign * (np.square(nodes.swept[:, :f, f]) / diagonal - pull)
        fit = self.batch.fit(np.concatenate([other, quadratic[:, None]], axis=1), owner)
        odds = sign * (fit[:, :f] - fit[:, f:] - 0.5 * np.log(diagonal)) + self.odds[owner]
        if self.batch.grouped:
            held = np.einsum("bi,bij->bj", nodes.sets, self.same[owner]) > 0
            odds[held & ~nodes.sets] = -np.inf
        return odds

    def flip(self, nodes: Nodes, rows: Ints, columns: Ints, odds: Array) -> None:
        """Flip one column [R] of the nodes `rows` [R] in place; `odds` [B, F] as `odds_in` gives them."""
        count = nodes.sets.sum(axis=1)[rows]
        member = nodes.sets[rows, columns]
        if self.batch.grouped:
            rival = self.same[nodes.owner[rows], columns] & nodes.sets[rows]
            rival[np.arange(len(rows)), columns] = False
            swap = np.flatnonzero(rival.any(axis=1))
            if swap.size:
                self.flip(nodes, rows[swap], np.argmax(rival[swap], axis=1), odds)
                fresh = odds.copy()
                fresh[rows[swap]] = self.odds_in(nodes.take(rows[swap]))
                self.flip(nodes, rows, columns, fresh)
                return
        size = self.batch.size[nodes.owner[rows]]
        r = np.arange(len(rows))
        after = np.where(member, count - 1, count + 1)
        gained = np.where(member, -1.0, 1.0) * odds[rows, columns]
        nodes.score[rows] += gained + size[r, after] - size[r, count]
        _sweep(nodes, rows, columns)

    def flow(self, nodes: Nodes, odds: Array, start: int) -> Array:
        """[B] log F of nodes with columns < start decided: the expansion around their completion."""
        size = self.batch.size[nodes.owner]
        rows = np.arange(len(nodes))
        count = nodes.sets.sum(axis=1)
        decided = nodes.sets[:, :start].sum(axis=1)
        tilt = size[rows, count + 1] - size[rows, count]
        free = np.clip(odds[:, start:], -_CERTAIN, _CERTAIN)
        member = nodes.sets[:, start:]
        lifted = free + tilt[:, None]
        inside = np.where(member, free, 0.0).sum(axis=1)
        if self.batch.grouped and start < self.columns:
            lifted = _by_group(lifted, self.group[nodes.owner, start:])
        total = np.logaddexp(0.0, lifted)
        width = lifted.shape[1]
        p = np.exp(lifted - total)
        q = np.exp(-total)
        mass = np.zeros((len(nodes), width + 1))
        mass[:, 0] = 1.0
        for j in range(width):
            moved = mass[:, : j + 1] * p[:, j : j + 1]
            mass[:, : j + 2] *= q[:, j : j + 1]
            mass[:, 1 : j + 2] += moved
        m = np.arange(width + 1)
        reach = np.minimum(decided[:, None] + m, size.shape[1] - 1)
        weight = size[rows[:, None], reach] - size[rows, count][:, None] - tilt[:, None] * m
        top = weight.max(axis=1)
        spread = np.log((mass * np.exp(weight - top[:, None])).sum(axis=1)) + top
        return np.asarray(nodes.score - inside + total.sum(axis=1) + spread)

    def step(self, nodes: Nodes, t: int) -> Step:
        """Both children of `nodes` at the decision of column t."""
        odds = self.odds_in(nodes)
        flipped = nodes.take(np.arange(len(nodes)))
        able = np.isfinite(self.odds[nodes.owner, t])
        if self.batch.grouped and t:
            held = (self.same[nodes.owner, t, :t] & nodes.sets[:, :t]).any(axis=1)
            able &= ~held
        rows = np.flatnonzero(able)
        changed = odds.copy()
        if rows.size:
            self.flip(flipped, rows, np.full(len(rows), t), odds)
            self.climb(flipped, rows, t + 1, changed)
        keep = self.flow(nodes, odds, t + 1)
        change = self.flow(flipped, changed, t + 1)
        logit = np.where(able, change - keep, -np.inf)
        return Step(flipped, logit, self.features(nodes, flipped, odds, changed, logit, t))

    def climb(self, nodes: Nodes, rows: Ints, start: int, odds: Array) -> None:
        """Improve the completions of `rows` by flips of columns >= start, in place; `odds` is brought up to date."""
        for _ in range(self.climbs + 1):
            part = nodes.take(rows)
            fresh = self.odds_in(part)
            odds[rows] = fresh
            if start >= self.columns:
                return
            size = self.batch.size[part.owner]
            count = part.sets.sum(axis=1)
            r = np.arange(len(rows))
            up = size[r, count + 1] - size[r, count]
            down = size[r, np.maximum(count - 1, 0)] - size[r, count]
            gain = np.where(part.sets, -fresh + down[:, None], fresh + up[:, None])[:, start:]
            best = np.argmax(gain, axis=1)
            go = gain[r, best] > 1e-9
            if not go.any():
                return
            rows, best = rows[go], best[go]
            self.flip(nodes, rows, best + start, odds)
        odds[rows] = self.odds_in(nodes.take(rows))

    def features(self, nodes: Nodes, flipped: Nodes, odds: Array, changed: Array, logit: Array, t: int) -> Features:
        """What the correction sees of the decision of column t: numbers of about unit size, see `GLOBAL` and `PAIR`."""
        f, n = self.columns, self.columns - t - 1
        owner, r = nodes.owner, np.arange(len(nodes))
        size, shape, rate = self.batch.size[owner], self.batch.shape[owner], self.batch.rate[owner]
        pair = np.zeros((len(nodes), n, PAIR), np.float32)
        known = np.isinf(shape)
        row = np.empty((len(nodes), GLOBAL), np.float32)
        scaled = np.square(nodes.swept[:, :f, f]) / np.abs(np.diagonal(nodes.swept, axis1=1, axis2=2)[:, :f])
        row[:, 0] = squash(logit)
        row[:, 1] = squash(odds[:, t])
        row[:, 2] = nodes.sets[:, t]
        row[:, 3] = n / 16.0
        row[:, 4] = np.where(known, 0.0, 4.0 / np.where(known, 1.0, shape))
        row[:, 5] = squash(scaled[:, t])
        for k, (child, g) in enumerate(((nodes, odds), (flipped, changed))):
            count = child.sets.sum(axis=1)
            tilt = size[r, count + 1] - size[r, count]
            p = expit(g[:, t + 1 :] + tilt[:, None])
            open_ = p * (1.0 - p)
            square = np.square(child.swept[:, t + 1 : f, t + 1 : f])
            diagonal = np.abs(np.diagonal(child.swept, axis1=1, axis2=2)[:, t + 1 : f])
            entangled = np.einsum("bjl,bl->bj", square, open_ / diagonal) / diagonal - open_
            quadratic = -child.swept[:, f, f] - np.where(child.sets, self.pull[owner], 0.0).sum(axis=1)
            left = np.where(known, 0.0, np.log(np.maximum(1.0 - 0.5 * quadratic / rate, 1e-13)))
            row[:, 6 + 7 * k] = count / 8.0
            row[:, 7 + 7 * k] = child.sets[:, : t + 1].sum(axis=1) / 8.0
            row[:, 8 + 7 * k] = tilt / 4.0
            row[:, 9 + 7 * k] = p.sum(axis=1) / 4.0
            row[:, 10 + 7 * k] = open_.sum(axis=1)
            row[:, 11 + 7 * k] = left / 4.0
            row[:, 12 + 7 * k] = (entangled * open_).sum(axis=1)
            pair[:, :, 4 * k] = p
            pair[:, :, 4 * k + 1] = squash(g[:, t + 1 :])
            pair[:, :, 4 * k + 2] = child.sets[:, t + 1 :]
            pair[:, :, 4 * k + 3] = np.minimum(entangled, 10.0)
        line = nodes.swept[:, t, :]
        diagonal = np.abs(np.diagonal(nodes.swept, axis1=1, axis2=2)[:, :f])
        share = line[:, t + 1 : f] / diagonal[:, t + 1 :] / diagonal[:, t : t + 1]
        pair[:, :, 8] = np.minimum(share * line[:, t + 1 : f], 1.0)
        pair[:, :, 9] = squash(share * nodes.swept[:, t : t + 1, f] * nodes.swept[:, t + 1 : f, f])
        return Features(row, pair)


def squash(value: Array) -> Array:
    """Odd, about linear below 2, logarithmic beyond; infinities become large."""
    return np.asarray(np.arcsinh(np.clip(value, -1e6, 1e6) / 2.0) / 2.0)


def _by_group(lifted: Array, group: Ints) -> Array:
    """[B, n] columns of a group as one: the log of their odds' sum at the first of them, -inf at the others."""
    same = group[:, :, None] == group[:, None, :]
    first = ~np.tril(same, -1).any(axis=2)
    top = np.where(same, lifted[:, None, :], -np.inf).max(axis=2)
    safe = np.maximum(top, -_CERTAIN)
    total = safe + np.log(np.maximum(np.where(same, np.exp(lifted[:, None, :] - safe[:, :, None]), 0.0).sum(2), 1e-300))
    return np.asarray(np.where(first, total, -2 * _CERTAIN))


def _sweep(nodes: Nodes, rows: Ints, columns: Ints) -> None:
    """Sweep columns [R] of the nodes `rows` [R] in or out, in place."""
    picked = nodes.swept[rows]
    r = np.arange(len(rows))
    line = picked[r, columns]
    pivot = line[r, columns]
    sign = np.where(nodes.sets[rows, columns], -1.0, 1.0)
    ratio = line / pivot[:, None]
    picked -= line[:, :, None] * ratio[:, None, :]
    picked[r, columns, :] = picked[r, :, columns] = ratio * sign[:, None]
    picked[r, columns, columns] = -1.0 / pivot
    nodes.swept[rows] = picked
    nodes.sets[rows, columns] ^= True


def _climbed(batch: Batch, sets: Bools, most: int = 64) -> Bools:
    """[V, F] sets after the best single moves (add, drop, exchange) while any helps."""
    sets = sets.copy()
    rows = np.arange(len(sets))
    for _ in range(most):
        moves = batch.moves(rows, sets[rows])
        flat = moves.flat()
        choice = np.argmax(flat, axis=1)
        better = np.flatnonzero(flat[np.arange(len(rows)), choice] > 1e-9)
        if not better.size:
            break
        sets[rows[better]] = moves.apply(sets[rows], better, choice[better])
        rows = rows[better]
    return sets


def _scores(problems: Sequence[Problem], sets: Bools) -> Array:
    return np.array([float(log_score(p, s[None])[0]) for p, s in zip(problems, sets, strict=True)])

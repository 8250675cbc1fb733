"""Branch and bound over the term sets of one problem: the sum over all sets, or over all but a bounded mass.

Columns are decided one after the other; all prefixes of a block are carried together as arrays. With M the columns
taken and R those not yet decided, a prefix holds two bordered matrices [R + 1, R + 1],

  A = [[C, u], [u', -q]],   C = Lambda_RR - Lambda_RM Lambda_MM^-1 Lambda_MR,  u = h_R - Lambda_RM Lambda_MM^-1 h_M,
  B = [[K, v], [v',  Q]],   K = C^-1,  v = K u,  q = h_M' Lambda_MM^-1 h_M,  Q = q + u' K u.

Taking the first column is a Schur complement of A and strikes a row off B; leaving it out is the reverse. A set costs
a few operations and no factorisation of its own.

Bound. Q is what M and all of R together would explain, more than any completion does. A pivot only shrinks as more is
conditioned on, so every pivot of column j is at least 1 / K_jj of the whole problem, and at least 1. Pulls are >= 0.
Hence the completions M + S, S not empty, of a prefix have together at most the mass

  exp(c - 1/2 log|Lambda_MM| + fit(Q)) p(M) sum_S prod_(j in S) odds_j K_jj^(1/2) size(|M| + |S|) / size(|M|)

whose sum is made of elementary symmetric polynomials and the same for all prefixes of a level with as many terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from crl_node.data import Array
from crl_node.structure.evidence import Problem

#: Numbers in one matrix of a block: about what a core's cache holds.
_CELLS = 1 << 16
#: Columns left below which bounding costs more than it saves.
_TOO_FEW = 4
#: nats above the reference at which masses would overflow.
_OVERFLOW = 600.0
_ONE = np.uint64(1)


@dataclass
class _Prefixes:
    """N prefixes of one level. Of the symmetric matrices only the upper triangle is meaningful."""

    taking: Array  # [R + 1, R + 1, N] A
    leaving: Array | None  # [R + 1, R + 1, N] B; None where nothing is to be dropped any more
    half_log_det: Array  # [N] of Lambda_MM
    odds: Array  # [N] sum of log prior odds
    pull: Array  # [N] sum of pulls
    count: NDArray[np.int64]  # [N] |M|
    code: NDArray[np.uint64]  # [N] bit p: the column at place p of the order is in
    bound: Array  # [N] nats, on the mass of all completions

    def part(self, which: slice) -> _Prefixes:
        """Some of them, as views."""
        leaving = None if self.leaving is None else self.leaving[:, :, which]
        return _Prefixes(
            self.taking[:, :, which], leaving, self.half_log_det[which], self.odds[which], self.pull[which],
            self.count[which], self.code[which], self.bound[which],
        )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a search saw. Masses are p(y, M) summed over sets, in nats."""

    log_total: float  # of all sets reached
    log_dropped: float  # bound on all sets not reached; -inf: none
    inclusion: Array  # [F] share of the total that has column p (in the order of the search)
    code: NDArray[np.uint64]  # [N] the likeliest sets, bit p: column p is in
    score: Array  # [N] their log p(y, M)
    visited: int  # prefixes looked at

    @property
    def log_missed(self) -> float:
        """Bound on the share of the posterior that was not reached, log."""
        return self.log_dropped - float(np.logaddexp(self.log_dropped, self.log_total))


class Search:
    """One pass over the tree of a problem whose columns are all allowed, decided in their order."""

    def __init__(self, problem: Problem, *, certain: float, negligible: float, most: float, kept: int) -> None:
        """`certain`: nats, a lower bound of the total mass. A prefix is dropped when its bound is below `negligible`
        times what is certain (0: none is); after `most` prefixes all that can be are. `kept`: sets to return.
        """
        self.problem, self.size = problem, len(problem.group)
        self.negligible, self.most, self.kept = negligible, most, kept
        self._certain = certain
        self._earlier = np.zeros(self.size, np.uint64)  # earlier columns of the same group, as bits
        for place in range(self.size):
            for other in np.flatnonzero(problem.group[:place] == problem.group[place]):
                self._earlier[place] |= _ONE << np.uint64(other)

    def run(self) -> Found:
        """Search; deterministic."""
        reference = self._certain
        while True:
            self._reference, self._peak = reference, -np.inf
            self._inclusion, self._dropped, self._reached, self.visited = np.zeros(self.size), 0.0, 0.0, 1
            self._kept: list[tuple[NDArray[np.uint64], Array]] = []
            self._held, self._floor = 0, -np.inf
            with np.errstate(over="ignore", invalid="ignore"):
                total = float(self._descend(self._root(), 0).sum())
            if self._peak - reference < _OVERFLOW:
                break
            reference = self._peak  # what seemed certain was hopelessly low
        code, score = self._likeliest(self.kept)
        dropped = np.log(self._dropped) + reference if self._dropped > 0.0 else -np.inf
        log_total = np.log(total) + reference if total > 0.0 else -np.inf
        inclusion = self._inclusion / total if total > 0.0 else self._inclusion
        return Found(float(log_total), float(dropped), inclusion, code, score, self.visited)

    def _root(self) -> _Prefixes:
        problem, size = self.problem, self.size
        taking = np.zeros((size + 1, size + 1, 1))
        taking[:size, :size, 0], taking[:size, size, 0] = problem.precision, problem.linear
        leaving = None
        if self.negligible > 0.0 and size > _TOO_FEW:
            leaving = np.zeros_like(taking)
            inverse = np.linalg.inv(problem.precision)
            leaving[:size, :size, 0] = 0.5 * (inverse + inverse.T)
            leaving[:size, size, 0] = inverse @ problem.linear
            leaving[size, size, 0] = problem.linear @ leaving[:size, size, 0]
            self._tabulate(leaving[:, :, 0])
        zero, none = np.zeros(1), np.zeros(1, np.uint64)
        return _Prefixes(taking, leaving, zero, zero, zero, np.zeros(1, np.int64), none, np.array([np.inf]))

    def _tabulate(self, leaving: Array) -> None:
        """`_sum[closed][level, |M|]`: log of the sum over S; closed: the group at hand already has a member."""
        problem, size = self.problem, self.size
        # Bounds must stay bounds where columns are all but collinear and the inverse is inexact.
        spread = np.linalg.eigvalsh(problem.precision)
        rounding = min(1.0, 100.0 * size * np.finfo(float).eps * float(spread[-1]))
        self._slack = rounding * float(leaving[size, size])
        pivot = np.maximum((1.0 - rounding) / np.diag(leaving)[:size], 1.0)
        weight = problem.log_prior_odds - 0.5 * np.log(pivot)
        if np.isinf(problem.shape):
            weight = weight - 0.5 * problem.pull  # where the fit is linear, pulls add up
        group = problem.group
        groups = len(np.unique(group))
        nats = problem.size_nats(np.arange(groups + 1))
        here = np.full(groups + 1, -np.inf)  # log e_k of the groups that are not decided
        here[0] = 0.0
        later, own = here, -np.inf
        self._sum = np.full((2, size + 1, groups + 1), -np.inf)
        for place in range(size - 1, -1, -1):
            if place == size - 1 or group[place] != group[place + 1]:
                later, own = here, -np.inf
            own = float(np.logaddexp(own, weight[place]))
            here = later.copy()
            here[1:] = np.logaddexp(later[1:], own + later[:-1])
            for closed, polynomial in enumerate((here, later)):
                for count in range(groups):
                    self._sum[closed, place, count] = logsumexp(polynomial[1 : groups - count + 1] + nats[count + 1 :])

    def _bound(self, nodes: _Prefixes, quadratic: Array, most: Array, level: int) -> Array:
        """[N] nats: the prefix itself, which explains `quadratic` [N], and its completions, which explain <= `most`."""
        problem = self.problem
        own = problem.fit(quadratic - nodes.pull) + problem.size_nats(nodes.count)
        if level == self.size:
            return np.asarray(problem.constant - nodes.half_log_det + nodes.odds + own)
        closed = np.zeros(len(nodes.code), np.int64)
        if self._earlier[level]:
            closed = ((nodes.code & self._earlier[level]) != 0).astype(np.int64)
        others = problem.fit(np.maximum(most, quadratic) + self._slack - nodes.pull)
        others = others + self._sum[closed, level, nodes.count]
        return np.asarray(problem.constant - nodes.half_log_det + nodes.odds + np.logaddexp(own, others))

    def _descend(self, nodes: _Prefixes, level: int) -> Array:
        """[N] mass of all completions that were reached, in units of the reference."""
        n, left = len(nodes.code), self.size - level
        most = max(1, _CELLS // (left + 1) ** 2)
        if n > most:
            return np.concatenate([self._descend(nodes.part(slice(i, i + most)), level) for i in range(0, n, most)])
        if left == 0:
            return self._leaves(nodes)
        if nodes.leaving is not None and self.visited > self.most:
            self._dropped += float(np.exp(nodes.bound - self._reference).sum())
            return np.zeros(n)
        children, parent, first_taken = self._children(nodes, level)
        if len(parent) == 0:
            return np.zeros(n)
        self.visited += len(parent)
        mass = self._descend(children, level + 1)
        self._inclusion[level] += mass[first_taken:].sum()
        return np.asarray(np.bincount(parent, mass, n), float)

    def _children(self, nodes: _Prefixes, level: int) -> tuple[_Prefixes, NDArray[np.int64], int]:
        """The children that are not dropped: those without the column of this level, then those with it.

        Returns them, the parent of each, and the place of the first that has the column.
        """
        n, left = len(nodes.code), self.size - level - 1
        pivot = np.maximum(nodes.taking[0, 0], 1.0)  # Lambda >= I bounds every Schur complement from below
        quadratic = -nodes.taking[-1, -1]
        taken = _Prefixes(
            nodes.taking, nodes.leaving, nodes.half_log_det + 0.5 * np.log(pivot),
            nodes.odds + self.problem.log_prior_odds[level], nodes.pull + self.problem.pull[level],
            nodes.count + 1, nodes.code | (_ONE << np.uint64(level)), nodes.bound,
        )  # fmt: skip
        may = np.ones(n, bool)
        if self._earlier[level]:
            may = (nodes.code & self._earlier[level]) == 0
        keep_left, keep_taken = np.ones(n, bool), may
        if nodes.leaving is not None:
            most = nodes.leaving[-1, -1]
            without = np.square(nodes.leaving[0, -1]) / np.maximum(nodes.leaving[0, 0], 1e-300)
            limit = np.log(self.negligible) + max(
                self._certain, np.log(max(self._reached, 1e-300)) + self._reference
            )  # fmt: skip
            low = self._bound(nodes, quadratic, most - without, level + 1)
            high = self._bound(taken, quadratic + np.square(nodes.taking[0, -1]) / pivot, most, level + 1)
            keep_left, keep_taken = low > limit, may & (high > limit)
            gone = np.exp(low[~keep_left] - self._reference).sum()
            self._dropped += float(gone + np.exp(high[may & ~keep_taken] - self._reference).sum())
        one, other = np.flatnonzero(keep_left), np.flatnonzero(keep_taken)
        parent = np.concatenate([one, other])
        middle = len(one)
        a = np.empty((left + 1, left + 1, len(parent)))
        a[:, :, :middle] = _pick(nodes.taking, one)[1:, 1:]
        _complement(_pick(nodes.taking, other), a[:, :, middle:])
        b = None
        bound = np.zeros(len(parent))
        if nodes.leaving is not None:
            bound = np.concatenate([low[one], high[other]])
            if left >= _TOO_FEW:
                b = np.empty_like(a)
                _complement(_pick(nodes.leaving, one), b[:, :, :middle])
                b[:, :, middle:] = _pick(nodes.leaving, other)[1:, 1:]

        def join(left_out: NDArray, taken_in: NDArray) -> NDArray:
            return np.concatenate([left_out[one], taken_in[other]])

        children = _Prefixes(
            a, b, join(nodes.half_log_det, taken.half_log_det), join(nodes.odds, taken.odds),
            join(nodes.pull, taken.pull), join(nodes.count, taken.count), join(nodes.code, taken.code), bound,
        )  # fmt: skip
        return children, parent, middle

    def _leaves(self, nodes: _Prefixes) -> Array:
        """[N] masses of complete sets, which are also put aside."""
        problem = self.problem
        score = problem.fit(-nodes.taking[0, 0] - nodes.pull) - nodes.half_log_det
        score = score + (problem.constant + nodes.odds + problem.size_nats(nodes.count))
        self._peak = max(self._peak, float(score.max()))
        mass = np.exp(score - self._reference)
        self._reached += float(mass.sum())
        likely = score > self._floor
        self._kept.append((nodes.code[likely], score[likely]))
        self._held += int(likely.sum())
        if self._held > 2 * self.kept:
            self._kept = [self._likeliest(self.kept)]
            self._held = self.kept
            self._floor = float(self._kept[0][1].min())
        return np.asarray(mass)

    def _likeliest(self, count: int) -> tuple[NDArray[np.uint64], Array]:
        if not self._kept:
            return np.zeros(0, np.uint64), np.zeros(0)
        code = np.concatenate([c for c, _ in self._kept])
        score = np.concatenate([s for _, s in self._kept])
        if len(score) > count:
            best = np.argpartition(-score, count - 1)[:count]
            code, score = code[best], score[best]
        return code, score


def _pick(matrices: Array, which: NDArray[np.int_]) -> Array:
    """[R, R, len(which)] some of them; no copy where it is all of them."""
    return matrices if len(which) == matrices.shape[2] else matrices.take(which, axis=2)


def _complement(full: Array, out: Array) -> None:
    """Schur complement of the first row of `full` [R + 1, R + 1, N] into `out` [R, R, N], upper triangles."""
    scaled = full[0, 1:] / np.maximum(full[0, 0], 1e-300)
    for row in range(len(out)):
        np.multiply(scaled[row], full[0, row + 1 :], out=out[row, row:])
        np.subtract(full[row + 1, row + 1 :], out[row, row:], out=out[row, row:])

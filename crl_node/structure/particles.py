"""Particles over term sets: sequential Monte Carlo, all particles of all variables in step.

From the prior (or, when statistics have grown, from the posterior of last time) to the posterior along
base^(1 - t) target^t (Del Moral, Doucet & Jasra 2006, Sequential Monte Carlo samplers): t goes up as far as keeps the
effective sample size, particles are resampled, and each is moved by informed proposals, which leave the distribution
at t as it is: a neighbour M' with odds r is proposed in proportion to g(r) = min(1, r) and accepted with probability
min(1, Z(M) / Z(M')), Z the sum of g over neighbours (Zanella 2020, Informed proposals for local MCMC in discrete
spaces).

`inclusion` is Rao-Blackwellised: not the share of particles that have a column, but its probability given the rest of
each particle's set, averaged over particles and over the last moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from crl_node.data import Array
from crl_node.structure.draws import prior_sets
from crl_node.structure.engine import Particles, Support, support_of, systematic
from crl_node.structure.evidence import Bools, Problem, log_evidence, log_prior, log_score
from crl_node.structure.neighbours import Batch, Moves

#: nats that a difference between base and target counts at most; keeps forbidden moves out of the arithmetic.
_FAR = 1e6


@dataclass(frozen=True)
class ParticleConfig:
    """Bounds on the work of one update, all per particle."""

    effective: float = 0.5  # share of the particles that a rise of t leaves effective
    moves: int = 2  # proposals after each rise of t
    last_moves: int = 12  # proposals at the posterior, over which inclusion is averaged
    most_rises: int = 60  # rises of t; the last goes to the posterior whatever it costs


@dataclass
class _Around:
    """B particles with what is known of their neighbours, laid out as in `Moves.flat`."""

    sets: Bools  # [B, F]
    base: Array  # [B] log p of the base distribution
    target: Array  # [B]
    moves: Moves  # odds of the neighbours under the target
    flat: Array  # [B, N] the same side by side
    rise: Array  # [B, N] by how much less the base likes each neighbour: base odds - target odds

    def take(self, rows: NDArray[np.int_]) -> _Around:
        """The particles `rows`, some of them more than once."""
        m = self.moves
        moves = Moves(m.members[rows], m.add[rows], m.drop[rows], m.exchange[rows])
        return _Around(
            self.sets[rows], self.base[rows], self.target[rows], moves, self.flat[rows], self.rise[rows]
        )


class ParticleEngine:
    """Posterior over the term sets of V variables as `count` particles each; see `engine.Engine`."""

    def __init__(self, seed: int = 0, count: int = 64, config: ParticleConfig | None = None) -> None:
        """ValueError unless there are at least two particles."""
        if count < 2:
            raise ValueError(f"{count} particles cannot be resampled; at least 2 are needed")
        self.seed, self.count, self.config = seed, count, config or ParticleConfig()
        self.rises = 0  # of t in the last update
        self._updates = 0
        self._batch: Batch | None = None
        self._sets: Bools = np.zeros((0, 0), bool)  # [V count, F]

    def update(self, problems: Sequence[Problem]) -> None:
        """Bring the particles to the posterior; with as many variables as before from where they are."""
        rng = np.random.default_rng([self.seed, self._updates])
        self._updates += 1
        batch, before = Batch(problems), self._batch
        if before is not None and not (
            len(before.problems) == len(problems) and np.array_equal(before.group, batch.group)
        ):
            before = None
        self._owner = np.repeat(np.arange(len(problems)), self.count)
        if before is not None:
            target = self._score(batch, self._sets)
            if not np.isfinite(target.reshape(-1, self.count)).any(axis=1).all():
                before = None  # no particle of some variable is allowed any more
        if before is None:
            sets = np.concatenate([prior_sets(problem, self.count, rng) for problem in problems])
            base = np.concatenate(
                [log_prior(p, sets[v * self.count : (v + 1) * self.count]) for v, p in enumerate(problems)]
            )
            target = self._score(batch, sets)
        else:
            sets, base = self._sets, self._score(before, self._sets)
        self._batch, self._before = batch, before
        around = self._look(sets, base, target)
        t = np.zeros(len(problems))
        self.rises = 0
        while (t < 1.0).any():
            self.rises += 1
            t, around = self._rise(t, around, rng, last=self.rises >= self.config.most_rises)
            for _ in range(self.config.moves if (t < 1.0).any() else 0):
                around = self._move(t, around, rng)
        total = np.zeros((len(problems), sets.shape[1]))
        for _ in range(self.config.last_moves):
            around = self._move(t, around, rng)
            total += self._given_the_rest(around).reshape(len(problems), self.count, -1).mean(axis=1)
        self._sets, self._inclusion = around.sets, total / self.config.last_moves

    def _score(self, batch: Batch, sets: Bools) -> Array:
        parts = sets.reshape(len(batch.problems), self.count, -1)
        return np.concatenate([log_score(p, part) for p, part in zip(batch.problems, parts, strict=True)])

    def _look(self, sets: Bools, base: Array, target: Array) -> _Around:
        """Odds of all neighbours under the target and under the base."""
        assert self._batch is not None
        moves = self._batch.moves(self._owner, sets)
        flat = moves.flat()
        if self._before is None:
            of_base = _prior_odds(self._batch, self._owner, sets, moves)
        else:
            of_base = self._before.moves(self._owner, sets).flat()
        rise = np.zeros_like(flat)
        possible = np.isfinite(flat)
        rise[possible] = np.maximum(of_base[possible] - flat[possible], -_FAR)
        return _Around(sets, base, target, moves, flat, rise)

    def _rise(
        self, t: Array, around: _Around, rng: np.random.Generator, *, last: bool
    ) -> tuple[Array, _Around]:
        """t [V] as high as leaves the wanted number of particles effective, and the particles resampled."""
        k = self.count
        with np.errstate(invalid="ignore"):
            gain = (around.target - around.base).reshape(-1, k)
        gain = np.where(np.isfinite(gain), gain, -_FAR)
        low, high = t.copy(), np.ones_like(t)
        if last or (_effective((high - t)[:, None] * gain) >= self.config.effective * k).all():
            low = high
        else:
            enough = _effective((1.0 - t)[:, None] * gain) >= self.config.effective * k
            low = np.where(enough, 1.0, low)
            for _ in range(40):
                middle = 0.5 * (low + high)
                good = _effective((middle - t)[:, None] * gain) >= self.config.effective * k
                low, high = np.where(good, middle, low), np.where(good, high, middle)
            low = np.where(high - t < 1e-9, high, low)  # always some way up, so that this ends
        log_weight = (low - t)[:, None] * gain
        weight = np.exp(log_weight - logsumexp(log_weight, axis=1, keepdims=True))
        rows = np.concatenate([v * k + systematic(w, k, rng) for v, w in enumerate(weight)])
        return low, around.take(rows)

    def _move(self, t: Array, around: _Around, rng: np.random.Generator) -> _Around:
        """One informed Metropolis proposal for each particle, at `t` [V]."""
        level = t[self._owner]
        log_g = np.minimum(_path(around, level), 0.0)
        choice = np.argmax(log_g + rng.gumbel(size=log_g.shape), axis=1)  # Gumbel-max: a draw from exp(log_g)
        rows = np.arange(len(choice))
        movable = np.isfinite(log_g[rows, choice])
        sets = around.sets.copy()
        some = np.flatnonzero(movable)
        sets[some] = around.moves.apply(around.sets, some, choice[some])
        odds = np.where(movable, around.flat[rows, choice], 0.0)
        base = around.base + odds + around.rise[rows, choice]
        proposed = self._look(sets, base, around.target + odds)
        back = logsumexp(np.minimum(_path(proposed, level), 0.0), axis=1)
        with np.errstate(invalid="ignore"):
            accept = movable & (np.log(rng.random(len(rows))) < logsumexp(log_g, axis=1) - back)
        return _merge(accept, proposed, around)

    def _given_the_rest(self, around: _Around) -> Array:
        """[B, F] probability of each column given the rest of the particle's set (its own group left open)."""
        assert self._batch is not None
        moves = around.moves
        rows, place = np.nonzero(moves.members >= 0)
        member = moves.members[rows, place]
        if not self._batch.grouped:
            out = expit(moves.add)
            out[rows, member] = expit(-moves.drop[rows, place])
            return np.asarray(out)
        group = self._batch.group[self._owner]  # [B, F]
        odds = np.exp(np.minimum(moves.add, 600.0))
        none = np.ones((len(odds), int(group.max()) + 1))
        sibling = group[rows, member][:, None] == group[rows]
        swap = np.exp(np.minimum(moves.exchange[rows, place], 600.0)) * sibling
        np.add.at(odds, rows, swap)
        odds[rows, member] = 1.0
        none[rows, group[rows, member]] = np.exp(np.minimum(moves.drop[rows, place], 600.0))
        np.add.at(none, (np.arange(len(odds))[:, None], group), odds)
        return np.asarray(odds / np.take_along_axis(none, group, 1))

    def log_evidence(self, variable: int, sets: Bools) -> Array:
        """See `Engine`."""
        assert self._batch is not None
        return log_evidence(self._batch.problems[variable], sets)

    def inclusion(self) -> Array:
        """See `Engine`."""
        return self._inclusion

    def sample(self, count: int, rng: np.random.Generator) -> list[Particles]:
        """See `Engine`. The particles themselves when `count` is their number."""
        out = []
        for sets in self._sets.reshape(len(self._inclusion), self.count, -1):
            chosen = np.arange(count)
            if count != self.count:
                chosen = rng.permutation(systematic(np.full(self.count, 1.0 / self.count), count, rng))
            out.append(Particles(sets[chosen], np.full(count, -np.log(count))))
        return out

    def support(self, variable: int) -> Support:
        """See `Engine`. The different sets among the particles, with exact odds between them."""
        assert self._batch is not None
        mine = self._sets.reshape(len(self._inclusion), self.count, -1)[variable]
        return support_of(self._batch.problems[variable], mine)


def _path(around: _Around, level: Array) -> Array:
    """[B, N] log odds of the neighbours at `level` [B] between base (0) and target (1)."""
    return around.flat + (1.0 - level)[:, None] * around.rise


def _effective(log_weight: Array) -> Array:
    """[V] effective sample size 1 / sum w^2 of log weights [V, K], not normalised."""
    return np.asarray(np.exp(2.0 * logsumexp(log_weight, axis=1) - logsumexp(2.0 * log_weight, axis=1)))


def _prior_odds(batch: Batch, variable: NDArray[np.int_], sets: Bools, moves: Moves) -> Array:
    """[B, N] log prior odds of the neighbours, as in `Moves.flat`."""
    rows = np.arange(len(sets))
    count = sets.sum(axis=1)
    size = batch.size[variable]
    odds = batch.odds[variable]
    own = np.where(moves.members >= 0, np.take_along_axis(odds, np.maximum(moves.members, 0), 1), 0.0)
    add = odds + (size[rows, count + 1] - size[rows, count])[:, None]
    drop = (size[rows, np.maximum(count - 1, 0)] - size[rows, count])[:, None] - own
    with np.errstate(invalid="ignore"):
        exchange = odds[:, None, :] - own[:, :, None]
    return np.concatenate([add, drop, exchange.reshape(len(sets), -1)], axis=1)


def _merge(which: Bools, one: _Around, other: _Around) -> _Around:
    """`one` where `which` [B], else `other`; the narrower of the two is padded."""
    f = one.sets.shape[1]
    width = max(one.moves.members.shape[1], other.moves.members.shape[1])

    def pad(around: _Around) -> tuple[Moves, Array]:
        m, more = around.moves, width - around.moves.members.shape[1]
        if more == 0:
            return m, around.rise
        moves = Moves(
            np.pad(m.members, ((0, 0), (0, more)), constant_values=-1), m.add,
            np.pad(m.drop, ((0, 0), (0, more)), constant_values=-np.inf),
            np.pad(m.exchange, ((0, 0), (0, more), (0, 0)), constant_values=-np.inf),
        )  # fmt: skip
        size = width - more
        parts = (
            around.rise[:, :f],
            np.pad(around.rise[:, f : f + size], ((0, 0), (0, more))),
            np.pad(around.rise[:, f + size :], ((0, 0), (0, more * f))),
        )
        return moves, np.concatenate(parts, axis=1)

    a, rise_a = pad(one)
    b, rise_b = pad(other)
    row = which[:, None]
    moves = Moves(
        np.where(row, a.members, b.members), np.where(row, a.add, b.add), np.where(row, a.drop, b.drop),
        np.where(which[:, None, None], a.exchange, b.exchange),
    )  # fmt: skip
    return _Around(
        np.where(row, one.sets, other.sets), np.where(which, one.base, other.base),
        np.where(which, one.target, other.target), moves, moves.flat(), np.where(row, rise_a, rise_b),
    )  # fmt: skip

"""Informed Markov jump chains over term sets, many chains of many variables in step.

Every step knows the odds of all neighbours (add, drop, exchange), so no proposal is wasted: a chain at temperature
1 / beta leaves M for M' at rate min(1, r^beta), r = p(M'|y) / p(M|y), which satisfies detailed balance, and jumps at
once instead of waiting (a locally balanced jump process: Zanella 2020, Informed proposals for local MCMC in discrete
spaces; Power & Goldman 2019, Accelerated sampling on discrete spaces with non-reversible Markov processes). Exchange
moves carry a chain between causes that look alike; hot chains (beta < 1) find modes that are further apart.

What is reported does not count visits: every set that was visited or looked at from a neighbour with a score near the
best carries its exact evidence, and probabilities are renormalised over these sets (`Support`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from crl_node.data import Array
from crl_node.structure.average import group_softmax
from crl_node.structure.engine import Particles, Support, systematic
from crl_node.structure.evidence import Bools, Problem, log_evidence, log_score
from crl_node.structure.neighbours import Batch, Moves

#: Sets seen after which they are merged, a bound on memory.
_MOST_ROWS = 400_000


@dataclass(frozen=True)
class McmcConfig:
    """Bounds on the work of one update, all per variable."""

    temperatures: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 0.7, 0.7, 0.5, 0.3)  # beta of each chain
    steps: int = 160  # jumps of each chain
    most_steps: int = 800  # jumps while these many find more: a flat posterior is spread over thousands of sets
    enough: float = 2e-3  # share of the mass found in the last `steps` jumps below which the chains stop
    climbs: int = 24  # greedy moves before the chains start, at most
    near: float = 14.0  # nats below the best set within which neighbours are kept
    kept_per_step: int = 64  # neighbours kept of one chain in one step, at most
    most_sets: int = 16384  # sets kept
    averaged: int = 12  # likeliest sets over which the odds of columns in no kept set are averaged


class McmcEngine:
    """Posterior over the term sets of V variables by parallel jump chains; see `engine.Engine`."""

    def __init__(self, seed: int = 0, config: McmcConfig | None = None) -> None:
        self.seed, self.config = seed, config or McmcConfig()
        self._updates = 0
        self._supports: list[Support] = []

    def update(self, problems: Sequence[Problem]) -> None:
        """Run the chains; with as many variables as before they start from the likeliest sets of last time."""
        warm = self._supports if len(self._supports) == len(problems) else []
        warm = [s for s in warm if s.sets.shape[1] == len(problems[0].group)]
        self.batch = Batch(problems)
        rng = np.random.default_rng([self.seed, self._updates])
        self._updates += 1
        chains = len(self.config.temperatures)
        variable = np.repeat(np.arange(len(problems)), chains)
        beta = np.tile(np.array(self.config.temperatures), len(problems))
        sets = self._starts(problems, warm, rng)
        score = np.empty(len(sets))
        for v, problem in enumerate(problems):
            mine = variable == v
            score[mine] = log_score(problem, sets[mine])
        found = _Found(len(problems), self.config)
        found.add(variable, sets, score)
        climbing = np.ones(len(sets), bool)
        last = np.full(len(problems), -np.inf)
        for step in range(self.config.climbs + self.config.most_steps):
            jumps = step - self.config.climbs
            if jumps > 0 and jumps % self.config.steps == 0:
                total = found.log_total()
                if (1.0 - np.exp(last - total) < self.config.enough).all():
                    break
                last = total
            moves = self.batch.moves(variable, sets)
            flat = moves.flat()
            found.look(variable, sets, score, moves, flat)
            if step < self.config.climbs and climbing.any():
                choice = np.argmax(flat, axis=1)
                climbing &= flat[np.arange(len(sets)), choice] > 1e-9
                if step == 0:  # the first chain of each variable climbs from nothing, others keep their start
                    climbing &= (np.arange(len(sets)) % chains) % 2 == 0
                rows = np.flatnonzero(climbing)
            else:
                if step < self.config.climbs:
                    continue
                choice = _jump(flat, beta, rng)
                rows = np.flatnonzero(choice >= 0)
            sets[rows] = moves.apply(sets, rows, choice[rows])
            score[rows] += flat[rows, choice[rows]]
            found.add(variable[rows], sets[rows], score[rows])
        self._supports = found.supports()
        self._alone = self._odds_of_the_rest()

    def _starts(self, problems: Sequence[Problem], warm: list[Support], rng: np.random.Generator) -> Bools:
        """[V C, F] first states: likeliest sets of last time, else nothing, and draws from the prior."""
        chains, f = len(self.config.temperatures), len(problems[0].group)
        sets = np.zeros((len(problems), chains, f), bool)
        for v, problem in enumerate(problems):
            for c in range(1, chains):
                sets[v, c] = _random_set(problem, rng)
            if warm:
                best = np.argsort(-warm[v].log_probability)[: chains - 1]
                usable = warm[v].sets[best] & problem.allowed
                sets[v, : len(usable)] = usable
        return sets.reshape(-1, f)

    def _odds_of_the_rest(self) -> Array:
        """[V, F] inclusion of columns in no kept set: their odds against each of the likeliest sets, averaged."""
        v, f = self.batch.linear.shape
        out = np.zeros((v, f))
        rows, owners, share = [], [], []
        for k, support in enumerate(self._supports):
            best = np.argsort(-support.log_probability)[: self.config.averaged]
            p = np.exp(support.log_probability[best])
            rows.append(support.sets[best])
            owners.append(np.full(len(best), k))
            share.append(p / p.sum())
        owner, weight = np.concatenate(owners), np.concatenate(share)
        moves = self.batch.moves(owner, np.concatenate(rows))
        for row, (k, p) in enumerate(zip(owner, weight, strict=True)):
            odds = moves.add[row]
            out[k] += p * group_softmax(self.batch.problems[k], odds, np.isfinite(odds))
        for k, support in enumerate(self._supports):
            out[k, support.sets.any(axis=0)] = 0.0
        return out

    def log_evidence(self, variable: int, sets: Bools) -> Array:
        """See `Engine`."""
        return log_evidence(self.batch.problems[variable], sets)

    def inclusion(self) -> Array:
        """See `Engine`."""
        return np.stack([support.inclusion() for support in self._supports]) + self._alone

    def sample(self, count: int, rng: np.random.Generator) -> list[Particles]:
        """See `Engine`. Columns in no kept set stay out of all particles."""
        out = []
        for support in self._supports:
            chosen = rng.permutation(systematic(np.exp(support.log_probability), count, rng))
            out.append(Particles(support.sets[chosen], np.full(count, -np.log(count))))
        return out

    def support(self, variable: int) -> Support:
        """See `Engine`."""
        return self._supports[variable]


class _Found:
    """The sets seen so far, by variable, with their scores."""

    def __init__(self, variables: int, config: McmcConfig) -> None:
        self.config = config
        self.best = np.full(variables, -np.inf)
        self._kept: list[tuple[NDArray[np.int_], NDArray[np.uint8], Array]] = []  # variable, packed sets, score
        self._rows = 0

    def add(self, variable: NDArray[np.int_], sets: Bools, score: Array) -> None:
        """Keep `sets` [B, F] of `variable` [B] with their log scores [B]."""
        np.maximum.at(self.best, variable, score)
        self._kept.append((variable.copy(), np.packbits(sets, axis=1), score.copy()))
        self._columns = sets.shape[1]
        self._rows += len(sets)
        if self._rows > _MOST_ROWS:
            self._merge()

    def look(self, variable: NDArray[np.int_], sets: Bools, score: Array, moves: Moves, flat: Array) -> None:
        """Keep the neighbours whose score is near the best of their variable."""
        most = min(self.config.kept_per_step, flat.shape[1])
        reached = score[:, None] + flat
        top = np.argpartition(-reached, most - 1, axis=1)[:, :most]
        value = np.take_along_axis(reached, top, 1)
        good = value > (self.best[variable] - self.config.near)[:, None]
        rows, place = np.nonzero(good)
        if rows.size:
            self.add(variable[rows], moves.apply(sets, rows, top[rows, place]), value[rows, place])

    def _merge(self) -> None:
        """Keep every set once, and of every variable the likeliest `most_sets` near its best."""
        variable, packed, score = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
        kept = []
        for v in range(len(self.best)):
            mine = np.flatnonzero((variable == v) & (score > self.best[v] - self.config.near))
            _, first = np.unique(packed[mine].view(f"V{packed.shape[1]}").ravel(), return_index=True)
            mine = mine[first]
            mine = mine[np.argsort(-score[mine], kind="stable")[: self.config.most_sets]]
            kept.append((variable[mine], packed[mine], score[mine]))
        self._kept = kept
        self._rows = sum(len(entry[0]) for entry in kept)

    def log_total(self) -> Array:
        """[V] nats, log of the mass of all sets kept so far."""
        self._merge()
        return np.array([float(logsumexp(score)) for _, _, score in self._kept])

    def supports(self) -> list[Support]:
        """Per variable the sets, each once, likeliest first."""
        self._merge()
        out = []
        for _, packed, score in self._kept:
            total = float(logsumexp(score))
            sets = np.unpackbits(packed, axis=1, count=self._columns).astype(bool)
            out.append(Support(sets, score - total, float("nan"), total))
        return out


def _jump(flat: Array, beta: Array, rng: np.random.Generator) -> NDArray[np.int_]:
    """[B] the neighbour each chain jumps to, drawn in proportion to its rate; -1 where a chain has none."""
    log_rate = np.minimum(flat * beta[:, None], 0.0)
    # Gumbel-max: the largest of log rate plus Gumbel noise is a draw in proportion to the rates.
    noisy = log_rate + rng.gumbel(size=flat.shape)
    choice = np.argmax(noisy, axis=1)
    return np.where(np.isfinite(noisy[np.arange(len(flat)), choice]), choice, -1)


def _random_set(problem: Problem, rng: np.random.Generator) -> Bools:
    """[F] a few columns at random, one of a group, for chains to start from."""
    allowed = np.flatnonzero(problem.allowed)
    out = np.zeros(len(problem.group), bool)
    taken: set[int] = set()
    for column in rng.permutation(allowed)[: rng.integers(0, 5)]:
        if int(problem.group[column]) not in taken:
            out[column] = True
            taken.add(int(problem.group[column]))
    return out

"""Greedy search for the best term set, then exact enumeration around it.

1. Climb from the previous best set by single moves (add, drop, exchange within a group) until none improves.
2. Groups whose odds around the best set are not extreme form the shortlist; all their combinations are enumerated
   exactly, everything else fixed as in the best set. When all combinations of all groups fit, that is the whole
   posterior.
3. Columns outside the shortlist get the odds of flipping them alone, averaged over the likeliest of these sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.data import Array
from crl_node.structure.engine import EachVariable, Particles, Support, product_sets, systematic
from crl_node.structure.evidence import Bools, Problem, flip_odds, log_evidence, log_prior, weights_given


@dataclass(frozen=True)
class GreedyConfig:
    """Bounds on the work of one update."""

    most_moves: int = 24  # greedy moves per update
    most_sets: int = 768  # sets enumerated
    most_groups: int = 12  # groups on the shortlist
    averaged: int = 6  # likeliest sets over which the odds of everything else are averaged
    decided: float = 7.0  # nats; options this far below the best are not enumerated
    informed: float = 1e-3  # weight information (in prior precisions) below which a column has seen no data


class GreedyPosterior:
    """Structure posterior of one variable; `sets` [N, F] with `probability` [N] and independent odds outside."""

    def __init__(self, config: GreedyConfig | None = None) -> None:
        self.config = config or GreedyConfig()
        self.best = np.zeros(0, int)

    def update(self, problem: Problem) -> None:
        self.problem = problem
        informed = problem.allowed & (problem.information > self.config.informed)
        self.best = self._climb(problem, self.best[informed[self.best]], informed)
        odds = flip_odds(problem, self.best)
        held = np.isin(problem.group, problem.group[self.best])
        self._choose_shortlist(odds, informed, held)
        base = np.zeros(len(problem.group), bool)
        base[self.best[~np.isin(problem.group[self.best], self.shortlist)]] = True
        self.sets = product_sets(problem, self._options, base)
        score = log_evidence(problem, self.sets) + log_prior(problem, self.sets)
        score -= score.max()
        self.probability = np.exp(score) / np.exp(score).sum()
        # Groups that had no room on the shortlist are judged alone, those held by the best set among them: its member
        # stays in for the evidence of the others, but is no certainty.
        loose = np.isin(problem.group, self._undecided) & ~np.isin(problem.group, self.shortlist)
        self._outside = problem.allowed & ~np.isin(problem.group, self.shortlist) & (loose | ~held)
        self._marginal = self.sets & ~self._outside
        self._alone = np.zeros(len(problem.group))
        likely = np.argsort(-self.probability)[: self.config.averaged]
        share = self.probability[likely] / self.probability[likely].sum()
        for p, row in zip(share, likely, strict=True):
            around = flip_odds(problem, np.flatnonzero(self.sets[row]))
            self._alone += p * _group_softmax(problem, around, self._outside)

    def _climb(self, problem: Problem, members: np.ndarray, informed: Bools) -> np.ndarray:
        for _ in range(self.config.most_moves):
            odds = np.where(informed, flip_odds(problem, members), -np.inf)
            holder = {int(problem.group[m]): int(m) for m in members}
            gain = odds.copy()
            for group, member in holder.items():
                siblings = problem.group == group
                gain[siblings] -= odds[member]  # exchange: sibling against member
                gain[member] = -odds[member]  # drop
            move = int(np.argmax(gain))
            if not gain[move] > 1e-9:
                break
            group = int(problem.group[move])
            if group in holder:
                members = members[members != holder[group]]
            if holder.get(group) != move:
                members = np.append(members, move)
        return np.sort(members)

    def _choose_shortlist(self, odds: Array, informed: Bools, held: Bools) -> None:
        """Groups to enumerate: the least decided first, as many as the bound on sets allows."""
        problem, config = self.problem, self.config
        candidates: list[tuple[float, int, np.ndarray]] = []
        groups, sizes = np.unique(problem.group[informed], return_counts=True)
        everything = float(np.prod(sizes + 1.0)) <= config.most_sets  # then the answer is exact
        for group in groups:
            columns = np.flatnonzero((problem.group == group) & informed)
            score = np.append(odds[columns], 0.0)  # last: none
            gap = score.max() - score
            keep = gap < (np.inf if everything else config.decided)
            if keep.sum() < 2:
                continue
            runner_up = float(np.partition(gap, 1)[1])
            candidates.append((runner_up, int(group), np.append(columns, -1)[keep]))
        candidates.sort(key=lambda c: (c[0], c[1]))
        self._undecided = [group for _, group, _ in candidates]
        self.shortlist: list[int] = []
        self._options: list[np.ndarray] = []
        count = 1
        for _, group, options in candidates if everything else candidates[: config.most_groups]:
            if count * len(options) > config.most_sets:
                continue
            count *= len(options)
            self.shortlist.append(group)
            self._options.append(options)

    def log_evidence(self, sets: Bools) -> Array:
        return log_evidence(self.problem, sets)

    def inclusion(self) -> Array:
        return np.asarray(self.probability @ self._marginal + self._alone)

    def any_inclusion(self, columns: Bools) -> float:
        """Probability that at least one of `columns` [F] is in."""
        inside = float(self.probability @ (self._marginal & columns).any(axis=1))
        per_group = np.bincount(self.problem.group, self._alone * columns)
        return 1.0 - (1.0 - inside) * float(np.prod(1.0 - np.minimum(per_group, 1.0)))

    def sample(self, count: int, rng: np.random.Generator) -> Particles:
        chosen = rng.permutation(systematic(self.probability, count, rng))
        sets = self._marginal[chosen]
        rows = np.arange(count)
        for group in np.unique(self.problem.group[self._outside]):
            columns = np.flatnonzero((self.problem.group == group) & self._outside)
            share = self._alone[columns]
            if share.sum() < 1e-4:
                continue
            # A group without data sticks to its likeliest alternative: which radius is moot before contact.
            if self.problem.information[columns].max() <= self.config.informed:
                columns, share = columns[[np.argmax(share)]], np.array([share.sum()])
            picks = rng.permutation(systematic(np.append(share, 1.0 - share.sum()), count, rng))
            taken = picks < len(columns)
            sets[rows[taken], columns[picks[taken]]] = True
        return Particles(sets, np.full(count, -np.log(count)))

    def support(self) -> Support:
        """The enumerated sets; columns judged alone, beside them, are not in it."""
        return Support(self.sets, np.log(np.maximum(self.probability, 1e-300)), float("nan"))

    def weights(self, most_sets: int = 24) -> tuple[Array, Array]:
        """Mean [F] of each weight averaged over structures (0 when out), and std [F] given that the term is in."""
        problem = self.problem
        size = len(problem.group)
        order = np.argsort(-self.probability)[:most_sets]
        share = self.probability[order] / self.probability[order].sum()
        first, second, mass = np.zeros(size), np.zeros(size), np.zeros(size)
        for p, row in zip(share, order, strict=True):
            columns = np.flatnonzero(self.sets[row])
            mean, covariance = weights_given(problem, columns)
            first[columns] += p * mean
            second[columns] += p * (np.square(mean) + np.diag(covariance))
            mass[columns] += p
        for total in (first, second, mass):
            total[self._outside] *= self._alone[self._outside]  # held, but not for certain
        alone = np.flatnonzero(self._outside & ~self.sets[order[0]])
        mean, std = _alone_weights(problem, self.best, alone)
        first[alone] += self._alone[alone] * mean
        second[alone] += self._alone[alone] * (np.square(mean) + np.square(std))
        mass[alone] += self._alone[alone]
        safe = np.maximum(mass, 1e-12)
        spread = np.sqrt(np.maximum(second / safe - np.square(first / safe), 0.0))
        return first, np.where(mass > 1e-9, spread, problem.prior_std)


class GreedyEngine(EachVariable):
    """Greedy search and enumeration around it for every variable, see `GreedyPosterior`."""

    def __init__(self, config: GreedyConfig | None = None) -> None:
        super().__init__(lambda: GreedyPosterior(config))


def _group_softmax(problem: Problem, odds: Array, columns: Bools) -> Array:
    """[F] probability of each of `columns` [F] when its group alone is undecided (the other option is: none)."""
    out = np.zeros(len(odds))
    picked = np.flatnonzero(columns)
    ratio = np.exp(np.clip(odds[picked], -700.0, 700.0))
    total = np.bincount(problem.group[picked], ratio, problem.group.max() + 1)
    out[picked] = ratio / (1.0 + total[problem.group[picked]])
    return out


def _alone_weights(problem: Problem, members: np.ndarray, columns: np.ndarray) -> tuple[Array, Array]:
    """Mean and std of the weight of each of `columns` when it alone joins `members`, natural units."""
    pivot = np.diag(problem.precision)[columns].copy()
    pull = problem.linear[columns].copy()
    if len(members) and len(columns):
        cross = problem.precision[np.ix_(members, columns)]
        solved = np.linalg.solve(problem.precision[np.ix_(members, members)], cross)
        pivot -= np.einsum("mf,mf->f", cross, solved)
        pull -= problem.linear[members] @ solved
    pivot = np.maximum(pivot, 1.0)
    scale = problem.prior_std[columns]
    quadratic = np.square(pull) / pivot
    if len(members):
        held = np.linalg.solve(problem.precision[np.ix_(members, members)], problem.linear[members])
        quadratic = quadratic + problem.linear[members] @ held - problem.pull[members].sum()
    variance = problem.noise_variance(quadratic - problem.pull[columns])
    return scale * pull / pivot, scale * np.sqrt(variance / pivot)

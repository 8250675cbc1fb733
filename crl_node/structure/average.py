"""What a posterior over term sets says when it is averaged: inclusion, weights, particles.

A posterior here is a list of sets with probabilities, and beside it columns that were judged alone, each group of them
independent of everything else. Search, chains, particles and networks all end in this form.
"""

from __future__ import annotations

import numpy as np

from crl_node.data import Array
from crl_node.structure.engine import Particles, Support, systematic
from crl_node.structure.evidence import Bools, Problem, flip_odds, log_evidence, submatrix, weights_given

#: Information (in prior precisions) below which a column has seen no data.
INFORMED = 1e-3


class SetAverage:
    """Base of posteriors of one variable; whoever derives from it fills these in with every `update`."""

    problem: Problem
    sets: Bools  # [N, F]
    probability: Array  # [N]
    best: np.ndarray  # columns of the best set
    _marginal: Bools  # [N, F] `sets` less the columns that are judged alone
    _outside: Bools  # [F] judged alone
    _alone: Array  # [F] their probabilities

    def _judge_alone(self, averaged: int) -> None:
        """Fill `_alone`: odds of the columns outside against each of the `averaged` likeliest sets, averaged."""
        self._alone = np.zeros(len(self.problem.group))
        likely = np.argsort(-self.probability)[:averaged]
        share = self.probability[likely] / self.probability[likely].sum()
        for p, row in zip(share, likely, strict=True):
            around = flip_odds(self.problem, np.flatnonzero(self.sets[row]))
            self._alone += p * group_softmax(self.problem, around, self._outside)

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
            if self.problem.information[columns].max() <= INFORMED:
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


def group_softmax(problem: Problem, odds: Array, columns: Bools) -> Array:
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
        cross = submatrix(problem.precision, members, columns)
        solved = np.linalg.solve(submatrix(problem.precision, members), cross)
        pivot -= np.einsum("mf,mf->f", cross, solved)
        pull -= problem.linear[members] @ solved
    pivot = np.maximum(pivot, 1.0)
    scale = problem.prior_std[columns]
    quadratic = np.square(pull) / pivot
    if len(members):
        held = np.linalg.solve(submatrix(problem.precision, members), problem.linear[members])
        quadratic = quadratic + problem.linear[members] @ held - problem.pull[members].sum()
    variance = problem.noise_variance(quadratic - problem.pull[columns])
    return scale * pull / pivot, scale * np.sqrt(variance / pivot)

"""Exact enumeration of all term sets: the truth for small problems."""

from __future__ import annotations

import numpy as np

from crl_node.data import Array
from crl_node.structure.engine import EachVariable, Particles, Support, product_sets, systematic
from crl_node.structure.evidence import Bools, Problem, log_evidence, log_prior

#: Sets whose evidence is computed in one batch.
_BATCH = 4096


class ExactPosterior:
    """Enumerates every set the groups allow; refuses problems with more than `most_sets`."""

    def __init__(self, most_sets: int = 1 << 16) -> None:
        self.most_sets = most_sets

    def update(self, problem: Problem) -> None:
        columns = np.flatnonzero(problem.allowed)
        groups = np.unique(problem.group[columns])
        options = [np.concatenate([[-1], columns[problem.group[columns] == g]]) for g in groups]
        count = int(np.prod([float(len(option)) for option in options]))
        if count > self.most_sets:
            raise ValueError(
                f"exact enumeration over {len(groups)} groups needs {count} sets, more than the {self.most_sets} "
                f"allowed; use the greedy engine"
            )
        self.problem = problem
        self.sets = product_sets(problem, options, np.zeros(len(problem.group), bool))
        score = np.concatenate(
            [
                log_evidence(problem, batch) + log_prior(problem, batch)
                for batch in np.split(self.sets, range(_BATCH, len(self.sets), _BATCH))
            ]
        )
        score -= score.max()
        self.probability = np.exp(score) / np.exp(score).sum()

    def log_evidence(self, sets: Bools) -> Array:
        return log_evidence(self.problem, sets)

    def inclusion(self) -> Array:
        return np.asarray(self.probability @ self.sets)

    def sample(self, count: int, rng: np.random.Generator) -> Particles:
        chosen = rng.permutation(systematic(self.probability, count, rng))
        return Particles(self.sets[chosen], np.full(count, -np.log(count)))

    def support(self) -> Support:
        return Support(self.sets, np.log(np.maximum(self.probability, 1e-300)), 0.0)


class ExactEngine(EachVariable):
    """Exact enumeration of every variable, see `ExactPosterior`."""

    def __init__(self, most_sets: int = 1 << 16) -> None:
        super().__init__(lambda: ExactPosterior(most_sets))

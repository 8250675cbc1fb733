"""The one interface of all structure engines, and what they return.

An engine holds the posterior over term sets of V variables at once (V may be 1). `update` takes their problems as the
statistics stand now; called again with as many problems it starts from what it had: statistics grow, answers move
little.
Everything downstream sees weighted term sets only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import logsumexp

from crl_node.data import Array
from crl_node.structure.evidence import Bools, Problem, log_score


@dataclass(frozen=True)
class Particles:
    """Weighted draws of term sets for one variable."""

    sets: Bools  # [K, F]
    log_weight: Array  # [K] nats, normalised


@dataclass(frozen=True)
class Support:
    """The term sets of one variable that an engine knows by name, with their posterior probabilities."""

    sets: Bools  # [N, F], no set twice
    log_probability: Array  # [N] nats, normalised over these sets
    missed: float  # posterior mass outside `sets`: an upper bound, nan where the engine has none
    log_evidence: float = float("nan")  # nats, log sum over `sets` of p(y, M); nan where the engine has none

    def inclusion(self) -> Array:
        """[F] probability that each column is in."""
        return np.asarray(np.exp(self.log_probability) @ self.sets)


class Engine(Protocol):
    """Posterior over the term sets of V variables with the same F candidate columns."""

    def update(self, problems: Sequence[Problem]) -> None:
        """Take the problems [V] as they stand; a bounded amount of work. Deterministic."""

    def log_evidence(self, variable: int, sets: Bools) -> Array:
        """[N] nats, log p(y | M) of the sets [N, F] of one variable."""

    def inclusion(self) -> Array:
        """[V, F] posterior probability that each column is in."""

    def sample(self, count: int, rng: np.random.Generator) -> list[Particles]:
        """`count` particles of every variable, deterministic given the generator's state."""

    def support(self, variable: int) -> Support:
        """The sets this engine gives probability to, for comparison with the exact posterior."""


class OneVariable(Protocol):
    """What `EachVariable` makes an engine of: the posterior of a single variable."""

    def update(self, problem: Problem) -> None: ...

    def log_evidence(self, sets: Bools) -> Array: ...

    def inclusion(self) -> Array: ...

    def sample(self, count: int, rng: np.random.Generator) -> Particles: ...

    def support(self) -> Support: ...


class EachVariable:
    """An engine that treats its variables one after the other, each by an object that `make` returns."""

    def __init__(self, make: Callable[[], OneVariable]) -> None:
        self._make = make
        self.variables: list[OneVariable] = []

    def update(self, problems: Sequence[Problem]) -> None:
        """See `Engine`."""
        if len(problems) != len(self.variables):
            self.variables = [self._make() for _ in problems]
        for variable, problem in zip(self.variables, problems, strict=True):
            variable.update(problem)

    def log_evidence(self, variable: int, sets: Bools) -> Array:
        """See `Engine`."""
        return self.variables[variable].log_evidence(sets)

    def inclusion(self) -> Array:
        """See `Engine`."""
        return np.stack([variable.inclusion() for variable in self.variables])

    def sample(self, count: int, rng: np.random.Generator) -> list[Particles]:
        """See `Engine`."""
        return [variable.sample(count, rng) for variable in self.variables]

    def support(self, variable: int) -> Support:
        """See `Engine`."""
        return self.variables[variable].support()


def support_of(problem: Problem, sets: Bools, *, missed: float = float("nan")) -> Support:
    """`sets` [N, F] (made unique) with their exact posterior probabilities, renormalised over themselves.

    Sets found by any means carry their own evidence, so a search or a chain needs no counting of visits: what it has
    not found is all that is missing (Clyde, Ghosh & Littman 2011, Bayesian adaptive sampling).
    """
    unique = np.unpackbits(
        np.unique(np.packbits(sets, axis=1), axis=0), axis=1, count=sets.shape[1]
    ).astype(bool)  # fmt: skip
    score = log_score(problem, unique)
    total = float(logsumexp(score))
    return Support(unique, score - total, missed, total)


def systematic(probability: Array, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count] indices drawn by systematic resampling: every index gets its share +-1 (Kitagawa 1996)."""
    points = (np.arange(count) + rng.random()) / count
    return np.minimum(np.searchsorted(np.cumsum(probability), points), len(probability) - 1)


def product_sets(problem: Problem, options: list[np.ndarray], base: Bools) -> Bools:
    """All sets [N, F] that choose for each group one of its `options` (column, or -1 for none) on top of `base` [F]."""
    grids = np.meshgrid(*options, indexing="ij") if options else []
    count = int(np.prod([len(option) for option in options], dtype=int))
    sets = np.tile(base, (count, 1))
    rows = np.arange(count)
    for grid in grids:
        choice = grid.reshape(-1)
        taken = choice >= 0
        sets[rows[taken], choice[taken]] = True
    return sets

"""The one interface of all structure engines, and what they return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crl_node.data import Array
from crl_node.structure.evidence import Bools, Problem


@dataclass(frozen=True)
class Particles:
    """Weighted draws of term sets for one variable."""

    sets: Bools  # [K, F]
    log_weight: Array  # [K] nats, normalised


class Engine(Protocol):
    """Posterior over the term sets of one variable."""

    def update(self, problem: Problem) -> None:
        """Take new statistics; a bounded amount of work."""

    def log_evidence(self, sets: Bools) -> Array:
        """[N] nats, log p(y | M) of the sets [N, F]."""

    def inclusion(self) -> Array:
        """[F] posterior probability that each column is in."""

    def sample(self, count: int, rng: np.random.Generator) -> Particles:
        """`count` particles, stratified, deterministic given the generator's state."""


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

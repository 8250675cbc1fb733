"""Sufficient statistics of a time series: additive, centred and scaled only when they are used.

One row is one step: features phi [P] (the library's F terms, then the tail's random features), changes y [D]. Kept are
n, sums and second moments; two recordings' statistics are added. What a feature looks like over one step depends on
how the data were made: a map or noise-driven process acts through phi(t), a smooth flow sampled at dt through an
average over the step, for which the explicit multistep formulas of Adams and Bashforth stand in (they use the past
only, so that their evidences can be compared with that of a map; Raissi et al. 2018, Multistep neural networks).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array

#: Weights of phi(t), phi(t-1), ...: order 1 is a map, order k a flow (Hairer, Norsett & Wanner 1993, III.1, table 1.1).
ADAMS_BASHFORTH: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


@dataclass
class Moments:
    """Sums over n rows of features [P] and changes [D]."""

    rows: float
    feature: Array  # [P] sum of phi
    change: Array  # [D] sum of y
    gram: Array  # [P, P] sum of phi phi'
    cross: Array  # [P, D] sum of phi y'
    square: Array  # [D] sum of y^2

    @classmethod
    def empty(cls, features: int, variables: int) -> Moments:
        """No rows yet."""
        return cls(
            0.0, np.zeros(features), np.zeros(variables), np.zeros((features, features)),
            np.zeros((features, variables)), np.zeros(variables),
        )  # fmt: skip

    def add(self, features: Array, changes: Array) -> None:
        """Rows: `features` [n, P] (or [P]), `changes` [n, D] (or [D]). O(n P^2)."""
        phi, y = np.atleast_2d(features), np.atleast_2d(changes)
        self.rows += len(phi)
        self.feature += phi.sum(axis=0)
        self.change += y.sum(axis=0)
        self.gram += phi.T @ phi
        self.cross += phi.T @ y
        self.square += np.square(y).sum(axis=0)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.rows + other.rows, self.feature + other.feature, self.change + other.change,
            self.gram + other.gram, self.cross + other.cross, self.square + other.square,
        )  # fmt: skip

    def centred(self) -> tuple[Array, Array, Array]:
        """Gram [P, P], cross [P, D] and squares [D] about the means, in the units of features and changes."""
        n = max(self.rows, 1.0)
        gram = self.gram - np.outer(self.feature, self.feature) / n
        cross = self.cross - np.outer(self.feature, self.change) / n
        return gram, cross, np.maximum(self.square - np.square(self.change) / n, 0.0)

    def standardised(self) -> Standardised:
        """Features and changes about their means, features in units of their standard deviation."""
        n = max(self.rows, 1.0)
        mean, centre = self.feature / n, self.change / n
        raw = np.diag(self.gram).copy()
        variance = raw / n - np.square(mean)
        # A difference of two large numbers: what is left of a constant column is rounding, not variance.
        varies = variance > 1e-9 * np.maximum(raw / n, 1e-300)
        std = np.where(varies, np.sqrt(np.maximum(variance, 1e-300)), 1.0)
        gram, cross, spread = self.centred()
        gram = gram / std[:, None] / std[None]
        gram[~varies] = 0.0
        gram[:, ~varies] = 0.0
        cross = cross / std[:, None]
        cross[~varies] = 0.0
        moving = spread > 1e-12 * np.maximum(self.square, 1e-300)
        return Standardised(
            self.rows, mean, std, varies, centre, np.where(moving, spread, 0.0), gram,
            np.where(moving[None], cross, 0.0),
        )  # fmt: skip


@dataclass(frozen=True)
class Standardised:
    """Centred moments in units of the features' standard deviations; the unit of y stays."""

    rows: float
    mean: Array  # [P] of the features
    std: Array  # [P] of the features, 1 where constant
    varies: NDArray[np.bool_]  # [P]
    centre: Array  # [D] mean change
    square: Array  # [D] sum of (y - mean)^2, 0 for variables that never change
    gram: Array  # [P, P]
    cross: Array  # [P, D]


def multistep(features: Array, order: int, longest: int) -> Array:
    """[n - longest, P] sum_k b_k phi(t - k) for the steps t = longest - 1 ... n - 2 of one stretch [n, P].

    `longest` is the longest order that will be compared, so that all orders speak about the same steps.
    """
    last = len(features) - 1
    first = longest - 1
    out = np.zeros((max(last - first, 0), features.shape[1]))
    for k, weight in enumerate(ADAMS_BASHFORTH[order]):
        out += weight * features[first - k : last - k]
    return out

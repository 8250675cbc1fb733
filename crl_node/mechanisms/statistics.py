"""Additive sufficient statistics of Bayesian linear regression, per variable and noise regime.

For a variable with features Phi [n, F] and changes y [n] everything the posterior over term sets, weights and noise
needs is Phi'Phi, Phi'y, y'y and n. They are sums over steps: cost is flat in time, and two robots' statistics add.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array

#: Noise regimes: free, in contact.
FREE, CONTACT = 0, 1
REGIMES = 2


class Statistics:
    """Sums over steps for S variables of one type (slot motion: two rows a step; slot brightness: one)."""

    def __init__(self, slots: int, columns: int) -> None:
        self.gram = np.zeros((slots, REGIMES, columns, columns))  # sum of phi phi'
        self.cross = np.zeros((slots, REGIMES, columns))  # sum of phi y
        self.square = np.zeros((slots, REGIMES))  # sum of y^2
        self.rows = np.zeros((slots, REGIMES))  # number of scalar observations

    def add(self, phi: Array, change: Array, regime: NDArray[np.int_], weight: Array) -> None:
        """One step: phi [S, R, F], change [S, R] (both per step), regime [S], weight [S] (0: nothing is learned)."""
        for i in np.flatnonzero(weight):
            r = regime[i]
            # Most candidates are silent in most steps (far things do not touch): work on the awake ones.
            awake = np.flatnonzero(phi[i].any(axis=0))
            part = phi[i][:, awake]
            self.gram[i, r][np.ix_(awake, awake)] += weight[i] * (part.T @ part)
            self.cross[i, r, awake] += weight[i] * (part.T @ change[i])
            self.square[i, r] += weight[i] * (change[i] @ change[i])
            self.rows[i, r] += weight[i] * change.shape[1]

    def merge(self, other: Statistics) -> None:
        """Add another robot's statistics of the same variables."""
        for name in ("gram", "cross", "square", "rows"):
            getattr(self, name).__iadd__(getattr(other, name))

    def without(self, part: Statistics | None) -> Statistics:
        """What is left when `part`, some of the steps, is taken out again; this object when there is none."""
        if part is None:
            return self
        out = Statistics(len(self.rows), self.cross.shape[2])
        for name in ("gram", "cross", "square", "rows"):
            getattr(out, name)[...] = getattr(self, name) - getattr(part, name)
        return out

    def forget(self, slot: int, parent_columns: NDArray[np.bool_]) -> None:
        """Clear a slot for reuse: its own variable, and the columns [F] of all others in which it is the parent."""
        self.gram[slot] = 0.0
        self.cross[slot] = 0.0
        self.square[slot] = 0.0
        self.rows[slot] = 0.0
        self.gram[:, :, parent_columns] = 0.0
        self.gram[:, :, :, parent_columns] = 0.0
        self.cross[:, :, parent_columns] = 0.0

    def state(self, prefix: str) -> dict[str, Array]:
        """Arrays by name, for a checkpoint."""
        return {f"{prefix}_{name}": getattr(self, name) for name in ("gram", "cross", "square", "rows")}

    def restore(self, arrays: Mapping[str, Array], prefix: str) -> None:
        """Take over arrays written by `state`; ValueError when a shape differs (nothing is changed then)."""
        new = {}
        for name in ("gram", "cross", "square", "rows"):
            array, old = np.asarray(arrays[f"{prefix}_{name}"], float), getattr(self, name)
            if array.shape != old.shape or not np.isfinite(array).all():
                raise ValueError(
                    f"statistics '{prefix}_{name}' have shape {array.shape} (expected {old.shape}) or hold "
                    f"non-finite values; not loaded"
                )
            new[name] = array.copy()
        self.__dict__.update(new)


def bounded_influence(residual: Array, variance: Array, *, most: float) -> Array:
    """Weights [S] in (0, 1] of steps whose `residual` [S, R] is larger than its predicted `variance` [S] allows.

    min(1, most^2 / d^2) with d^2 the mean squared residual in predicted standard deviations (the tail of a Student t).
    One step then never carries more than about most^2 / 2 nats a row: a slot that jumps because it was mistaken for
    another must not decide what moves it, while a mechanism that acts again and again still does.
    """
    squared = np.mean(np.square(residual), axis=1) / variance
    return np.asarray(np.minimum(1.0, most * most / np.maximum(squared, 1e-12)))


def noise_std(
    rows: Array, residual: Array, *, prior_std: float | Array, prior_rows: float, floor: float
) -> Array:
    """Posterior noise standard deviation per regime, shape and unit of `prior_std` broadcast with `rows`.

    Conjugate inverse gamma: sigma^2 ~ IG(m/2, m s0^2/2) with m = `prior_rows` and s0 = `prior_std`, after `rows`
    observations with expected squared residual `residual` (posterior uncertainty of the weights included). The
    prior is worth a few steps and deliberately wide in contact: noise assumed too small kept the same contact
    "interesting" in the prototypes and made the evidence of wrong terms overwhelming.
    """
    variance = (prior_rows * np.square(prior_std) + np.maximum(residual, 0.0)) / (prior_rows + rows)
    return np.asarray(np.maximum(np.sqrt(variance), floor))


def expected_residual(
    gram: Array, cross: Array, square: Array, mean: Array, covariance: Array
) -> Array:
    """E|y - Phi w|^2 [R] per regime under w ~ N(mean [m], covariance [m, m]) for statistics of those m columns.

    `gram` [R, m, m], `cross` [R, m], `square` [R].
    """
    fit = square - 2.0 * cross @ mean + np.einsum("rij,i,j->r", gram, mean, mean)
    return np.asarray(fit + np.einsum("rij,ij->r", gram, covariance))

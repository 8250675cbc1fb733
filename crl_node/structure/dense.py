"""The dense tail of one variable given its sparse core: a posterior on the tail's scale, and shares with intervals.

Motion y = Phi w + Psi t + noise with core weights w of the best term set and tail weights t ~ N(0, m^2 I); the unit of
Psi is one millimetre a step (`mechanisms.tail`). With the core's weights integrated out (Schur complement; Lambda, h, s
as in `evidence`, C = s Phi'Psi, P = Psi'Psi, all divided by the noise variance of their regime)

  P~ = P - C' Lambda^-1 C = U diag(L) U',   b~ = Psi'y - C' Lambda^-1 h,   c = U' b~,
  log p(y | m) = const - 1/2 sum log(1 + m^2 L) + 1/2 sum m^2 c^2 / (1 + m^2 L)

(Murphy 2012, Machine Learning, section 7.6.1, in the eigenbasis): one decomposition serves all scales. It is exact
given the set and the noise levels; the set is found without a tail, so a tail can only have what no term explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array
from crl_node.structure.engine import systematic
from crl_node.structure.evidence import Bools, Problem, submatrix

#: Standard deviations of the whole tail that are compared, in units of `tail.TAIL_STD`; 0: there is none.
SCALES = np.array([0.0, 0.25, 0.5, 1.0, 2.0, 4.0])
#: Half of the prior says that there is no tail, the rest is even over the other scales.
LOG_PRIOR = np.log(np.where(SCALES == 0.0, 0.5, 0.5 / (len(SCALES) - 1)))
#: Draws of core and tail for the shares, a multiple of the number of particles.
DRAWS = 64
#: The interval that is reported.
INTERVAL = (0.05, 0.95)


@dataclass(frozen=True)
class Tail:
    """Posterior of the T tail weights of one variable, in the eigenbasis of what the core leaves free."""

    probability: Array  # [M] of each of SCALES
    eigenvalues: Array  # [T] L
    basis: Array  # [T, T] U
    projected: Array  # [T] c

    @property
    def mean(self) -> Array:
        """[T] weights averaged over the scales."""
        return np.asarray(self.basis @ (self.probability @ self._shrink(SCALES) * self.projected))

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """[count, T] joint draws of scale and weights."""
        scale = SCALES[rng.permutation(systematic(self.probability, count, rng))]
        if not scale.any():
            return np.zeros((count, len(self.projected)))
        shrink = self._shrink(scale)
        coefficient = shrink * self.projected + np.sqrt(shrink) * rng.standard_normal(shrink.shape)
        return np.asarray(coefficient @ self.basis.T)

    def _shrink(self, scale: Array) -> Array:
        """m^2 / (1 + m^2 L) [..., T] for scales [...]: variance of each coefficient."""
        squared = np.square(scale)[..., None]
        return np.asarray(squared / (1.0 + squared * self.eigenvalues))


def fit_tail(problem: Problem, members: NDArray[np.int_], gram: Array, cross: Array, linear: Array) -> Tail:
    """Posterior of the tail beside the core `members` [m] of `problem`.

    `gram` [T, T] = Psi'Psi, `cross` [F, T] = Phi'Psi and `linear` [T] = Psi'y, each divided by the noise variances.
    """
    if members.size:
        scaled = cross[members] * problem.prior_std[members, None]  # C
        right = np.column_stack([scaled, problem.linear[members]])
        solved = np.linalg.solve(submatrix(problem.precision, members), right)
        gram = gram - scaled.T @ solved[:, :-1]
        linear = linear - scaled.T @ solved[:, -1]
    eigenvalues, basis = np.linalg.eigh(0.5 * (gram + gram.T))
    eigenvalues = np.maximum(eigenvalues, 0.0)
    projected = basis.T @ linear
    squared = np.square(SCALES)[:, None]
    grown = 1.0 + squared * eigenvalues
    score = LOG_PRIOR + 0.5 * (squared * np.square(projected) / grown - np.log(grown)).sum(axis=1)
    probability = np.exp(score - score.max())
    return Tail(probability / probability.sum(), eigenvalues, basis, projected)


@dataclass(frozen=True)
class Shares:
    """Shares of core, tail and noise in one variable's motion (sum of squares over all steps); means sum to 1."""

    mean: Array  # [3]
    low: Array  # [3] 5 %
    high: Array  # [3] 95 %


def shares(
    problem: Problem, sets: Bools, tail: Tail, cross: Array, gram: Array, moment: Array, square: float,
    rng: np.random.Generator,
) -> Shares:  # fmt: skip
    """Shares over joint draws of term set, weights and tail.

    `sets` [K, F] are the particles' term sets, `cross` [F, T] as in `fit_tail`; `gram` [F + T, F + T], `moment` [F + T]
    and `square` are the plain sums over all regimes of features, change x features and change^2. The tail is drawn
    given the best set, the core's weights given each particle's set and that tail.
    """
    count, size = len(sets), sets.shape[1]
    each = DRAWS // count
    used = np.flatnonzero(sets.any(axis=0))
    mask = sets[:, used].astype(float)
    drawn = tail.draw(count * each, rng)
    some = bool(drawn.any())  # most variables have no tail: nothing then has to be computed for it
    precision = submatrix(problem.precision, used) * mask[:, :, None] * mask[:, None, :]
    diagonal = np.arange(len(used))
    precision[:, diagonal, diagonal] += 1.0 - mask
    std = problem.prior_std[used]
    right = np.linalg.cholesky(precision) @ rng.standard_normal((count, len(used), each))
    right += (problem.linear[used] * mask)[..., None]
    if some:
        right -= mask[..., None] * ((cross[used] * std[:, None]) @ drawn.reshape(count, each, -1).swapaxes(1, 2))
    core = (np.linalg.solve(precision, right) * (mask * std)[..., None]).swapaxes(1, 2).reshape(-1, len(used))
    by_core = (core @ submatrix(gram, used) * core).sum(axis=1)
    rest = square - 2.0 * core @ moment[used] + by_core
    by_tail = np.zeros(len(core))
    if some:
        by_tail = (drawn @ gram[size:, size:] * drawn).sum(axis=1)
        rest += by_tail - 2.0 * drawn @ moment[size:] + 2.0 * (drawn @ gram[size:, used] * core).sum(axis=1)
    parts = np.maximum(np.stack([by_core, by_tail, rest], axis=1), 0.0)
    parts /= np.maximum(parts.sum(axis=1, keepdims=True), 1e-300)
    mean = parts.mean(axis=0)
    parts.sort(axis=0)
    low, high = (parts[round(q * (len(parts) - 1))] for q in INTERVAL)
    return Shares(mean, low, high)

"""Conjugate log evidence of term sets for one variable, many sets at once.

y = Phi w + noise, noise of known variance per regime, w_p ~ N(mu_p, s_p^2) for p in the set M and 0 otherwise.
In units of the prior (w = s u): Lambda = I + S G S with G = sum_r Phi_r'Phi_r / sigma_r^2, and
h = S g + mu / s with g = sum_r Phi_r'y_r / sigma_r^2. Then (Bishop 2006, PRML, eq. 3.86, non-zero prior mean)

  log p(y | M) = c - 1/2 sum_M (mu/s)^2 - 1/2 log|Lambda_M| + 1/2 h_M' Lambda_M^-1 h_M,
  c = -1/2 sum_r (n_r log(2 pi sigma_r^2) + y_r'y_r / sigma_r^2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """Which of F candidate columns drive one variable: data, weight prior and set prior.

    At most one column of a group is in a set. Prior: groups are independent; group g is in with probability rho_g
    and then it is alternative p with probability pi_p; `log_prior_odds` = log(rho_g pi_p / (1 - rho_g)).
    """

    precision: Array  # [F, F] Lambda, in units of the weight prior
    linear: Array  # [F] h
    constant: float  # c, nats
    prior_mean: Array  # [F] mu
    prior_std: Array  # [F] s
    group: NDArray[np.int32]  # [F]
    log_prior_odds: Array  # [F] nats, -inf for columns that are not allowed

    @property
    def allowed(self) -> Bools:
        """[F] columns that may be in a set at all."""
        return np.asarray(np.isfinite(self.log_prior_odds))

    @property
    def information(self) -> Array:
        """[F] what the data say about each weight in units of its prior precision (0: nothing)."""
        return np.asarray(np.diag(self.precision) - 1.0)

    def restricted(self, columns: NDArray[np.int_]) -> Problem:
        """The same problem over some of its columns."""
        return replace(
            self,
            precision=self.precision[np.ix_(columns, columns)],
            linear=self.linear[columns],
            prior_mean=self.prior_mean[columns],
            prior_std=self.prior_std[columns],
            group=self.group[columns],
            log_prior_odds=self.log_prior_odds[columns],
        )


def make_problem(
    gram: Array, cross: Array, square: Array, rows: Array, noise_std: Array, *,
    prior_mean: Array, prior_std: Array, group: NDArray[np.int32], log_prior_odds: Array,
) -> Problem:  # fmt: skip
    """Problem from statistics of one variable: gram [R, F, F], cross [R, F], square [R], rows [R], noise_std [R]."""
    inverse = 1.0 / np.square(noise_std)
    precision = np.tensordot(inverse, gram, 1) * prior_std[:, None] * prior_std[None]
    precision[np.diag_indices_from(precision)] += 1.0
    linear = (inverse @ cross) * prior_std + prior_mean / prior_std
    constant = -0.5 * float(np.sum(rows * np.log(2.0 * np.pi * np.square(noise_std)) + square * inverse))
    return Problem(precision, linear, constant, prior_mean, prior_std, group, log_prior_odds)


def log_evidence(problem: Problem, sets: Bools) -> Array:
    """log p(y | M) [N] nats of the term sets [N, F] (set prior not included).

    One batched Cholesky: columns outside a set become identity rows, and h is bordered on so that the last pivot
    carries the quadratic form (no triangular solves).
    """
    used = np.flatnonzero(sets.any(axis=0))
    mask = sets[:, used].astype(float)
    n, m = mask.shape
    border = np.zeros((n, m + 1, m + 1))
    border[:, :m, :m] = problem.precision[np.ix_(used, used)] * mask[:, :, None] * mask[:, None, :]
    border[:, np.arange(m), np.arange(m)] += 1.0 - mask
    h = problem.linear[used] * mask
    # Any corner above h'Lambda^-1 h keeps the matrix positive definite; Lambda >= I bounds that by h'h.
    corner = np.sum(h * h, axis=1) + 1.0
    border[:, m, :m] = border[:, :m, m] = h
    border[:, m, m] = corner
    pivots = np.diagonal(np.linalg.cholesky(border), axis1=1, axis2=2)
    quadratic = corner - np.square(pivots[:, m])
    half_log_det = np.log(pivots[:, :m]).sum(axis=1)
    pull = mask @ np.square(problem.prior_mean[used] / problem.prior_std[used])
    return np.asarray(problem.constant - 0.5 * pull - half_log_det + 0.5 * quadratic)


def log_prior(problem: Problem, sets: Bools) -> Array:
    """log p(M) [N] nats of the sets [N, F] up to the constant sum_g log(1 - rho_g); -inf for forbidden sets."""
    used = np.flatnonzero(sets.any(axis=0))
    picked = sets[:, used]
    out = np.where(picked, problem.log_prior_odds[used], 0.0).sum(axis=1)
    groups, position = np.unique(problem.group[used], return_inverse=True)
    counts = picked.astype(float) @ (position[:, None] == np.arange(len(groups)))
    return np.asarray(np.where((counts > 1.5).any(axis=1), -np.inf, out))


def weights_given(problem: Problem, columns: NDArray[np.int_]) -> tuple[Array, Array]:
    """Exact posterior N(mean [m], covariance [m, m]) of the weights of the set `columns` [m], natural units."""
    scale = problem.prior_std[columns]
    covariance = np.linalg.inv(problem.precision[np.ix_(columns, columns)])
    mean = covariance @ problem.linear[columns]
    return mean * scale, covariance * scale[:, None] * scale[None]


def flip_odds(problem: Problem, members: NDArray[np.int_]) -> Array:
    """[F] log posterior odds of each column given that the rest of the set is `members` (Schur complements).

    For p outside the set: odds of {members + p} against {members}; for p inside: odds of {members} against
    {members - p}. Columns whose *group* is held by another member compare replacing that member against dropping it.
    """
    base = np.square(problem.prior_mean / problem.prior_std)
    odds = _add_odds(problem, members, base)
    if len(members):
        covariance = np.linalg.inv(problem.precision[np.ix_(members, members)])
        mean = covariance @ problem.linear[members]
        spread = np.diag(covariance)
        odds[members] = (
            0.5 * np.log(spread) + 0.5 * np.square(mean) / spread - 0.5 * base[members]
        ) + problem.log_prior_odds[members]
        for k, member in enumerate(members):
            siblings = np.flatnonzero((problem.group == problem.group[member]) & problem.allowed)
            siblings = siblings[siblings != member]
            if siblings.size:
                rest = np.delete(members, k)
                odds[siblings] = _add_odds(problem.restricted(np.concatenate([siblings, rest])),
                                           np.arange(len(siblings), len(siblings) + len(rest)),
                                           base[np.concatenate([siblings, rest])])[: len(siblings)]  # fmt: skip
    return odds


def _add_odds(problem: Problem, members: NDArray[np.int_], base: Array) -> Array:
    """[F] log posterior odds of adding each column to `members` (meaningless for members themselves)."""
    pivot, pull = np.diag(problem.precision).copy(), problem.linear.copy()
    if len(members):
        cross = problem.precision[members]
        solved = np.linalg.solve(problem.precision[np.ix_(members, members)], cross)
        pivot -= np.einsum("mf,mf->f", cross, solved)
        pull -= problem.linear[members] @ solved
    pivot = np.maximum(pivot, 1.0)  # Lambda - I is positive semidefinite, so every Schur complement is >= 1
    return np.asarray(-0.5 * np.log(pivot) + 0.5 * np.square(pull) / pivot - 0.5 * base + problem.log_prior_odds)

"""Conjugate log evidence of term sets for one variable, many sets at once.

y = Phi w + noise, w_p ~ N(mu_p, s_p^2) for p in the set M and 0 otherwise. In units of the prior (w = s u):
Lambda = I + S G S with G = Phi'Phi, h = S Phi'y + mu / s, and q_M = h_M' Lambda_M^-1 h_M - sum_M (mu/s)^2.

Noise known, one variance per regime (G and Phi'y are sums over regimes, each divided by its variance; Bishop 2006,
PRML, eq. 3.86, non-zero prior mean):

  log p(y | M) = c - 1/2 log|Lambda_M| + 1/2 q_M,   c = -1/2 sum_r (n_r log(2 pi sigma_r^2) + y_r'y_r / sigma_r^2).

Noise unknown and integrated out, sigma^2 ~ InverseGamma(a0, b0), weights N(mu, sigma^2 s^2) (Murphy 2012, eq. 7.71):

  log p(y | M) = c - 1/2 log|Lambda_M| - a log(1 - q_M / (2 b)),   a = a0 + n/2, b = b0 + y'y/2,
  c = -n/2 log(2 pi) + a0 log b0 - a log b + log Gamma(a) - log Gamma(a0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from crl_node.data import Array

Bools = NDArray[np.bool_]
#: Share of y'y below which a residual is rounding error.
LEAST_RESIDUAL = 1e-13


@dataclass(frozen=True)
class Problem:
    """Which of F candidate columns drive one variable: data, weight prior and set prior.

    At most one column of a group is in a set. Prior: groups are independent; group g is in with probability rho_g
    and then it is alternative p with probability pi_p; `log_prior_odds` = log(rho_g pi_p / (1 - rho_g)). On top of
    that `size_log_prior` may weigh sets by the number of groups that are in, which makes groups dependent (a rate
    rho that is itself unknown, see `beta_binomial`).
    """

    precision: Array  # [F, F] Lambda, in units of the weight prior
    linear: Array  # [F] h
    constant: float  # c, nats
    prior_mean: Array  # [F] mu
    prior_std: Array  # [F] s (of w / sigma where the noise is integrated out)
    group: NDArray[np.int32]  # [F]
    log_prior_odds: Array  # [F] nats, -inf for columns that are not allowed
    shape: float = np.inf  # a of the noise variance; inf: the noise is known and its variance divided out
    rate: float = 1.0  # b of the noise variance, unit of y^2
    size_log_prior: Array | None = None  # [G + 1] nats by number of groups in; None: 0

    @property
    def allowed(self) -> Bools:
        """[F] columns that may be in a set at all."""
        return np.asarray(np.isfinite(self.log_prior_odds))

    @property
    def information(self) -> Array:
        """[F] what the data say about each weight in units of its prior precision (0: nothing)."""
        return np.asarray(np.diag(self.precision) - 1.0)

    @property
    def pull(self) -> Array:
        """[F] (mu/s)^2, what a term's prior mean costs when it is in."""
        return np.asarray(np.square(self.prior_mean / self.prior_std))

    def fit(self, quadratic: Array) -> Array:
        """Nats that an explained `quadratic` q_M (any shape) is worth against the empty set."""
        if np.isinf(self.shape):
            return np.asarray(0.5 * quadratic)
        # q < 2 b in exact arithmetic (b0 > 0); rounding must not turn a perfect fit into a NaN.
        return np.asarray(-self.shape * np.log(np.maximum(1.0 - 0.5 * quadratic / self.rate, LEAST_RESIDUAL)))

    def noise_variance(self, quadratic: Array) -> Array:
        """E[sigma^2 | y, M] by which weights' covariances are scaled: 1 where the noise is known."""
        if np.isinf(self.shape):
            return np.ones_like(np.asarray(quadratic, float))
        left = self.rate * np.maximum(1.0 - 0.5 * np.asarray(quadratic) / self.rate, LEAST_RESIDUAL)
        return np.asarray(left / max(self.shape - 1.0, 0.5))

    def size_nats(self, count: NDArray[np.int_]) -> Array:
        """`size_log_prior` at `count` groups (int, any shape)."""
        if self.size_log_prior is None:
            return np.zeros(np.shape(count))
        return np.asarray(self.size_log_prior[np.minimum(count, len(self.size_log_prior) - 1)])

    def of_groups(self, groups: Sequence[int] | NDArray[np.int_]) -> Bools:
        """[F] columns that belong to any of `groups`. (`np.isin` takes five times as long at these sizes.)"""
        member = np.zeros(int(self.group.max(initial=-1)) + 1, bool)
        member[np.asarray(groups, int)] = True
        return np.asarray(member[self.group])

    def restricted(self, columns: NDArray[np.int_]) -> Problem:
        """The same problem over some of its columns."""
        return replace(
            self,
            precision=submatrix(self.precision, columns),
            linear=self.linear[columns],
            prior_mean=self.prior_mean[columns],
            prior_std=self.prior_std[columns],
            group=self.group[columns],
            log_prior_odds=self.log_prior_odds[columns],
        )


def submatrix(matrix: Array, rows: NDArray[np.int_], columns: NDArray[np.int_] | None = None) -> Array:
    """matrix[rows, columns] as a block, columns = rows by default. (`np.ix_` spends more time on asking than this.)"""
    return np.asarray(matrix[rows[:, None], rows if columns is None else columns])


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


def make_conjugate_problem(
    gram: Array, cross: Array, square: float, rows: float, *,
    prior_mean: Array, prior_std: Array, group: NDArray[np.int32], log_prior_odds: Array,
    shape: float = 1.0, rate: float, size_log_prior: Array | None = None,
) -> Problem:  # fmt: skip
    """Problem with the noise variance integrated out, from gram [F, F], cross [F], square and rows of one variable.

    `shape`, `rate`: a0 and b0 of the noise variance's inverse-gamma prior; ValueError unless both are > 0.
    """
    if not (shape > 0 and rate > 0):
        raise ValueError(f"the noise prior InverseGamma({shape}, {rate}) needs both parameters > 0")
    precision = gram * prior_std[:, None] * prior_std[None]
    precision[np.diag_indices_from(precision)] += 1.0
    linear = cross * prior_std + prior_mean / prior_std
    a, b = shape + 0.5 * rows, rate + 0.5 * square
    constant = -0.5 * rows * np.log(2.0 * np.pi) + shape * np.log(rate) - a * np.log(b) + gammaln(a) - gammaln(shape)
    return Problem(
        precision, linear, float(constant), prior_mean, prior_std, group, log_prior_odds, float(a), float(b),
        size_log_prior,
    )  # fmt: skip


def beta_binomial(groups: int, *, mean: float, strength: float = 2.0) -> Array:
    """`size_log_prior` [G + 1] of an unknown rate rho ~ Beta(strength mean, strength (1 - mean)), integrated out.

    p(M) = B(k + a, G - k + b) / B(a, b) for a set of k of G groups (Scott & Berger 2010, Bayes and empirical-Bayes
    multiplicity adjustment, eq. 8): many candidates do not by themselves make many terms likely. Use with
    `log_prior_odds` that hold only the share of the alternatives. ValueError unless 0 < mean < 1.
    """
    if not 0.0 < mean < 1.0:
        raise ValueError(f"the mean rate of terms is {mean}, it must lie between 0 and 1")
    a, b = strength * mean, strength * (1.0 - mean)
    k = np.arange(groups + 1)
    return np.asarray(gammaln(k + a) + gammaln(groups - k + b) - gammaln(groups + a + b) - gammaln(a) - gammaln(b)
                      + gammaln(a + b))  # fmt: skip


def log_evidence(problem: Problem, sets: Bools) -> Array:
    """log p(y | M) [N] nats of the term sets [N, F] (set prior not included).

    One batched Cholesky: columns outside a set become identity rows, and h is bordered on so that the last pivot
    carries the quadratic form (no triangular solves).
    """
    used = np.flatnonzero(sets.any(axis=0))
    mask = sets[:, used].astype(float)
    n, m = mask.shape
    border = np.zeros((n, m + 1, m + 1))
    border[:, :m, :m] = submatrix(problem.precision, used) * mask[:, :, None] * mask[:, None, :]
    border[:, np.arange(m), np.arange(m)] += 1.0 - mask
    h = problem.linear[used] * mask
    # Any corner above h'Lambda^-1 h keeps the matrix positive definite; Lambda >= I bounds that by h'h.
    corner = np.sum(h * h, axis=1) + 1.0
    border[:, m, :m] = border[:, :m, m] = h
    border[:, m, m] = corner
    pivots = np.diagonal(np.linalg.cholesky(border), axis1=1, axis2=2)
    quadratic = corner - np.square(pivots[:, m])
    half_log_det = np.log(pivots[:, :m]).sum(axis=1)
    return np.asarray(problem.constant - half_log_det + problem.fit(quadratic - mask @ problem.pull[used]))


def log_prior(problem: Problem, sets: Bools) -> Array:
    """log p(M) [N] nats of the sets [N, F] up to a constant (sum_g log(1 - rho_g)); -inf for forbidden sets."""
    used = np.flatnonzero(sets.any(axis=0))
    picked = sets[:, used]
    out = np.where(picked, problem.log_prior_odds[used], 0.0).sum(axis=1)
    groups, position = np.unique(problem.group[used], return_inverse=True)
    counts = picked.astype(float) @ (position[:, None] == np.arange(len(groups)))
    out = out + problem.size_nats((counts > 0.5).sum(axis=1))
    return np.asarray(np.where((counts > 1.5).any(axis=1), -np.inf, out))


def log_score(problem: Problem, sets: Bools) -> Array:
    """log p(y, M) [N] nats up to a constant: evidence plus set prior."""
    return log_evidence(problem, sets) + log_prior(problem, sets)


def weights_given(problem: Problem, columns: NDArray[np.int_]) -> tuple[Array, Array]:
    """Exact posterior N(mean [m], covariance [m, m]) of the weights of the set `columns` [m], natural units."""
    scale = problem.prior_std[columns]
    covariance = np.linalg.inv(submatrix(problem.precision, columns))
    mean = covariance @ problem.linear[columns]
    variance = problem.noise_variance(problem.linear[columns] @ mean - problem.pull[columns].sum())
    return mean * scale, covariance * scale[:, None] * scale[None] * variance


def flip_odds(problem: Problem, members: NDArray[np.int_]) -> Array:
    """[F] log posterior odds of each column given that the rest of the set is `members` (Schur complements).

    For p outside the set: odds of {members + p} against {members}; for p inside: odds of {members} against
    {members - p}. Columns whose *group* is held by another member compare replacing that member against dropping it.
    """
    odds = _add_odds(problem, members)
    if len(members):
        covariance = np.linalg.inv(submatrix(problem.precision, members))
        mean = covariance @ problem.linear[members]
        spread = np.diag(covariance)
        pull = problem.pull[members]
        quadratic = problem.linear[members] @ mean - pull.sum()
        size = np.array([len(members), len(members) - 1])
        odds[members] = (
            0.5 * np.log(spread)
            + problem.fit(quadratic) - problem.fit(quadratic - np.square(mean) / spread + pull)
            - np.subtract(*problem.size_nats(size)[::-1])
            + problem.log_prior_odds[members]
        )  # fmt: skip
        allowed = problem.allowed
        for k, member in enumerate(members):
            siblings = ((problem.group == problem.group[member]) & allowed).nonzero()[0]
            siblings = siblings[siblings != member]
            if siblings.size:
                rest = np.delete(members, k)
                judged = problem.restricted(np.concatenate([siblings, rest]))
                odds[siblings] = _add_odds(judged, np.arange(len(siblings), len(siblings) + len(rest)))[: len(siblings)]
    return odds


def _add_odds(problem: Problem, members: NDArray[np.int_]) -> Array:
    """[F] log posterior odds of adding each column to `members` (meaningless for members themselves)."""
    pivot, pull = np.diag(problem.precision).copy(), problem.linear.copy()
    quadratic = 0.0
    if len(members):
        cross, inner = problem.precision[members], submatrix(problem.precision, members)
        solved = np.linalg.solve(inner, cross)
        pivot -= np.einsum("mf,mf->f", cross, solved)
        pull -= problem.linear[members] @ solved
        mean = np.linalg.solve(inner, problem.linear[members])
        quadratic = float(problem.linear[members] @ mean - problem.pull[members].sum())
    pivot = np.maximum(pivot, 1.0)  # Lambda - I is positive semidefinite, so every Schur complement is >= 1
    gained = problem.fit(quadratic + np.square(pull) / pivot - problem.pull) - problem.fit(np.array(quadratic))
    size = problem.size_nats(np.array([len(members), len(members) + 1]))
    return np.asarray(-0.5 * np.log(pivot) + gained + size[1] - size[0] + problem.log_prior_odds)

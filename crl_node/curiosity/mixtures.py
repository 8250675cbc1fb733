"""Information about one variable, exactly where it can be: weights and term set under linear Gaussian outcomes.

A variable changes by y = Phi w + noise, with term set M and weights w | M ~ N(mu_M, Sigma_M). Of an experiment only
its information matrix A = Phi' D^-1 Phi [R, R] matters (D the noise covariance): with A = B B' the outcomes are as good
as R numbers N(B' mu_M, C_M) with C_M = I + B' Sigma_M B under term set M. From these

  I(w; y | M) = 1/2 log |C_M|                                              (MacKay 1992, eq. 3.7)
  I(M; y) between  -sum_k p_k log sum_l p_l exp(-B_kl)  and  -sum_k p_k log sum_l p_l exp(-KL_kl)

with B_kl the Bhattacharyya distance of the two predictions (Kolchinsky & Tracey 2017, Estimating mixture entropy with
pairwise distances, eq. 10 and 11). Both bounds are 0 for predictions that agree and the entropy of p for predictions
that lie far apart. Arrays are float64, in natural units; nats throughout.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from crl_node.data import Array


def root(information: Array) -> Array:
    """B [R, R] with B B' = `information` [R, R], symmetric and positive semidefinite up to rounding."""
    value, vector = np.linalg.eigh(0.5 * (information + information.T))
    return np.asarray(vector * np.sqrt(np.maximum(value, 0.0)))


def predicted(covariance: Array, information: Array) -> Array:
    """C [..., R, R] of the whitened outcomes, for weight covariances [..., R, R]."""
    b = root(information)
    return np.asarray(np.eye(len(b)) + b.T @ covariance @ b)


def weights_gain(covariance: Array, information: Array) -> Array:
    """[...] nats, I(w; y | M) = 1/2 log |I + Sigma A| of weight covariances [..., R, R], zero outside the set."""
    return np.asarray(0.5 * np.linalg.slogdet(predicted(covariance, information))[1])


def set_gain_bounds(
    log_probability: Array, mean: Array, covariance: Array, information: Array
) -> tuple[float, float]:
    """Lower and upper bound [nats] of I(M; y).

    Sets with `log_probability` [K], `mean` [K, R] and `covariance` [K, R, R] of their weights; `information` [R, R].
    """
    c = predicted(covariance, information)
    m = mean @ root(information)
    log_det = np.linalg.slogdet(c)[1]
    inverse = np.linalg.inv(c)
    offset = m[:, None] - m[None]  # [K, K, R]
    distance = np.einsum("kli,lij,klj->kl", offset, inverse, offset)
    trace = np.einsum("lij,kji->kl", inverse, c) - c.shape[1]
    kl = 0.5 * (trace + log_det[None] - log_det[:, None] + distance)
    between = 0.5 * (c[:, None] + c[None])
    solved = np.linalg.solve(between, offset[..., None])[..., 0]
    halfway = np.linalg.slogdet(between)[1] - 0.5 * (log_det[:, None] + log_det[None])
    bhattacharyya = 0.125 * np.einsum("kli,kli->kl", offset, solved) + 0.5 * halfway
    probability = np.exp(log_probability)
    lower, upper = (
        -float(probability @ logsumexp(log_probability[None] - np.maximum(d, 0.0), axis=1))
        for d in (bhattacharyya, kl)
    )
    return max(lower, 0.0), max(upper, 0.0)


def set_gain(log_probability: Array, mean: Array, covariance: Array, information: Array) -> float:
    """I(M; y) [nats], estimated by the geometric mean of its bounds: exact for weak evidence and at saturation."""
    lower, upper = set_gain_bounds(log_probability, mean, covariance, information)
    return float(np.sqrt(lower * upper))


def set_gain_monte_carlo(
    log_probability: Array,
    mean: Array,
    covariance: Array,
    information: Array,
    rng: np.random.Generator,
    count: int,
) -> tuple[float, float]:
    """I(M; y) [nats] from `count` outcomes drawn from each set, with exact densities; and its standard error."""
    c = predicted(covariance, information)
    m = mean @ root(information)
    lower = np.linalg.cholesky(c)
    log_det = 2.0 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    # As many from each set, however rare it is: seldom drawn sets would give an error that is too small.
    y = m[:, None] + rng.standard_normal((len(m), count, m.shape[1])) @ np.swapaxes(lower, 1, 2)
    inverse = np.linalg.inv(lower)
    z = np.einsum("lij,knlj->knli", inverse, y[:, :, None] - m)
    density = -0.5 * (np.square(z).sum(axis=3) + log_det)  # [K, count, K]
    own = np.diagonal(density, axis1=0, axis2=2).T
    gain = own - logsumexp(density + log_probability, axis=2)
    probability = np.exp(log_probability)
    return float(probability @ gain.mean(axis=1)), float(
        np.sqrt(np.square(probability) @ gain.var(axis=1) / count)
    )


def gaussian_kl(mean: Array, covariance: Array, old_mean: Array, old_covariance: Array) -> float:
    """KL(N(mean, covariance) || N(old_mean, old_covariance)) [nats] of [R] weights."""
    if not len(mean):
        return 0.0
    offset = mean - old_mean
    inverse = np.linalg.inv(old_covariance)
    ratio = np.linalg.slogdet(old_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return float(0.5 * (np.sum(inverse * covariance) - len(mean) + ratio + offset @ inverse @ offset))

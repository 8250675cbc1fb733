"""Structure problems drawn from the prior they are judged under: for training, calibration and comparison of engines.

A draw follows the model exactly: size of the set ~ beta-binomial, members uniform, sigma^2 ~ InverseGamma, weights ~
N(0, sigma^2 s^2), rows ~ N(Phi w, sigma^2). So an engine whose answer is the posterior is calibrated on them, whatever
the features look like. Features are drawn with strong and weak correlation, few and many rows, because posteriors that
are split between look-alikes are the hard part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from crl_node.data import Array
from crl_node.structure.evidence import Bools, Problem, beta_binomial, make_conjugate_problem


@dataclass(frozen=True)
class DrawConfig:
    """The distribution of problems."""

    columns: int = 14  # F, candidate terms
    rows: tuple[int, int] = (4, 600)  # log-uniform
    mean_rate: float = 0.2  # of the beta prior on the rate of terms
    strength: float = 4.0  # of the same, a + b
    weight_std: tuple[float, float] = (0.3, 3.0)  # s, in units of the noise; log-uniform, one for all columns
    shape: float = 2.0  # a0 of the noise variance
    rate: float = 1.0  # b0
    factors: int = 3  # common causes that correlate the features
    correlated: float = 0.6  # share of problems with common causes
    twins: float = 0.25  # share of problems with a pair of nearly equal columns


@dataclass(frozen=True)
class Draw:
    """A problem with the truth behind it."""

    problem: Problem
    truth: Bools  # [F]
    weights: Array  # [F], 0 outside the true set
    features: Array  # [n, F]
    change: Array  # [n]


def draw_features(rng: np.random.Generator, rows: int, config: DrawConfig) -> Array:
    """Phi [rows, F] of about unit variance: independent, with common causes, or with near twins."""
    phi = rng.standard_normal((rows, config.columns))
    if rng.random() < config.correlated:
        loading = rng.standard_normal((config.factors, config.columns)) * rng.uniform(0.3, 2.0)
        phi = phi + rng.standard_normal((rows, config.factors)) @ loading
        phi = phi / np.sqrt(1.0 + np.square(loading).sum(axis=0))
    if rng.random() < config.twins and config.columns > 1:
        one, other = rng.choice(config.columns, 2, replace=False)
        phi[:, other] = phi[:, one] + rng.choice([0.02, 0.1, 0.3]) * rng.standard_normal(rows)
    return np.asarray(phi)


def draw(rng: np.random.Generator, config: DrawConfig | None = None) -> Draw:
    """One problem from the prior. Deterministic given the generator's state."""
    config = config or DrawConfig()
    size = config.columns
    low, high = np.log(config.rows[0]), np.log(config.rows[1] + 1.0)
    rows = int(np.exp(rng.uniform(low, high)))
    std = float(np.exp(rng.uniform(*np.log(config.weight_std))))
    prior_std = np.full(size, std)
    a, b = config.strength * config.mean_rate, config.strength * (1.0 - config.mean_rate)
    truth = rng.random(size) < rng.beta(a, b)
    variance = config.rate / rng.gamma(config.shape)
    weights = np.where(truth, std * np.sqrt(variance) * rng.standard_normal(size), 0.0)
    phi = draw_features(rng, rows, config)
    change = phi @ weights + np.sqrt(variance) * rng.standard_normal(rows)
    return Draw(problem_of(phi, change, prior_std, config), truth, weights, phi, change)


def problem_of(features: Array, change: Array, prior_std: Array, config: DrawConfig) -> Problem:
    """The problem of data [n, F], [n] under the prior of `config`."""
    size = features.shape[1]
    group: NDArray[np.int32] = np.arange(size, dtype=np.int32)
    return make_conjugate_problem(
        features.T @ features, features.T @ change, float(change @ change), float(len(change)),
        prior_mean=np.zeros(size), prior_std=prior_std, group=group, log_prior_odds=np.zeros(size),
        shape=config.shape, rate=config.rate,
        size_log_prior=beta_binomial(size, mean=config.mean_rate, strength=config.strength),
    )  # fmt: skip


def prior_sets(problem: Problem, count: int, rng: np.random.Generator) -> Bools:
    """`count` independent sets [count, F] from the set prior of `problem`: groups, odds and size prior.

    The groups are decided one after the other, given how many are in already; what is still to come is summed out by
    elementary symmetric polynomials.
    """
    columns = np.flatnonzero(problem.allowed)
    groups = np.unique(problem.group[columns])
    members = [columns[problem.group[columns] == g] for g in groups]
    total = np.array([logsumexp(problem.log_prior_odds[m]) for m in members])
    left = len(groups)
    log_e = np.full((left + 1, left + 1), -np.inf)  # [g, k] of the groups g, g + 1, ..
    log_e[left, 0] = 0.0
    for g in range(left - 1, -1, -1):
        log_e[g] = log_e[g + 1]
        log_e[g, 1:] = np.logaddexp(log_e[g + 1, 1:], total[g] + log_e[g + 1, :-1])
    # First how many, then which: given the number, group g is in with the ratio of two polynomials.
    size = log_e[0] + problem.size_nats(np.arange(left + 1))
    size = np.exp(size - logsumexp(size))
    need = rng.choice(left + 1, count, p=size / size.sum())
    sets = np.zeros((count, len(problem.group)), bool)
    for g in range(left):
        with np.errstate(invalid="ignore"):
            share = np.exp(total[g] + log_e[g + 1, np.maximum(need - 1, 0)] - log_e[g, need])
        taken = np.flatnonzero((need > 0) & (rng.random(count) < share))
        odds = np.exp(problem.log_prior_odds[members[g]] - total[g])
        sets[taken, rng.choice(members[g], len(taken), p=odds / odds.sum())] = True
        need[taken] -= 1
    return sets

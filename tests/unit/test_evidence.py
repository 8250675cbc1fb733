"""The conjugate evidence against the density it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from crl_node.structure.evidence import (
    Problem,
    flip_odds,
    log_evidence,
    log_prior,
    make_problem,
    weights_given,
)


def random_problem(
    seed: int, rows: int = 12, columns: int = 5, groups: list[int] | None = None
) -> tuple[Problem, list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Problem with its data by regime: features [n, F] and changes [n]."""
    rng = np.random.default_rng(seed)
    phi = [rng.normal(size=(rows, columns)), rng.normal(size=(rows // 2, columns))]
    truth = rng.normal(size=columns) * (rng.random(columns) < 0.5)
    noise = np.array([0.3, 0.8])
    change = [p @ truth + rng.normal(size=len(p)) * s for p, s in zip(phi, noise, strict=True)]
    problem = make_problem(
        np.stack([p.T @ p for p in phi]),
        np.stack([p.T @ y for p, y in zip(phi, change, strict=True)]),
        np.array([y @ y for y in change]),
        np.array([len(y) for y in change], float),
        noise,
        prior_mean=rng.normal(size=columns),
        prior_std=rng.uniform(0.3, 1.5, columns),
        group=np.array(groups if groups is not None else range(columns), np.int32),
        log_prior_odds=rng.normal(size=columns),
    )
    return problem, phi, change, noise


def by_hand(problem: Problem, phi: list[np.ndarray], change: list[np.ndarray], noise: np.ndarray, members) -> float:
    """log N(y; Phi mu, Phi S Phi' + noise) of all rows together."""
    features, y = np.vstack(phi)[:, members], np.concatenate(change)
    std = np.concatenate([np.full(len(c), s) for c, s in zip(change, noise, strict=True)])
    covariance = np.diag(std**2) + features @ np.diag(problem.prior_std[members] ** 2) @ features.T
    return float(multivariate_normal.logpdf(y, features @ problem.prior_mean[members], covariance))


@pytest.mark.parametrize("seed", range(4))
def test_log_evidence_equals_the_multivariate_normal_density(seed: int) -> None:
    problem, phi, change, noise = random_problem(seed)
    sets = np.array([[(n >> k) & 1 for k in range(5)] for n in range(32)], bool)
    expected = [by_hand(problem, phi, change, noise, np.flatnonzero(row)) for row in sets]
    np.testing.assert_allclose(log_evidence(problem, sets), expected, rtol=1e-9, atol=1e-7)


def test_flip_odds_are_the_differences_of_evidence_and_prior() -> None:
    problem, *_ = random_problem(7, groups=[0, 0, 1, 2, 3])
    members = np.array([1, 3])
    odds = flip_odds(problem, members)

    def score(columns: list[int]) -> float:
        row = np.zeros((1, 5), bool)
        row[0, columns] = True
        return float((log_evidence(problem, row) + log_prior(problem, row))[0])

    assert odds[2] == pytest.approx(score([1, 2, 3]) - score([1, 3]))
    assert odds[4] == pytest.approx(score([1, 3, 4]) - score([1, 3]))
    assert odds[1] == pytest.approx(score([1, 3]) - score([3]))
    # Column 0 shares the group of member 1: it is judged in its place.
    assert odds[0] == pytest.approx(score([0, 3]) - score([3]))


def test_two_alternatives_of_one_group_are_impossible_together() -> None:
    problem, *_ = random_problem(3, groups=[0, 0, 1, 2, 3])
    sets = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
    prior = log_prior(problem, sets)
    assert prior[0] == -np.inf
    assert prior[1] == pytest.approx(problem.log_prior_odds[0])


def test_weights_given_a_set_are_the_ridge_solution_around_the_prior_mean() -> None:
    problem, phi, change, noise = random_problem(5)
    members = np.array([0, 2, 3])
    mean, covariance = weights_given(problem, members)
    precision = np.diag(problem.prior_std[members] ** -2)
    right = precision @ problem.prior_mean[members]
    for p, y, s in zip(phi, change, noise, strict=True):
        precision = precision + p[:, members].T @ p[:, members] / s**2
        right = right + p[:, members].T @ y / s**2
    np.testing.assert_allclose(covariance, np.linalg.inv(precision), rtol=1e-8)
    np.testing.assert_allclose(mean, np.linalg.solve(precision, right), rtol=1e-8)


def test_collinear_and_constant_columns_keep_the_evidence_finite() -> None:
    phi = np.ones((400, 3))
    y = np.full(400, 0.7)
    problem = make_problem(
        (phi.T @ phi)[None], (phi.T @ y)[None], np.array([y @ y]), np.array([400.0]), np.array([1e-3]),
        prior_mean=np.zeros(3), prior_std=np.ones(3), group=np.arange(3, dtype=np.int32), log_prior_odds=np.zeros(3),
    )  # fmt: skip
    sets = np.array([[(n >> k) & 1 for k in range(3)] for n in range(8)], bool)
    assert np.isfinite(log_evidence(problem, sets)).all()
    assert np.isfinite(flip_odds(problem, np.array([0, 1]))).all()

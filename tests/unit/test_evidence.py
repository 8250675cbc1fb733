"""The conjugate evidence against the density it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import comb
from scipy.stats import multivariate_normal, multivariate_t

from crl_node.structure.evidence import (
    Problem,
    beta_binomial,
    flip_odds,
    log_evidence,
    log_prior,
    log_score,
    make_conjugate_problem,
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


def conjugate_problem(seed: int, rows: int = 9, columns: int = 4) -> tuple[Problem, np.ndarray, np.ndarray]:
    """A problem whose noise variance is integrated out, with its features [n, F] and changes [n]."""
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(rows, columns))
    y = phi @ (rng.normal(size=columns) * (rng.random(columns) < 0.5)) + 0.4 * rng.normal(size=rows)
    problem = make_conjugate_problem(
        phi.T @ phi, phi.T @ y, float(y @ y), float(rows), prior_mean=0.5 * rng.normal(size=columns),
        prior_std=rng.uniform(0.3, 1.5, columns), group=np.arange(columns, dtype=np.int32),
        log_prior_odds=rng.normal(size=columns), shape=1.5, rate=0.3,
        size_log_prior=beta_binomial(columns, mean=0.3),
    )  # fmt: skip
    return problem, phi, y


@pytest.mark.parametrize("seed", range(4))
def test_evidence_with_unknown_noise_equals_the_multivariate_student_density(seed: int) -> None:
    problem, phi, y = conjugate_problem(seed)
    sets = np.array([[(n >> k) & 1 for k in range(4)] for n in range(16)], bool)
    expected = []
    for row in sets:
        m = np.flatnonzero(row)
        # With prior weights N(mu, sigma^2 S) the mean's pull also counts: y - Phi mu is Student t (Murphy 2012, 7.76).
        scale = np.eye(len(y)) + phi[:, m] @ np.diag(problem.prior_std[m] ** 2) @ phi[:, m].T
        expected.append(multivariate_t.logpdf(y, phi[:, m] @ problem.prior_mean[m], 0.3 / 1.5 * scale, df=3.0))
    np.testing.assert_allclose(log_evidence(problem, sets), expected, rtol=1e-9, atol=1e-8)


def test_flip_odds_with_unknown_noise_and_a_prior_on_the_size_are_differences_of_scores() -> None:
    problem, *_ = conjugate_problem(3)
    members = np.array([0, 2])
    odds = flip_odds(problem, members)

    def score(columns: list[int]) -> float:
        row = np.zeros((1, 4), bool)
        row[0, columns] = True
        return float(log_score(problem, row)[0])

    assert odds[1] == pytest.approx(score([0, 1, 2]) - score([0, 2]))
    assert odds[2] == pytest.approx(score([0, 2]) - score([0]))


def test_the_beta_binomial_prior_on_the_size_sums_to_one_over_all_sets() -> None:
    prior = beta_binomial(12, mean=0.2)
    assert np.sum(comb(12, np.arange(13)) * np.exp(prior)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        beta_binomial(12, mean=0.0)


def test_a_perfect_fit_has_a_finite_evidence() -> None:
    x = np.linspace(0.0, 1.0, 50)
    problem = make_conjugate_problem(
        np.array([[x @ x]]), np.array([x @ x]), float(x @ x), 50.0, prior_mean=np.zeros(1), prior_std=np.full(1, 1e9),
        group=np.zeros(1, np.int32), log_prior_odds=np.zeros(1), rate=1e-30,
    )  # fmt: skip
    assert np.isfinite(log_evidence(problem, np.array([[False], [True]]))).all()


def test_a_noise_prior_that_is_no_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="both parameters > 0"):
        make_conjugate_problem(
            np.eye(1), np.zeros(1), 0.0, 0.0, prior_mean=np.zeros(1), prior_std=np.ones(1),
            group=np.zeros(1, np.int32), log_prior_odds=np.zeros(1), rate=0.0,
        )  # fmt: skip

"""Information about term sets and weights of one variable, against Monte Carlo that knows nothing of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from crl_node.curiosity.mixtures import (
    gaussian_kl,
    set_gain,
    set_gain_bounds,
    set_gain_monte_carlo,
    weights_gain,
)
from crl_node.data import Array

Mixture = tuple[Array, Array, Array, Array]


def mixture(sets: int, weights: int, scale: float, seed: int) -> Mixture:
    """Log probabilities, means, covariances (zero outside the set, correlated inside), information matrix."""
    rng = np.random.default_rng(seed)
    inside = rng.random((sets, weights)) < 0.5
    inside[0, 0] = True
    mean = np.where(inside, rng.normal(0.5, 0.3, (sets, weights)), 0.0)
    half = rng.normal(0.0, 0.4, (sets, weights, weights)) / np.sqrt(weights)
    covariance = np.einsum("kij,klj->kil", half, half) * inside[:, :, None] * inside[:, None]
    phi = rng.normal(size=(weights + 2, weights))
    return np.log(rng.dirichlet(np.full(sets, 0.7))), mean, covariance, scale * phi.T @ phi / weights


def outcomes(
    covariance: Array, information: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Features Phi [R, R] with Phi'Phi = `information` for unit noise, and drawn weights [count, R] around 0."""
    value, vector = np.linalg.eigh(covariance)
    drawn = (rng.standard_normal((count, len(value))) * np.sqrt(np.maximum(value, 0.0))) @ vector.T
    return np.linalg.cholesky(information + 1e-9 * np.eye(len(value))).T, drawn


def test_a_sum_over_weights_is_nearer_to_the_gain_with_variances_given_all_others_than_with_marginal_ones() -> None:
    """What the planning graph counts of weights whose features come together: sum 1/2 log(1 + v A_pp)."""
    exact, given, marginal = [], [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        causes = rng.normal(size=(2, 5))
        past, new = (rng.normal(size=(8, 2)) @ causes + 0.4 * rng.normal(size=(8, 5)) for _ in range(2))
        precision = 4.0 * np.eye(5) + 10.0 ** (seed % 4 - 2) * past.T @ past
        information, covariance = 10.0 ** (seed % 5 - 2) * new.T @ new, np.linalg.inv(precision)
        exact.append(float(weights_gain(covariance, information)))
        given.append(0.5 * np.log1p(np.diag(information) / np.diag(precision)).sum())
        marginal.append(0.5 * np.log1p(np.diag(information) * np.diag(covariance)).sum())
    assert 1.0 < sum(given) / sum(exact) < 1.4 < sum(marginal) / sum(exact)
    assert np.corrcoef(given, exact)[0, 1] > np.corrcoef(marginal, exact)[0, 1] > 0.9


@pytest.mark.parametrize("scale", [0.1, 100.0])
@pytest.mark.parametrize("weights", [1, 3, 5])
def test_the_gain_of_correlated_weights_is_the_mean_divergence_of_their_posterior_from_their_prior(
    weights: int, scale: float
) -> None:
    rng = np.random.default_rng(weights)
    half = rng.normal(size=(weights, weights))
    covariance = 0.3 * half @ half.T + 0.01 * np.eye(weights)
    phi = rng.normal(size=(weights + 2, weights))
    information = scale * phi.T @ phi
    features, drawn = outcomes(covariance, information, 1000, rng)
    y = drawn @ features.T + rng.standard_normal(drawn.shape)
    posterior = np.linalg.inv(np.linalg.inv(covariance) + features.T @ features)
    means = y @ features @ posterior
    divergences = [gaussian_kl(mean, posterior, np.zeros(weights), covariance) for mean in means]
    error = np.std(divergences) / np.sqrt(len(divergences))
    assert abs(weights_gain(covariance, information) - np.mean(divergences)) < 4 * error + 1e-6


def test_the_divergence_of_two_gaussians_is_the_mean_log_ratio_of_their_densities() -> None:
    rng = np.random.default_rng(3)
    for size in (1, 2, 4):
        old, new = (np.eye(size) * s + 0.2 for s in (1.0, 0.5))
        offset = rng.normal(size=size)
        draws = offset + rng.standard_normal((20_000, size)) @ np.linalg.cholesky(new).T

        def density(x: Array, mean: Array, covariance: Array) -> Array:
            d = x - mean
            squared = np.einsum("ni,ij,nj->n", d, np.linalg.inv(covariance), d)
            return np.asarray(-0.5 * (squared + np.linalg.slogdet(covariance)[1]))

        ratio = density(draws, offset, new) - density(draws, np.zeros(size), old)
        expected = gaussian_kl(offset, new, np.zeros(size), old)
        assert abs(expected - ratio.mean()) < 4 * ratio.std() / np.sqrt(len(draws))


@pytest.mark.parametrize("scale", [0.03, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize(("sets", "weights"), [(2, 1), (4, 2), (16, 5)])
def test_the_information_about_the_set_lies_between_its_bounds(sets: int, weights: int, scale: float) -> None:
    for seed in range(2):
        problem = mixture(sets, weights, scale, seed)
        lower, upper = set_gain_bounds(*problem)
        exact, error = set_gain_monte_carlo(*problem, np.random.default_rng(seed), 1000)
        entropy = -float(np.exp(problem[0]) @ problem[0])
        assert lower - 4 * error - 1e-9 < exact < upper + 4 * error + 1e-9
        assert 0.0 <= lower <= upper <= entropy + 1e-9
        assert set_gain(*problem) == pytest.approx(exact, rel=0.35, abs=0.01 + 4 * error)


def test_the_estimate_of_the_sets_gain_is_a_tenth_off_at_most_on_average() -> None:
    found, exact = 0.0, 0.0
    for seed in range(12):
        problem = mixture(8, 3, 10.0 ** (seed % 4 - 1), seed)
        found += set_gain(*problem)
        exact += set_gain_monte_carlo(*problem, np.random.default_rng(seed), 1000)[0]
    assert found == pytest.approx(exact, rel=0.1)


def test_sets_that_predict_the_same_cannot_be_told_apart_and_those_far_apart_are() -> None:
    log_probability = np.log([0.1, 0.2, 0.7])
    same = np.ones((3, 2)), np.tile(0.1 * np.eye(2), (3, 1, 1))
    assert set_gain_bounds(log_probability, *same, 1e4 * np.eye(2)) == pytest.approx((0.0, 0.0), abs=1e-9)
    apart = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]), np.zeros((3, 2, 2))
    entropy = -float(np.exp(log_probability) @ log_probability)
    assert set_gain_bounds(log_probability, *apart, 1e4 * np.eye(2)) == pytest.approx(
        (entropy, entropy), rel=1e-9
    )


def test_the_same_set_listed_twice_is_one_set() -> None:
    log_probability, mean, covariance, information = mixture(4, 2, 5.0, 1)
    once = set_gain_bounds(log_probability, mean, covariance, information)
    halves = np.log(0.5) + np.repeat(log_probability, 2)
    twice = set_gain_bounds(halves, np.repeat(mean, 2, 0), np.repeat(covariance, 2, 0), information)
    assert twice == pytest.approx(once, rel=1e-9)


def test_set_and_weights_together_are_what_nested_monte_carlo_says() -> None:
    """I(M, w; y) = E log p(y | M, w) - log p(y), with p(y) from drawn sets and weights alone."""
    log_probability, mean, covariance, information = mixture(4, 2, 2.0, 7)
    rng = np.random.default_rng(0)
    probability = np.exp(log_probability)
    features = np.linalg.cholesky(information).T

    def draw(count: int) -> Array:
        sets = rng.choice(len(mean), count, p=probability)
        out = mean[sets].copy()
        for k in range(len(mean)):
            value, vector = np.linalg.eigh(covariance[k])
            noise = rng.standard_normal((int((sets == k).sum()), len(value)))
            out[sets == k] += (noise * np.sqrt(np.maximum(value, 0.0))) @ vector.T
        return out

    inner, outer = draw(8000) @ features.T, draw(1000) @ features.T
    y = outer + rng.standard_normal(outer.shape)
    own = -0.5 * np.square(y - outer).sum(axis=1)
    squared = np.square(y[:, None] - inner[None]).sum(axis=2)
    gain = own - (logsumexp(-0.5 * squared, axis=1) - np.log(len(inner)))
    error = gain.std() / np.sqrt(len(gain))
    expected = float(probability @ weights_gain(covariance, information))
    expected += set_gain_monte_carlo(log_probability, mean, covariance, information, rng, 5000)[0]
    assert abs(expected - gain.mean()) < 4 * error + 0.01

"""Branch and bound: what is reached is exact, what is not is bounded, for every kind of problem."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from crl_node.structure.branch import Search
from crl_node.structure.draws import DrawConfig, draw
from crl_node.structure.engine import product_sets
from crl_node.structure.evidence import Bools, Problem, beta_binomial, log_score, make_problem
from crl_node.structure.exact import ExactConfig, ExactPosterior

COLUMNS = 9


def known_noise(rng: np.random.Generator) -> Problem:
    """Two regimes of noise, prior means, alternatives, uneven odds, sometimes a prior on the size or twin columns."""
    n = int(rng.integers(2, 60))
    phi = rng.normal(size=(2 * n, COLUMNS)) * rng.uniform(0.1, 3.0, COLUMNS)
    if rng.random() < 0.4:
        phi[:, 3] = phi[:, 1] + rng.choice([0.0, 1e-7, 0.05]) * rng.normal(size=2 * n)
    std = np.array([0.3, 1.0])
    y = phi @ (rng.normal(size=COLUMNS) * (rng.random(COLUMNS) < 0.4)) + np.repeat(std, n) * rng.normal(size=2 * n)
    halves = [slice(0, n), slice(n, 2 * n)]
    group = np.sort(rng.integers(0, COLUMNS, COLUMNS)).astype(np.int32)
    group = np.unique(group, return_inverse=True)[1].astype(np.int32)[rng.permutation(COLUMNS)]
    odds = rng.normal(-1.0, 1.0, COLUMNS)
    odds[rng.random(COLUMNS) < 0.1] = -np.inf
    problem = make_problem(
        np.stack([phi[h].T @ phi[h] for h in halves]), np.stack([phi[h].T @ y[h] for h in halves]),
        np.array([y[h] @ y[h] for h in halves]), np.array([n, n], float), std,
        prior_mean=0.4 * rng.normal(size=COLUMNS), prior_std=rng.uniform(0.3, 2.0, COLUMNS), group=group,
        log_prior_odds=odds,
    )  # fmt: skip
    if rng.random() < 0.5:
        size = beta_binomial(int(group.max()) + 1, mean=0.3)
        problem = Problem(**{**problem.__dict__, "size_log_prior": size})
    return problem


def unknown_noise(rng: np.random.Generator) -> Problem:
    """From the prior: noise integrated out, a prior on the size."""
    return draw(rng, DrawConfig(columns=COLUMNS, rows=(2, 300))).problem


def every_set(problem: Problem) -> Bools:
    columns = np.flatnonzero(problem.allowed)
    options = [
        np.concatenate([[-1], columns[problem.group[columns] == g]]) for g in np.unique(problem.group[columns])
    ]
    return product_sets(problem, options, np.zeros(len(problem.group), bool))


def drawn(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    return known_noise(rng) if seed % 2 else unknown_noise(rng)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31))
def test_without_dropping_the_posterior_is_that_of_brute_force(seed: int) -> None:
    problem = drawn(seed)
    sets = every_set(problem)
    score = log_score(problem, sets)
    total = logsumexp(score)
    exact = ExactPosterior()
    exact.update(problem)
    assert exact.missed == 0.0
    assert exact.log_total == pytest.approx(total, abs=1e-6)
    np.testing.assert_allclose(exact.inclusion(), np.exp(score - total) @ sets, atol=1e-7)
    support = exact.support()
    assert len(support.sets) == len(sets)
    np.testing.assert_allclose(log_score(problem, support.sets) - total, support.log_probability, atol=1e-6)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**31), st.sampled_from([1e-1, 1e-2, 1e-4]), st.sampled_from([20.0, np.inf]))
def test_the_bound_on_what_was_dropped_bounds_it(seed: int, negligible: float, most: float) -> None:
    problem = drawn(seed)
    columns = np.flatnonzero(problem.allowed)
    ordered = problem.restricted(columns[np.argsort(problem.group[columns], kind="stable")])
    score = log_score(ordered, every_set(ordered))
    total, best = float(logsumexp(score)), float(score.max())
    found = Search(ordered, certain=best, negligible=negligible, most=most, kept=1 << 12).run()
    assert found.log_total <= total + 1e-6
    assert np.logaddexp(found.log_total, found.log_dropped) >= total - 1e-6
    # The sets that are named are real and their scores are right.
    sets = (found.code[:, None] >> np.arange(len(columns), dtype=np.uint64)) & np.uint64(1)
    np.testing.assert_allclose(log_score(ordered, sets.astype(bool)), found.score, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31))
def test_dropping_moves_inclusion_by_no_more_than_the_mass_that_may_be_missed(seed: int) -> None:
    problem = draw(np.random.default_rng(seed), DrawConfig(columns=12)).problem
    everything = ExactPosterior()
    everything.update(problem)
    columns = np.arange(12)
    found = Search(problem, certain=everything.log_total - 1.0, negligible=1e-4, most=np.inf, kept=1 << 12).run()
    missed = float(np.exp(found.log_missed))
    assert np.abs(found.inclusion - everything.inclusion()[columns]).max() <= missed + 1e-9


def test_sets_that_are_not_kept_count_as_missed() -> None:
    problem = unknown_noise(np.random.default_rng(3))
    everything, few = ExactPosterior(), ExactPosterior(ExactConfig(kept=8))
    everything.update(problem)
    few.update(problem)
    likeliest = np.sort(everything.support().log_probability)[-8:]
    assert len(few.support().sets) == 8
    assert few.support().missed == pytest.approx(1.0 - np.exp(likeliest).sum(), abs=1e-9)
    np.testing.assert_allclose(few.inclusion(), everything.inclusion())


def test_a_certain_mass_that_is_hopelessly_low_does_not_overflow() -> None:
    problem = unknown_noise(np.random.default_rng(5))
    total = float(logsumexp(log_score(problem, every_set(problem))))
    found = Search(problem, certain=total - 5000.0, negligible=0.0, most=np.inf, kept=1 << 12).run()
    assert found.log_total == pytest.approx(total, abs=1e-6)

"""Particles over term sets against the exact posterior, the prior they start from, and growing data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crl_node.metrics import inclusion_divergence
from crl_node.structure.draws import DrawConfig, draw, prior_sets, problem_of
from crl_node.structure.engine import product_sets
from crl_node.structure.evidence import Problem, log_prior, log_score, make_problem
from crl_node.structure.exact import ExactEngine
from crl_node.structure.particles import ParticleConfig, ParticleEngine

GROUPS = np.array([0, 0, 1, 2, 2, 3], np.int32)


def grouped(seed: int) -> Problem:
    """Known noise, alternatives that exclude one another, a forbidden column."""
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(12, 6))
    y = phi[:, 1] - 0.6 * phi[:, 3] + 0.7 * rng.normal(size=12)
    odds = np.array([-0.5, 0.2, -1.0, 0.4, -0.3, -np.inf])
    return make_problem(
        (phi.T @ phi)[None], (phi.T @ y)[None], np.array([y @ y]), np.array([12.0]), np.array([0.7]),
        prior_mean=np.full(6, 0.3), prior_std=np.ones(6), group=GROUPS, log_prior_odds=odds,
    )  # fmt: skip


def unknown(seed: int, columns: int = 6) -> Problem:
    return draw(np.random.default_rng(seed), DrawConfig(columns=columns, rows=(5, 40))).problem


def code(sets: np.ndarray) -> np.ndarray:
    return np.asarray(sets @ (1 << np.arange(sets.shape[1])))


@pytest.mark.parametrize("problem", [grouped(0), unknown(1), replace(unknown(2), group=GROUPS)])
def test_sets_drawn_from_the_prior_are_as_frequent_as_the_prior_says(problem: Problem) -> None:
    sets = prior_sets(problem, 20000, np.random.default_rng(0))
    columns = np.flatnonzero(problem.allowed)
    options = [np.append(columns[problem.group[columns] == g], -1) for g in np.unique(problem.group[columns])]
    every = product_sets(problem, options, np.zeros(6, bool))
    expected = np.exp(log_prior(problem, every))
    expected /= expected.sum()
    found = np.bincount(code(sets), minlength=64)[code(every)] / len(sets)
    assert found.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / 20000))


@pytest.mark.parametrize("problem", [grouped(0), grouped(3), unknown(4)])
def test_many_particles_are_distributed_as_the_posterior(problem: Problem) -> None:
    exact, engine = ExactEngine(), ParticleEngine(1, 6000, ParticleConfig(last_moves=4))
    exact.update([problem])
    engine.update([problem])
    support = exact.support(0)
    sets = engine.sample(6000, np.random.default_rng(0))[0].sets
    found = np.bincount(code(sets), minlength=64)[code(support.sets)] / 6000
    np.testing.assert_allclose(found, np.exp(support.log_probability), atol=0.025)
    np.testing.assert_allclose(engine.inclusion(), exact.inclusion(), atol=0.01)


def test_sixty_four_particles_agree_with_exact_inclusion_in_one_batch_and_alone() -> None:
    problems = [unknown(seed, 12) for seed in range(12)]
    exact, together = ExactEngine(), ParticleEngine(0)
    exact.update(problems)
    together.update(problems)
    assert max(inclusion_divergence(p, q) for p, q in zip(together.inclusion(), exact.inclusion(), strict=True)) < 0.01
    alone = ParticleEngine(0)
    alone.update(problems[:1])
    assert inclusion_divergence(alone.inclusion()[0], exact.inclusion()[0]) < 0.01


def test_particles_follow_growing_statistics_in_fewer_steps_than_from_the_prior() -> None:
    rng = np.random.default_rng(2)
    config = DrawConfig(columns=10)
    phi = rng.normal(size=(120, 10))
    y = 0.6 * phi[:, 2] - 0.4 * phi[:, 7] + 0.5 * rng.normal(size=120)
    growing = [problem_of(phi[:n], y[:n], np.ones(10), config) for n in (100, 110, 120)]
    warm, cold, exact = ParticleEngine(0), ParticleEngine(0), ExactEngine()
    for problem in growing:
        warm.update([problem])
    cold.update(growing[-1:])
    exact.update(growing[-1:])
    assert warm.rises < cold.rises
    np.testing.assert_allclose(warm.inclusion(), exact.inclusion(), atol=0.05)


def test_particles_start_anew_when_none_of_them_is_allowed_any_more() -> None:
    problem = grouped(0)
    engine, exact = ParticleEngine(0), ExactEngine()
    engine.update([problem])
    held = engine.support(0).sets
    shut = np.where(held.any(axis=0) & (problem.group == 0), -np.inf, problem.log_prior_odds)
    engine._sets[:] = [True, False, False, False, False, False]
    shut[0] = -np.inf
    changed = replace(problem, log_prior_odds=shut)
    engine.update([changed])
    exact.update([changed])
    np.testing.assert_allclose(engine.inclusion(), exact.inclusion(), atol=0.05)


def test_particles_do_not_break_the_groups_and_repeat_with_the_seed() -> None:
    one, other = ParticleEngine(5), ParticleEngine(5)
    for engine in (one, other):
        engine.update([grouped(1), grouped(2)])
    np.testing.assert_array_equal(one.inclusion(), other.inclusion())
    for particles in one.sample(64, np.random.default_rng(0)):
        for group in range(4):
            assert (particles.sets[:, group == GROUPS].sum(axis=1) <= 1).all()
        assert not particles.sets[:, 5].any()


def test_both_of_two_equally_good_causes_keep_particles() -> None:
    rng = np.random.default_rng(5)
    phi = rng.normal(size=(200, 6))
    phi[:, 4] = phi[:, 1]
    y = 0.3 * phi[:, 1] + 0.1 * rng.normal(size=200)
    engine = ParticleEngine()
    engine.update([problem_of(phi, y, np.full(6, 3.0), DrawConfig(columns=6))])
    sets = engine.sample(64, np.random.default_rng(0))[0].sets
    assert 10 < sets[:, 1].sum() < 54
    assert (sets[:, 1] | sets[:, 4]).all()


def test_a_single_particle_is_refused() -> None:
    with pytest.raises(ValueError, match="1 particles cannot be resampled"):
        ParticleEngine(0, 1)


@pytest.mark.parametrize("problem", [grouped(0), unknown(4)])
def test_moves_at_the_beginning_leave_the_prior_as_it_is(problem: Problem) -> None:
    count = 6000
    engine, rng = ParticleEngine(0, count), np.random.default_rng(3)
    engine.update([problem])
    sets = prior_sets(problem, count, rng)
    before = np.bincount(code(sets), minlength=64) / count
    around = engine._look(sets, log_prior(problem, sets), engine._score(engine._batch, sets))
    for _ in range(6):
        around = engine._move(np.zeros(1), around, rng)
    after = np.bincount(code(around.sets), minlength=64) / count
    assert (around.sets != sets).any(axis=1).mean() > 0.5
    np.testing.assert_allclose(after, before, atol=0.03)
    np.testing.assert_allclose(around.target, log_score(problem, around.sets), atol=1e-8)
    np.testing.assert_allclose(around.base, log_prior(problem, around.sets), atol=1e-8)


def test_variables_may_differ_in_their_groups() -> None:
    problems = [grouped(1), replace(grouped(2), group=np.array([0, 1, 1, 2, 3, 3], np.int32))]
    engine, exact = ParticleEngine(0), ExactEngine()
    engine.update(problems)
    exact.update(problems)
    np.testing.assert_allclose(engine.inclusion(), exact.inclusion(), atol=0.05)

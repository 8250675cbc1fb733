"""Chains over term sets: their arithmetic against differences of scores, their answer against exact enumeration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crl_node.structure.draws import DrawConfig, draw, problem_of
from crl_node.structure.evidence import Problem, log_score, make_problem
from crl_node.structure.exact import ExactEngine
from crl_node.structure.mcmc import McmcConfig, McmcEngine
from crl_node.structure.neighbours import Batch

GROUPS = np.array([0, 0, 1, 2, 2, 3, 4], np.int32)


def grouped(problem: Problem) -> Problem:
    """The same data with columns that exclude one another, one forbidden column and uneven prior odds."""
    odds = np.linspace(-2.0, 0.5, len(GROUPS))
    odds[5] = -np.inf
    return replace(problem, group=GROUPS, log_prior_odds=odds)


def known_noise(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(15, 7))
    y = phi[:, 1] - 0.5 * phi[:, 3] + 0.5 * rng.normal(size=15)
    return make_problem(
        (phi.T @ phi)[None], (phi.T @ y)[None], np.array([y @ y]), np.array([15.0]), np.array([0.5]),
        prior_mean=rng.normal(size=7), prior_std=np.full(7, 0.7), group=GROUPS, log_prior_odds=rng.normal(size=7),
    )  # fmt: skip


def problems() -> list[Problem]:
    rng = np.random.default_rng(3)
    drawn = [grouped(draw(rng, DrawConfig(columns=7)).problem) for _ in range(3)]
    return [*drawn, known_noise(0), known_noise(1)]


def test_the_odds_of_every_move_are_differences_of_scores() -> None:
    batch = Batch(problems())
    sets = np.zeros((5, 7), bool)
    sets[1, [0, 2]] = sets[2, [1, 4, 6]] = sets[3, 3] = sets[4, [0, 3, 6]] = True
    variable = np.arange(5)
    moves = batch.moves(variable, sets)
    flat = moves.flat()
    checked = 0
    for row, choice in zip(*np.nonzero(np.isfinite(flat)), strict=True):
        after = moves.apply(sets, np.array([row]), np.array([choice]))
        problem = batch.problems[row]
        difference = log_score(problem, after) - log_score(problem, sets[[row]])
        assert flat[row, choice] == pytest.approx(float(difference[0]), abs=1e-8)
        checked += 1
    assert checked > 45


def test_moves_reach_every_allowed_neighbour_and_no_other() -> None:
    batch = Batch(problems())
    sets = np.zeros((1, 7), bool)
    sets[0, [0, 6]] = True
    moves = batch.moves(np.array([0]), sets)
    rows, choice = np.nonzero(np.isfinite(moves.flat()))
    reached = {tuple(np.flatnonzero(s)) for s in moves.apply(sets, rows, choice)}
    adds = {(0, 2, 6), (0, 3, 6), (0, 4, 6)}
    swaps = {(1, 6), (2, 6), (3, 6), (4, 6), (0, 2), (0, 3), (0, 4)}
    assert reached == adds | {(0,), (6,)} | swaps


@pytest.mark.parametrize("seed", range(4))
def test_chains_agree_with_exact_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [draw(rng, DrawConfig(columns=10)).problem for _ in range(6)]
    exact, chains = ExactEngine(), McmcEngine(seed)
    exact.update(drawn)
    chains.update(drawn)
    np.testing.assert_allclose(chains.inclusion(), exact.inclusion(), atol=0.01)


def test_chains_agree_with_exact_enumeration_where_columns_exclude_one_another() -> None:
    exact, chains = ExactEngine(), McmcEngine()
    exact.update(problems())
    chains.update(problems())
    np.testing.assert_allclose(chains.inclusion(), exact.inclusion(), atol=1e-4)


def test_both_of_two_equally_good_causes_are_kept() -> None:
    rng = np.random.default_rng(5)
    phi = rng.normal(size=(200, 6))
    phi[:, 4] = phi[:, 1]  # identical, and strong: no add or drop leads from one to the other
    y = 0.3 * phi[:, 1] + 0.1 * rng.normal(size=200)
    engine = McmcEngine()
    engine.update([problem_of(phi, y, np.full(6, 3.0), DrawConfig(columns=6))])
    inclusion = engine.inclusion()[0]
    assert inclusion[1] == pytest.approx(inclusion[4], abs=1e-6)
    assert 0.5 <= inclusion[1] < 0.75


def test_the_same_seed_gives_the_same_posterior_and_a_warm_start_keeps_it() -> None:
    rng = np.random.default_rng(9)
    drawn = [draw(rng).problem for _ in range(3)]
    one, other = McmcEngine(2), McmcEngine(2)
    one.update(drawn)
    other.update(drawn)
    np.testing.assert_array_equal(one.inclusion(), other.inclusion())
    before = one.inclusion()
    one.update(drawn)
    np.testing.assert_allclose(one.inclusion(), before, atol=0.02)


def test_particles_follow_the_inclusion_probabilities() -> None:
    rng = np.random.default_rng(4)
    engine = McmcEngine(config=McmcConfig(steps=60, most_steps=60))
    engine.update([draw(rng, DrawConfig(columns=8)).problem])
    particles = engine.sample(400, np.random.default_rng(0))[0]
    np.testing.assert_allclose(particles.sets.mean(axis=0), engine.inclusion()[0], atol=0.04)


def test_variables_with_other_columns_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="variable 1 has 5 candidate columns"):
        McmcEngine().update([draw(rng, DrawConfig(columns=n)).problem for n in (4, 5)])

"""The engines: exact enumeration is the truth, greedy search plus enumeration must agree with it."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.structure.engine import systematic
from crl_node.structure.evidence import Problem, make_problem
from crl_node.structure.exact import ExactConfig, ExactPosterior
from crl_node.structure.greedy import GreedyConfig, GreedyPosterior

GROUPS = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8], np.int32)


def problem(seed: int, rows: int, noise: float = 0.5) -> tuple[Problem, np.ndarray]:
    """A random problem over GROUPS and the true set. Alternatives of a group resemble each other, as radii do."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(rows, GROUPS.max() + 1))
    phi = base[:, GROUPS] + 0.3 * rng.normal(size=(rows, len(GROUPS)))
    truth = np.zeros(len(GROUPS))
    for group in rng.choice(GROUPS.max() + 1, 3, replace=False):
        truth[rng.choice(np.flatnonzero(group == GROUPS))] = rng.uniform(0.4, 1.0)
    y = phi @ truth + noise * rng.normal(size=rows)
    return make_problem(
        (phi.T @ phi)[None], (phi.T @ y)[None], np.array([y @ y]), np.array([float(rows)]), np.array([noise]),
        prior_mean=np.full(len(GROUPS), 0.3), prior_std=np.full(len(GROUPS), 0.5), group=GROUPS,
        log_prior_odds=np.full(len(GROUPS), -1.5),
    ), truth != 0  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rows", [0, 6, 30, 200])
def test_greedy_plus_enumeration_agrees_with_exact_enumeration(seed: int, rows: int) -> None:
    data, _ = problem(seed, rows)
    exact, greedy = ExactPosterior(), GreedyPosterior(GreedyConfig(most_sets=2048))
    exact.update(data)
    greedy.update(data)
    np.testing.assert_allclose(greedy.inclusion(), exact.inclusion(), atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rows", [30, 200])
def test_a_short_enumeration_is_close_to_exact_when_the_data_decide_most(seed: int, rows: int) -> None:
    data, _ = problem(seed, rows)
    exact, greedy = ExactPosterior(), GreedyPosterior(GreedyConfig(most_sets=128))
    exact.update(data)
    greedy.update(data)
    np.testing.assert_allclose(greedy.inclusion(), exact.inclusion(), atol=0.05)


def test_without_data_inclusion_is_the_prior() -> None:
    data, _ = problem(0, 0)
    engine = GreedyPosterior()
    engine.update(data)
    odds = np.exp(-1.5)
    size = np.bincount(GROUPS)[GROUPS]
    np.testing.assert_allclose(engine.inclusion(), odds / (1 + size * odds), rtol=1e-9)


def test_more_data_make_the_posterior_sharper_and_right() -> None:
    entropy = []
    for rows in (4, 40, 400):
        data, truth = problem(3, rows)
        engine = GreedyPosterior()
        engine.update(data)
        p = np.clip(engine.inclusion(), 1e-12, 1 - 1e-12)
        entropy.append(float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).sum()))
    assert entropy[0] > entropy[1] > entropy[2]
    np.testing.assert_allclose(engine.inclusion(), truth, atol=0.1)


def test_the_order_of_the_columns_does_not_matter() -> None:
    data, _ = problem(5, 25)
    order = np.random.default_rng(0).permutation(len(GROUPS))
    one, two = GreedyPosterior(), GreedyPosterior()
    one.update(data)
    two.update(data.restricted(order))
    np.testing.assert_allclose(two.inclusion(), one.inclusion()[order], atol=1e-8)


def test_exact_enumeration_refuses_what_it_cannot_finish() -> None:
    data, _ = problem(0, 10)
    with pytest.raises(ValueError, match="may still miss .* use another engine"):
        ExactPosterior(ExactConfig(most_sets=100)).update(data)


@pytest.mark.parametrize("engine_type", [ExactPosterior, GreedyPosterior])
def test_particles_have_the_inclusion_probabilities_and_repeat_with_the_seed(engine_type: type) -> None:
    data, _ = problem(8, 12)
    engine = engine_type()
    engine.update(data)
    particles = engine.sample(400, np.random.default_rng(1))
    np.testing.assert_allclose(particles.sets.mean(axis=0), engine.inclusion(), atol=0.04)
    assert np.exp(particles.log_weight).sum() == pytest.approx(1.0)
    again = engine.sample(400, np.random.default_rng(1))
    np.testing.assert_array_equal(particles.sets, again.sets)


def test_no_particle_holds_two_alternatives_of_a_group() -> None:
    data, _ = problem(2, 8)
    engine = GreedyPosterior()
    engine.update(data)
    sets = engine.sample(64, np.random.default_rng(0)).sets
    for group in range(GROUPS.max() + 1):
        assert (sets[:, group == GROUPS].sum(axis=1) <= 1).all()


def test_the_work_of_an_update_is_bounded_whatever_the_posterior() -> None:
    data, _ = problem(4, 5, noise=3.0)
    engine = GreedyPosterior(GreedyConfig(most_sets=16, most_groups=3))
    engine.update(data)
    assert len(engine.sets) <= 16
    assert len(engine.shortlist) <= 3


def test_a_warm_start_ends_where_a_cold_start_does() -> None:
    data, _ = problem(6, 60)
    cold, warm = GreedyPosterior(), GreedyPosterior()
    cold.update(data)
    warm.update(problem(6, 20)[0])
    warm.update(data)
    np.testing.assert_allclose(warm.inclusion(), cold.inclusion(), atol=1e-6)


def test_averaged_weights_are_zero_where_nothing_is_included_and_right_where_something_is() -> None:
    data, truth = problem(3, 400)
    engine = GreedyPosterior()
    engine.update(data)
    mean, std = engine.weights()
    assert np.abs(mean[~truth]).max() < 0.05
    assert (mean[truth] > 0.2).all()
    assert (std > 0).all()


def test_systematic_resampling_gives_every_index_its_share_up_to_one() -> None:
    probability = np.array([0.5, 0.3, 0.15, 0.05])
    counts = np.bincount(systematic(probability, 40, np.random.default_rng(0)), minlength=4)
    assert (np.abs(counts - 40 * probability) <= 1).all()

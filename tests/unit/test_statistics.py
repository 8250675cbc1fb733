"""Sufficient statistics, learned noise, bounded influence and the dense tail."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.mechanisms.statistics import (
    CONTACT,
    FREE,
    Statistics,
    bounded_influence,
    expected_residual,
    noise_std,
)
from crl_node.mechanisms.tail import TAIL_FEATURES, TAIL_STD, tail_features


def filled(seed: int, steps: int = 20) -> Statistics:
    rng = np.random.default_rng(seed)
    statistics = Statistics(3, 4)
    for _ in range(steps):
        phi = rng.normal(size=(3, 2, 4)) * (rng.random((3, 2, 4)) < 0.5)
        statistics.add(phi, rng.normal(size=(3, 2)), rng.integers(0, 2, 3), np.array([1.0, 0.0, 0.5]))
    return statistics


def test_statistics_are_sums_over_steps_by_regime() -> None:
    statistics = Statistics(2, 2)
    phi = np.array([[[1.0, 2.0], [0.0, 1.0]], [[0.0, 0.0], [3.0, 0.0]]])
    change = np.array([[1.0, -1.0], [0.0, 2.0]])
    statistics.add(phi, change, np.array([FREE, CONTACT]), np.ones(2))
    statistics.add(phi, change, np.array([CONTACT, CONTACT]), np.ones(2))
    np.testing.assert_allclose(statistics.gram[0, FREE], [[1, 2], [2, 5]])
    np.testing.assert_allclose(statistics.cross[0, FREE], [1, 1])
    np.testing.assert_allclose(statistics.gram[1, CONTACT], [[18, 0], [0, 0]])
    assert statistics.square[1].tolist() == [0, 8]
    assert statistics.rows.tolist() == [[2, 2], [0, 4]]


def test_two_robots_statistics_add() -> None:
    one, two = filled(1), filled(2)
    total = one.gram + two.gram
    one.merge(two)
    np.testing.assert_allclose(one.gram, total)


def test_slots_with_weight_zero_learn_nothing() -> None:
    assert not filled(0).gram[1].any()
    assert not filled(0).rows[1].any()


def test_a_forgotten_slot_leaves_no_trace_as_target_or_parent() -> None:
    statistics = filled(0)
    statistics.forget(2, np.array([False, False, True, False]))
    assert not statistics.gram[2].any()
    assert not statistics.gram[:, :, 2].any()
    assert not statistics.gram[:, :, :, 2].any()
    assert statistics.gram[0, :, 0, 0].any()


def test_statistics_of_another_shape_are_refused_and_nothing_changes() -> None:
    statistics = filled(0)
    before = statistics.gram.copy()
    arrays = Statistics(3, 5).state("motion")
    with pytest.raises(ValueError, match=r"motion_gram.*shape \(3, 2, 5, 5\)"):
        statistics.restore(arrays, "motion")
    np.testing.assert_array_equal(statistics.gram, before)


def test_noise_starts_at_its_prior_and_converges_to_the_data() -> None:
    assert noise_std(np.zeros(1), np.zeros(1), prior_std=0.008, prior_rows=20.0, floor=1e-4)[0] == pytest.approx(0.008)
    rows = np.array([1e5])
    got = noise_std(rows, rows * 0.003**2, prior_std=0.008, prior_rows=20.0, floor=1e-4)
    assert got[0] == pytest.approx(0.003, rel=1e-3)


def test_expected_residual_is_the_mean_over_weight_draws() -> None:
    rng = np.random.default_rng(0)
    phi, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    mean, factor = rng.normal(size=3), rng.normal(size=(3, 3)) * 0.3
    covariance = factor @ factor.T
    got = expected_residual((phi.T @ phi)[None], (phi.T @ y)[None], np.array([y @ y]), mean, covariance)
    draws = mean + rng.normal(size=(40_000, 3)) @ factor.T
    sampled = np.mean(np.sum(np.square(y - draws @ phi.T), axis=1))
    assert got[0] == pytest.approx(sampled, rel=0.02)


def test_a_step_within_expectation_counts_fully_and_an_outlier_only_as_far_as_the_bound() -> None:
    residual = np.array([[0.001, 0.0], [0.08, 0.0]])
    weight = bounded_influence(residual, np.full(2, 0.002**2), most=4.0)
    assert weight[0] == 1.0
    # 28 standard deviations on average over two axes: what is left of it weighs as 4.
    left = weight[1] * np.mean(np.square(residual[1])) / 0.002**2
    assert left == pytest.approx(16.0)


def test_the_tail_is_small_smooth_and_separate_by_axis() -> None:
    rng = np.random.default_rng(0)
    state = np.column_stack([rng.uniform(0.4, 0.8, (200, 1)), rng.uniform(-0.3, 0.3, (200, 1)), np.zeros((200, 3))])
    psi = tail_features(state, np.zeros(2))
    assert psi.shape == (200, 2, 2 * TAIL_FEATURES)
    assert not psi[:, 0, TAIL_FEATURES:].any()
    assert not psi[:, 1, :TAIL_FEATURES].any()
    # With unit weights the function has the standard deviation that its prior says.
    functions = psi[:, 0] @ rng.normal(size=(2 * TAIL_FEATURES, 500))
    assert functions.std() == pytest.approx(TAIL_STD, rel=0.15)

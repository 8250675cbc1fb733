"""Weights of a kind with a common mean: messages against the joint Gaussian, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.data import BODY, MAX_SLOTS, TermKind
from crl_node.mechanisms.grammar import BRIGHTNESS, MOTION
from crl_node.structure.strengths import OWN, SHARED, Weights, prior_from_others
from crl_node.structure.variables import BRIGHTNESS_NOISE, MOTION_NOISE, Variables

INERTIA = int(np.flatnonzero(MOTION.kind == TermKind.INERTIA)[0])
SPRING = int(np.flatnonzero(MOTION.kind == TermKind.SPRING)[0])


def push(parent: int, alternative: int = 1) -> int:
    """Column of a push by `parent`."""
    hits = (MOTION.kind == TermKind.PUSH) & (MOTION.parent == parent) & (MOTION.alternative == alternative)
    return int(np.flatnonzero(hits)[0])


def nothing() -> Weights:
    """Of motion, before any data."""
    shape = (MAX_SLOTS, len(MOTION))
    return Weights(
        np.zeros(shape), np.zeros(shape), np.tile(MOTION.prior_std, (MAX_SLOTS, 1)),
        np.tile(MOTION.prior_mean, (MAX_SLOTS, 1)), np.tile(MOTION.prior_std, (MAX_SLOTS, 1)),
    )  # fmt: skip


def told(weights: Weights, target: int, found: dict[int, tuple[float, float, float]]) -> None:
    """`found`: column -> (inclusion, what the data alone say, their standard deviation), under the present prior."""
    prior_mean, prior_std = prior_from_others(MOTION, target, weights)
    weights.prior_mean[target], weights.prior_std[target], weights.std[target] = prior_mean, prior_std, prior_std
    weights.inclusion[target] = weights.mean[target] = 0.0
    for column, (probability, estimate, error) in found.items():
        precision = 1.0 / prior_std[column] ** 2 + 1.0 / error**2
        weights.inclusion[target, column], weights.std[target, column] = probability, precision**-0.5
        given = (prior_mean[column] / prior_std[column] ** 2 + estimate / error**2) / precision
        weights.mean[target, column] = probability * given


def exact(estimates: list[float], errors: list[float], kind: TermKind) -> tuple[float, float]:
    """Mean and std of another weight of `kind`, by conditioning the joint Gaussian of all weights."""
    first = np.flatnonzero(MOTION.kind == kind)[0]
    mu, variance = MOTION.prior_mean[first], MOTION.prior_std[first] ** 2
    size = len(estimates)
    joint = np.full((size + 1, size + 1), (1.0 - OWN) * variance) + OWN * variance * np.eye(size + 1)
    seen = joint[:size, :size] + np.diag(np.square(errors))
    gain = np.linalg.solve(seen, joint[:size, size])
    return float(mu + gain @ (np.array(estimates) - mu)), float(np.sqrt(variance - gain @ joint[:size, size]))


def test_before_any_data_the_prior_is_the_grammars() -> None:
    mean, std = prior_from_others(MOTION, 3, nothing())
    np.testing.assert_allclose(mean, MOTION.prior_mean, rtol=1e-12)
    np.testing.assert_allclose(std, MOTION.prior_std, rtol=1e-12)
    for variables in (Variables(MOTION, MOTION_NOISE), Variables(BRIGHTNESS, BRIGHTNESS_NOISE)):
        variables.refresh(3, np.zeros(len(variables.columns)), np.random.default_rng(0))
        np.testing.assert_allclose(variables.prior_mean[3], variables.columns.prior_mean, rtol=1e-12)
        np.testing.assert_allclose(variables.prior_std[3], variables.columns.prior_std, rtol=1e-12)


def test_a_weight_never_tried_is_expected_as_the_joint_gaussian_says() -> None:
    weights = nothing()
    told(weights, 1, {push(BODY): (1.0, 0.9, 0.05)})
    told(weights, 2, {push(1): (1.0, 0.75, 0.1)})
    told(weights, 4, {push(2): (1.0, 0.8, 0.3)})
    mean, std = prior_from_others(MOTION, 3, weights)
    expected = exact([0.9, 0.75, 0.8], [0.05, 0.1, 0.3], TermKind.PUSH)
    assert (mean[push(BODY)], std[push(BODY)]) == pytest.approx(expected, rel=1e-6)
    assert (mean[push(2, 0)], std[push(2, 0)]) == pytest.approx(expected, rel=1e-6)


def test_no_weight_is_told_what_it_said_itself() -> None:
    weights = nothing()
    told(weights, 1, {push(BODY): (1.0, 0.9, 0.05), push(2): (1.0, 0.5, 0.05)})
    mean, std = prior_from_others(MOTION, 1, weights)
    assert (mean[push(BODY)], std[push(BODY)]) == pytest.approx(exact([0.5], [0.05], TermKind.PUSH), rel=1e-6)
    assert (mean[push(2)], std[push(2)]) == pytest.approx(exact([0.9], [0.05], TermKind.PUSH), rel=1e-6)
    told(weights, 1, {push(BODY): (1.0, 0.9, 0.05), push(2): (1.0, 0.5, 0.05)})  # told twice, counted once
    assert prior_from_others(MOTION, 3, weights)[0][push(BODY)] == pytest.approx(
        exact([0.9, 0.5], [0.05, 0.05], TermKind.PUSH)[0]
    )


def test_a_term_that_is_hardly_in_hardly_speaks() -> None:
    sure, unsure = nothing(), nothing()
    told(sure, 1, {INERTIA: (1.0, 0.9, 0.05)})
    told(unsure, 1, {INERTIA: (0.05, 0.9, 0.05)})
    prior = MOTION.prior_mean[INERTIA]
    much, little = (prior_from_others(MOTION, 2, weights)[0][INERTIA] - prior for weights in (sure, unsure))
    assert much > 4 * little > 0


def test_the_arm_and_springs_neither_tell_nor_are_told() -> None:
    weights = nothing()
    told(weights, BODY, {INERTIA: (1.0, 1.5, 0.05), push(1): (1.0, 1.5, 0.05)})
    told(weights, 1, {SPRING: (1.0, 1.0, 0.05)})
    mean, std = prior_from_others(MOTION, 2, weights)
    np.testing.assert_allclose(mean, MOTION.prior_mean, rtol=1e-12)
    np.testing.assert_allclose(std, MOTION.prior_std, rtol=1e-12)
    told(weights, 3, {INERTIA: (1.0, 0.9, 0.05)})
    np.testing.assert_array_equal(prior_from_others(MOTION, BODY, weights)[0], MOTION.prior_mean)
    assert TermKind.SPRING not in SHARED


def test_one_wild_weight_is_bounded_and_what_is_forgotten_says_nothing() -> None:
    variables = Variables(MOTION, MOTION_NOISE)
    weights = variables.weights
    told(weights, 1, {INERTIA: (1.0, 1e3, 0.05)})
    bound = MOTION.prior_mean[INERTIA] + 4.0 * MOTION.prior_std[INERTIA]
    assert prior_from_others(MOTION, 2, weights)[0][INERTIA] < bound
    told(weights, 2, {push(1): (1.0, 0.9, 0.05)})
    variables.forget(1)
    np.testing.assert_allclose(prior_from_others(MOTION, 3, weights)[0], MOTION.prior_mean, rtol=1e-12)
    np.testing.assert_allclose(prior_from_others(MOTION, 3, weights)[1], MOTION.prior_std, rtol=1e-12)


def test_priors_without_width_in_a_checkpoint_are_refused() -> None:
    variables = Variables(MOTION, MOTION_NOISE)
    state = {name: np.array(array) for name, array in variables.state("motion").items()}
    variables.restore(state, "motion")
    state["motion_prior_std"][2, 3] = 0.0
    with pytest.raises(ValueError, match="prior_std' must be > 0"):
        variables.restore(state, "motion")

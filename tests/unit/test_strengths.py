"""Weights of a kind with a common mean: messages against the joint Gaussian, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.data import BODY, TermKind
from crl_node.mechanisms.grammar import BRIGHTNESS, MOTION
from crl_node.structure.strengths import OWN, SHARED, Strengths
from crl_node.structure.variables import MOTION_NOISE, Variables

INERTIA = int(np.flatnonzero(MOTION.kind == TermKind.INERTIA)[0])
SPRING = int(np.flatnonzero(MOTION.kind == TermKind.SPRING)[0])


def push(parent: int, alternative: int = 1) -> int:
    """Column of a push by `parent`."""
    hits = (MOTION.kind == TermKind.PUSH) & (MOTION.parent == parent) & (MOTION.alternative == alternative)
    return int(np.flatnonzero(hits)[0])


def told(strengths: Strengths, target: int, found: dict[int, tuple[float, float, float]]) -> None:
    """`found`: column -> (inclusion, what the data alone say, their standard deviation), under the present prior."""
    columns = strengths.columns
    prior_mean, prior_std = strengths.prior(target)
    inclusion, mean, std = np.zeros(len(columns)), np.zeros(len(columns)), prior_std.copy()
    for column, (probability, estimate, error) in found.items():
        precision = 1.0 / prior_std[column] ** 2 + 1.0 / error**2
        inclusion[column], std[column] = probability, precision**-0.5
        given = (prior_mean[column] / prior_std[column] ** 2 + estimate / error**2) / precision
        mean[column] = probability * given
    strengths.record(target, inclusion, mean, std, (prior_mean, prior_std))


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
    for columns in (MOTION, BRIGHTNESS):
        mean, std = Strengths(columns).prior(3)
        np.testing.assert_allclose(mean, columns.prior_mean, rtol=1e-12)
        np.testing.assert_allclose(std, columns.prior_std, rtol=1e-12)


def test_a_weight_never_tried_is_expected_as_the_joint_gaussian_says() -> None:
    strengths = Strengths(MOTION)
    told(strengths, 1, {push(BODY): (1.0, 0.9, 0.05)})
    told(strengths, 2, {push(1): (1.0, 0.75, 0.1)})
    told(strengths, 4, {push(2): (1.0, 0.8, 0.3)})
    mean, std = strengths.prior(3)
    expected = exact([0.9, 0.75, 0.8], [0.05, 0.1, 0.3], TermKind.PUSH)
    assert (mean[push(BODY)], std[push(BODY)]) == pytest.approx(expected, rel=1e-6)
    assert (mean[push(2, 0)], std[push(2, 0)]) == pytest.approx(expected, rel=1e-6)


def test_no_weight_is_told_what_it_said_itself() -> None:
    strengths = Strengths(MOTION)
    told(strengths, 1, {push(BODY): (1.0, 0.9, 0.05), push(2): (1.0, 0.5, 0.05)})
    mean, std = strengths.prior(1)
    assert (mean[push(BODY)], std[push(BODY)]) == pytest.approx(exact([0.5], [0.05], TermKind.PUSH), rel=1e-6)
    assert (mean[push(2)], std[push(2)]) == pytest.approx(exact([0.9], [0.05], TermKind.PUSH), rel=1e-6)
    told(strengths, 1, {push(BODY): (1.0, 0.9, 0.05), push(2): (1.0, 0.5, 0.05)})  # told twice, counted once
    assert strengths.prior(3)[0][push(BODY)] == pytest.approx(
        exact([0.9, 0.5], [0.05, 0.05], TermKind.PUSH)[0]
    )


def test_a_term_that_is_hardly_in_hardly_speaks() -> None:
    sure, unsure = Strengths(MOTION), Strengths(MOTION)
    told(sure, 1, {INERTIA: (1.0, 0.9, 0.05)})
    told(unsure, 1, {INERTIA: (0.05, 0.9, 0.05)})
    prior = MOTION.prior_mean[INERTIA]
    assert sure.prior(2)[0][INERTIA] - prior > 4 * (unsure.prior(2)[0][INERTIA] - prior) > 0


def test_the_arm_and_springs_neither_tell_nor_are_told() -> None:
    strengths = Strengths(MOTION)
    told(strengths, BODY, {INERTIA: (1.0, 1.5, 0.05), push(1): (1.0, 1.5, 0.05)})
    told(strengths, 1, {SPRING: (1.0, 1.0, 0.05)})
    mean, std = strengths.prior(2)
    np.testing.assert_allclose(mean, MOTION.prior_mean, rtol=1e-12)
    np.testing.assert_allclose(std, MOTION.prior_std, rtol=1e-12)
    told(strengths, 3, {INERTIA: (1.0, 0.9, 0.05)})
    np.testing.assert_array_equal(strengths.prior(BODY)[0], MOTION.prior_mean)
    assert TermKind.SPRING not in SHARED


def test_one_wild_weight_is_bounded_and_what_is_forgotten_says_nothing() -> None:
    strengths = Strengths(MOTION)
    told(strengths, 1, {INERTIA: (1.0, 1e3, 0.05)})
    assert strengths.prior(2)[0][INERTIA] < MOTION.prior_mean[INERTIA] + 4.0 * MOTION.prior_std[INERTIA]
    told(strengths, 2, {push(1): (1.0, 0.9, 0.05)})
    strengths.forget(1)
    np.testing.assert_allclose(strengths.prior(3)[0], MOTION.prior_mean, rtol=1e-12)
    np.testing.assert_allclose(strengths.prior(3)[1], MOTION.prior_std, rtol=1e-12)


def test_a_damaged_checkpoint_is_refused() -> None:
    strengths = Strengths(MOTION)
    arrays = {
        f"s_{name}": getattr(strengths, name).copy() for name in ("estimate", "precision", "probability")
    }
    for name, value in (("estimate", np.nan), ("precision", -1.0), ("probability", -0.5)):
        broken = {key: array.copy() for key, array in arrays.items()}
        broken[f"s_{name}"][1, 1] = value
        with pytest.raises(ValueError, match=f"s_{name}"):
            strengths.restore(broken, "s")
    variables = Variables(MOTION, MOTION_NOISE)
    state = {name: np.array(array) for name, array in variables.state("motion").items()}
    variables.restore(state, "motion")
    state["motion_prior_std"][2, 3] = 0.0
    with pytest.raises(ValueError, match="prior_std' must be > 0"):
        variables.restore(state, "motion")
    with pytest.raises(ValueError, match="shape"):
        strengths.restore({**arrays, "s_estimate": np.zeros((2, 2))}, "s")

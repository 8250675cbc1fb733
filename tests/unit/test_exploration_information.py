"""Slopes of gained against expected, and what the planner expects of what was done."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.curiosity.realised import Snapshot
from crl_node.data import TermKind
from crl_node.exploration.information import agreement, expected
from tests.support.plan_inputs import belief_of, empty_posterior, with_term

SETTINGS = {"tool": np.array([0.0, -1.0], np.float32)}


def snapshot(weights: np.ndarray) -> Snapshot:
    posterior = with_term(empty_posterior(), 5, TermKind.PUSH, 1, 0, 0.06, weights)
    belief = belief_of(np.array([[0.45, 0.0], [0.60, 0.0], [0.60, 0.2]]))
    return Snapshot(0, belief, posterior, {}, {})


def test_a_push_is_expected_to_teach_how_the_thing_is_pushed_and_rest_nothing() -> None:
    uncertain = snapshot(0.6 + 0.5 * np.linspace(-1, 1, 16))
    pushed = expected(uncertain, np.tile([0.2, 0.0], (10, 1)), SETTINGS)
    assert pushed.parameters > 0.5
    assert expected(uncertain, np.zeros((10, 2)), SETTINGS).total == pytest.approx(0.0, abs=1e-6)
    assert expected(snapshot(np.full(16, 0.6)), np.tile([0.2, 0.0], (10, 1)), SETTINGS).total < 1e-3


def test_a_later_push_in_the_same_window_counts_as_much() -> None:
    uncertain = snapshot(0.6 + 0.5 * np.linspace(-1, 1, 16))
    push, wait = np.tile([0.25, 0.0], (6, 1)), np.zeros((4, 2))
    early, late = (expected(uncertain, np.vstack(parts), SETTINGS) for parts in ([push, wait], [wait, push]))
    assert early.parameters == pytest.approx(late.parameters, rel=1e-3)


def test_slopes_of_proportional_gains_are_their_factor() -> None:
    x = np.array([0.0, 0.5, 1.0, 4.0])
    found = agreement(x, 0.9 * x)
    assert (found.slope, found.ratio, found.median_ratio, found.correlation) == pytest.approx((0.9, 0.9, 0.9, 1.0))
    assert (found.windows, found.expected) == (4, 5.5)


def test_one_great_surprise_moves_the_slope_but_not_the_median_ratio() -> None:
    x = np.ones(20)
    y = np.where(np.arange(20) == 3, 40.0, 1.0)
    found = agreement(x, y)
    assert found.slope > 2.0
    assert found.median_ratio == 1.0
    assert np.isnan(found.correlation)


def test_nothing_expected_gives_no_ratio_rather_than_an_error() -> None:
    found = agreement(np.zeros(3), np.ones(3))
    assert np.isnan(found.median_ratio)
    assert found.slope == 0.0

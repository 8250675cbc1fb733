"""Information really gained against what was expected of it, on variables whose truth is drawn from the prior."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.curiosity.realised import Gained, Known, gained_about
from crl_node.data import Array, TermKind
from crl_node.mechanisms import grammar
from crl_node.mechanisms.environments import Sums
from crl_node.structure.variables import MOTION_NOISE, Variables

COLUMNS = grammar.MOTION
INERTIA = int(np.flatnonzero(COLUMNS.kind == TermKind.INERTIA)[0])
PUSHES = np.flatnonzero((COLUMNS.kind == TermKind.PUSH) & (COLUMNS.parent == 1))
CANDIDATES = np.concatenate([[INERTIA], PUSHES])
NOISE = np.array([0.002, 0.006])  # m per step


def sums(phi: Array, y: Array, regime: int) -> Sums:
    """Statistics of `phi` [n, 4] of the candidates and changes `y` [n] in one regime."""
    size = len(COLUMNS)
    wide = np.zeros((len(phi), size))
    wide[:, CANDIDATES] = phi
    gram, cross, square, rows = np.zeros((2, size, size)), np.zeros((2, size)), np.zeros(2), np.zeros(2)
    gram[regime], cross[regime], square[regime], rows[regime] = wide.T @ wide, wide.T @ y, y @ y, len(y)
    return Sums(gram, cross, square, rows)


def trial(seed: int, *, assumed: float = 1.0) -> Gained:
    """One variable drawn from the prior, a little data, then more; `assumed` is the factor its noise is taken for."""
    rng = np.random.default_rng(seed)
    odds = np.full(len(COLUMNS), -np.inf)
    odds[INERTIA], odds[PUSHES] = -0.5, np.log(0.3)
    share = np.exp(np.append(odds[PUSHES], 0.0))
    push = rng.choice([*PUSHES, -1], p=share / share.sum())
    inertia = rng.random() < 1.0 / (1.0 + np.exp(0.5))
    inside = np.isin(CANDIDATES, [push, INERTIA if inertia else -1])
    weights = inside * rng.normal(COLUMNS.prior_mean[CANDIDATES], COLUMNS.prior_std[CANDIDATES])
    parts = []
    for count, regime in ((4, 1), (16, 1), (8, 0)):
        depth = 0.012 * rng.random(count)
        # The three radii of a push predict almost the same, as they do on the table.
        phi = np.column_stack(
            [0.01 * rng.normal(size=count), 0.7 * depth, depth, np.minimum(1.3 * depth, 0.012)]
        )
        y = phi @ weights + NOISE[regime] * rng.normal(size=count)
        parts.append(sums(phi, y, regime))
    before = Known(parts[0], assumed * NOISE, odds, np.zeros(0, int), COLUMNS.prior_mean, COLUMNS.prior_std)
    after = Known(
        parts[0] + parts[1] + parts[2],
        assumed * NOISE,
        odds,
        np.zeros(0, int),
        COLUMNS.prior_mean,
        COLUMNS.prior_std,
    )
    return gained_about(Variables(COLUMNS, MOTION_NOISE), 2, before, after, motion=True)


@pytest.fixture(scope="module")
def trials() -> list[Gained]:
    return [trial(seed) for seed in range(120)]


def test_on_average_as_much_is_gained_about_sets_as_was_expected(trials: list[Gained]) -> None:
    difference = np.array([t.structure - t.designed_structure for t in trials])
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(trials))
    expected = np.mean([t.designed_structure for t in trials])
    assert expected > 0.1 and abs(difference.mean()) < 0.25 * expected


def test_on_average_as_much_is_gained_about_weights_as_was_expected(trials: list[Gained]) -> None:
    difference = np.array([t.parameters - t.designed_parameters for t in trials])
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(trials))
    expected = np.mean([t.designed_parameters for t in trials])
    assert expected > 0.3 and abs(difference.mean()) < 0.25 * expected


def test_calibrated_residuals_are_as_large_as_predicted(trials: list[Gained]) -> None:
    assert np.mean([t.surprise for t in trials]) == pytest.approx(1.0, abs=0.3)


def test_a_model_that_believes_itself_more_exact_than_it_is_gains_more_than_it_expects() -> None:
    overconfident = [trial(seed, assumed=0.4) for seed in range(50)]
    timid = [trial(seed, assumed=2.5) for seed in range(50)]

    def ratio(found: list[Gained]) -> float:
        expected = sum(t.designed_structure + t.designed_parameters for t in found)
        return sum(t.structure + t.parameters for t in found) / expected

    assert ratio(overconfident) > 1.5
    assert ratio(timid) < 0.85


def test_steps_in_which_nothing_happened_bring_and_promise_nothing() -> None:
    rng = np.random.default_rng(0)
    odds = np.full(len(COLUMNS), -np.inf)
    odds[CANDIDATES] = -1.0
    phi = 0.01 * rng.normal(size=(6, 4))
    first, rest = (
        sums(phi, 0.002 * rng.normal(size=6), 1),
        sums(np.zeros((20, 4)), 0.001 * rng.normal(size=20), 0),
    )
    before = Known(first, NOISE, odds, np.zeros(0, int), COLUMNS.prior_mean, COLUMNS.prior_std)
    after = Known(first + rest, NOISE, odds, np.zeros(0, int), COLUMNS.prior_mean, COLUMNS.prior_std)
    found = gained_about(Variables(COLUMNS, MOTION_NOISE), 2, before, after, motion=True)
    assert (found.structure, found.parameters) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert (found.designed_structure, found.designed_parameters) == (0.0, 0.0)

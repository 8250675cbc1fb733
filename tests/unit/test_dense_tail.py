"""The dense tail of the robot's model: evidence of its scale, shares with intervals, checkpoints of both."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from crl_node.data import MAX_SLOTS, TermKind
from crl_node.mechanisms import grammar, tail
from crl_node.mechanisms.statistics import FREE
from crl_node.structure import dense
from crl_node.structure.evidence import make_problem
from crl_node.structure.variables import MOTION_NOISE, Variables

SLOT = 1
STEPS = 500


def learned(tail_scale: float, seed: int, noise: float = 0.0015) -> tuple[Variables, np.ndarray]:
    """One variable whose change is .5 x inertia + tail + noise, and the true shares [3] of the three."""
    rng = np.random.default_rng(seed)
    block = Variables(grammar.MOTION, MOTION_NOISE, tail=2 * tail.TAIL_FEATURES)
    inertia = int(np.flatnonzero(grammar.MOTION.kind == TermKind.INERTIA)[0])
    weights = tail_scale * rng.standard_normal(2 * tail.TAIL_FEATURES)
    parts = np.zeros(3)
    for _ in range(STEPS):
        state = np.zeros((MAX_SLOTS, 5))
        state[:, :2] = rng.uniform([0.4, -0.3], [0.8, 0.3], (MAX_SLOTS, 2))
        state[:, 2:4] = rng.normal(0.0, 0.05, (MAX_SLOTS, 2))
        phi = np.zeros((MAX_SLOTS, 2, len(grammar.MOTION) + 2 * tail.TAIL_FEATURES))
        phi[:, :, inertia] = 0.1 * state[:, 2:4]
        phi[:, :, len(grammar.MOTION) :] = tail.tail_features(state, np.zeros(2))
        three = np.stack([
            0.5 * phi[SLOT, :, inertia], phi[SLOT, :, len(grammar.MOTION) :] @ weights, rng.normal(0.0, noise, 2)
        ])  # fmt: skip
        parts += np.square(three).sum(axis=1)
        change = np.zeros((MAX_SLOTS, 2))
        change[SLOT] = three.sum(axis=0)
        block.statistics.add(phi, change, np.full(MAX_SLOTS, FREE), (np.arange(MAX_SLOTS) == SLOT).astype(float))
    odds = np.where(np.isin(grammar.MOTION.kind, grammar.MOTION_UNARY[:1]), 0.0, -np.inf)
    for _ in range(3):
        block.refresh(SLOT, odds, np.random.default_rng(0))
    return block, parts / parts.sum()


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_a_true_dense_tail_is_believed_and_its_scale_is_found(scale: float) -> None:
    for seed in range(2):
        block, _ = learned(scale, seed)
        assert block.tail_scale[SLOT, 0] < 0.01
        expected = float(block.tail_scale[SLOT] @ dense.SCALES)
        assert 0.5 * scale < expected < 2.0 * scale


def test_without_a_tail_the_belief_in_one_falls_below_its_prior_and_its_share_is_nothing() -> None:
    for seed in range(3):
        block, true = learned(0.0, seed)
        assert block.tail_scale[SLOT, 0] > 0.75
        assert block.shares[SLOT, 1] < 0.01
        np.testing.assert_allclose(block.shares[SLOT], true, atol=0.06)


def test_the_intervals_of_the_shares_hold_the_truth_about_as_often_as_they_say() -> None:
    inside = []
    for seed in range(8):
        block, true = learned(2.0, 10 + seed)
        assert block.shares[SLOT].sum() == pytest.approx(1.0)
        assert (block.share_low[SLOT] <= block.shares[SLOT]).all()
        assert (block.shares[SLOT] <= block.share_high[SLOT]).all()
        # Shares leave out the products of core, tail and noise, which are not quite 0 in a finite sample.
        inside.append((block.share_low[SLOT] - 0.01 <= true) & (true <= block.share_high[SLOT] + 0.01))
    assert np.mean(inside) > 0.75


@pytest.mark.parametrize("true", [0.0, 0.5])
def test_the_evidence_of_a_scale_is_the_density_of_the_data_with_core_and_tail_integrated_out(true: float) -> None:
    rng = np.random.default_rng(3)
    n, f, t = 40, 3, 6
    phi, psi = rng.standard_normal((n, f)), rng.standard_normal((n, t))
    y = phi @ np.array([0.5, 0.0, -0.3]) + true * psi @ rng.standard_normal(t) + 0.4 * rng.standard_normal(n)
    noise, mean, std = 0.4, np.array([0.2, 0.0, 0.1]), np.array([0.5, 0.4, 0.3])
    members = np.array([0, 2])
    problem = make_problem(
        (phi.T @ phi)[None], (phi.T @ y)[None], np.array([y @ y]), np.array([float(n)]), np.array([noise]),
        prior_mean=mean, prior_std=std, group=np.arange(f, dtype=np.int32), log_prior_odds=np.zeros(f),
    )  # fmt: skip
    found = dense.fit_tail(problem, members, psi.T @ psi / noise**2, phi.T @ psi / noise**2, psi.T @ y / noise**2)
    score = [
        multivariate_normal.logpdf(
            y, phi[:, members] @ mean[members],
            noise**2 * np.eye(n) + (phi[:, members] * np.square(std[members])) @ phi[:, members].T + m**2 * psi @ psi.T,
        ) + prior
        for m, prior in zip(dense.SCALES, dense.LOG_PRIOR, strict=True)
    ]  # fmt: skip
    direct = np.exp(np.array(score) - max(score))
    np.testing.assert_allclose(found.probability, direct / direct.sum(), rtol=1e-6, atol=1e-12)


def test_a_variable_that_never_moved_has_the_prior_and_wide_intervals() -> None:
    block = Variables(grammar.MOTION, MOTION_NOISE, tail=2 * tail.TAIL_FEATURES)
    block.refresh(SLOT, np.zeros(len(grammar.MOTION)), np.random.default_rng(0))
    np.testing.assert_allclose(block.tail_scale[SLOT], np.exp(dense.LOG_PRIOR))
    assert block.share_low[SLOT].tolist() == [0.0] * 3
    assert block.share_high[SLOT].tolist() == [1.0] * 3


def test_a_checkpoint_brings_intervals_back_bit_by_bit_and_one_from_before_them_is_read() -> None:
    block, _ = learned(2.0, 0)
    arrays = {name: array.copy() for name, array in block.state("motion").items()}
    again = Variables(grammar.MOTION, MOTION_NOISE, tail=2 * tail.TAIL_FEATURES)
    again.restore(arrays, "motion")
    odds = np.where(np.isin(grammar.MOTION.kind, grammar.MOTION_UNARY[:1]), 0.0, -np.inf)
    for one in (block, again):
        one.refresh(SLOT, odds, np.random.default_rng(7))
    for name, array in block.state("motion").items():
        np.testing.assert_array_equal(array, again.state("motion")[name])
    for name in ("share_low", "share_high", "tail_scale"):
        del arrays[f"motion_{name}"]
    older = Variables(grammar.MOTION, MOTION_NOISE, tail=2 * tail.TAIL_FEATURES)
    older.restore(arrays, "motion")
    np.testing.assert_array_equal(older.inclusion, arrays["motion_inclusion"])
    assert (older.share_high[SLOT] == 1.0).all()

"""Problems drawn from the prior must have exact posteriors that are calibrated: else they are not from the prior."""

from __future__ import annotations

import numpy as np

from crl_node.metrics import calibration_error
from crl_node.structure.draws import DrawConfig, draw
from crl_node.structure.exact import ExactPosterior


def test_the_exact_posterior_is_calibrated_on_draws_from_the_prior() -> None:
    rng = np.random.default_rng(1)
    config = DrawConfig(columns=7, rows=(3, 200))
    truth, probability = [], []
    for _ in range(500):
        drawn = draw(rng, config)
        exact = ExactPosterior()
        exact.update(drawn.problem)
        truth.append(drawn.truth)
        probability.append(exact.inclusion())
    assert calibration_error(np.concatenate(truth), np.concatenate(probability)) < 0.02
    assert 0.15 < np.mean(truth) < 0.25


def test_the_same_seed_draws_the_same_problem() -> None:
    one, other = draw(np.random.default_rng(7)), draw(np.random.default_rng(7))
    np.testing.assert_array_equal(one.problem.precision, other.problem.precision)
    np.testing.assert_array_equal(one.truth, other.truth)

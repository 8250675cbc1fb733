"""Exact enumeration beyond what can be listed: twenty and more columns."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.structure.draws import DrawConfig, draw, problem_of
from crl_node.structure.exact import ExactConfig, ExactEngine, ExactPosterior
from crl_node.structure.mcmc import McmcEngine


def test_twenty_columns_are_exact_to_the_bound_and_chains_agree() -> None:
    problem = draw(np.random.default_rng(3), DrawConfig(columns=20, rows=(400, 600), mean_rate=0.05)).problem
    exact, chains = ExactEngine(), McmcEngine()
    exact.update([problem])
    chains.update([problem])
    support = exact.support(0)
    assert support.missed <= 1e-3
    np.testing.assert_allclose(chains.inclusion(), exact.inclusion(), atol=0.02)
    # Far fewer sets than 2^20 were looked at: the bound does the work.
    posterior = exact.variables[0]
    assert isinstance(posterior, ExactPosterior)
    assert posterior.visited < 2**19


def test_forty_columns_of_which_few_matter_are_within_reach() -> None:
    rng = np.random.default_rng(0)
    config = DrawConfig(columns=40, mean_rate=0.02)
    phi = rng.normal(size=(600, 40))
    y = 1.0 * phi[:, 3] - 0.8 * phi[:, 17] + 0.5 * rng.normal(size=600)
    posterior = ExactPosterior(ExactConfig(missed=1e-2))
    posterior.update(problem_of(phi, y, np.full(40, 2.0), config))
    inclusion = posterior.inclusion()
    assert inclusion[[3, 17]].min() > 0.999
    assert np.delete(inclusion, [3, 17]).max() < 0.2
    assert posterior.missed <= 1e-2


def test_more_columns_than_bits_are_refused_with_a_sentence() -> None:
    problem = draw(np.random.default_rng(0), DrawConfig(columns=70, rows=(10, 20))).problem
    with pytest.raises(ValueError, match="takes 63 candidate columns at most, got 70"):
        ExactPosterior().update(problem)


def test_a_bound_out_of_reach_is_refused_with_what_was_reached() -> None:
    problem = draw(np.random.default_rng(1), DrawConfig(columns=30, rows=(4, 5))).problem
    with pytest.raises(ValueError, match=r"over 30 candidate columns \(1.07e\+09 sets\) may still miss"):
        ExactPosterior(ExactConfig(most_sets=20000)).update(problem)

"""Engines on many columns: screening keeps what matters and judges the rest alone."""

from __future__ import annotations

import numpy as np

from crl_node.structure.draws import DrawConfig, draw
from crl_node.structure.exact import ExactEngine
from crl_node.structure.mcmc import McmcEngine
from crl_node.structure.screening import ScreenedEngine

CONFIG = DrawConfig(columns=14, rows=(60, 400), mean_rate=0.15)


def test_screened_chains_agree_with_exact_enumeration() -> None:
    rng = np.random.default_rng(0)
    problems = [draw(rng, CONFIG).problem for _ in range(8)]
    exact, screened = ExactEngine(), ScreenedEngine(lambda: McmcEngine(), most_columns=9)
    exact.update(problems)
    screened.update(problems)
    assert np.abs(screened.inclusion() - exact.inclusion()).max() < 0.1
    assert np.abs(screened.inclusion() - exact.inclusion()).mean() < 0.02


def test_true_terms_are_found_among_a_thousand() -> None:
    rng = np.random.default_rng(1)
    drawn = draw(rng, DrawConfig(columns=1000, rows=(600, 600), mean_rate=0.005, strength=400.0, correlated=0.0))
    screened = ScreenedEngine(lambda: McmcEngine(), most_columns=40)
    screened.update([drawn.problem])
    inclusion = screened.inclusion()[0]
    clear = drawn.truth & (np.abs(drawn.weights) > 0.3 * np.abs(drawn.weights).max())
    assert clear.sum() >= 2
    assert inclusion[clear].min() > 0.9
    assert inclusion[~drawn.truth].mean() < 0.01


def test_supports_and_particles_are_about_all_columns() -> None:
    rng = np.random.default_rng(2)
    problem = draw(rng, CONFIG).problem
    screened = ScreenedEngine(lambda: McmcEngine(), most_columns=6)
    screened.update([problem])
    assert screened.support(0).sets.shape[1] == 14
    assert screened.sample(10, rng)[0].sets.shape == (10, 14)
    assert np.isfinite(screened.log_evidence(0, screened.support(0).sets)).all()


def test_few_columns_go_to_the_engine_as_they_are() -> None:
    rng = np.random.default_rng(3)
    problem = draw(rng, DrawConfig(columns=6)).problem
    screened, plain = ScreenedEngine(lambda: McmcEngine(seed=4)), McmcEngine(seed=4)
    screened.update([problem])
    plain.update([problem])
    np.testing.assert_array_equal(screened.inclusion(), plain.inclusion())

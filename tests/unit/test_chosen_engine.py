"""The world model with other engines than search: the same answers, whatever computes them."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.structure.chosen import MOST_COLUMNS, EnginePosterior
from crl_node.structure.draws import DrawConfig, draw
from crl_node.structure.exact import ExactPosterior
from crl_node.structure.greedy import GreedyConfig, GreedyPosterior

ENGINES = ["exact", "mcmc", "particles"]


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_agrees_with_enumeration_on_one_variable(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        problem = draw(rng, DrawConfig(columns=10, rows=(30, 200))).problem
        exact, chosen = ExactPosterior(), EnginePosterior(name, seed=1)
        exact.update(problem)
        chosen.update(problem)
        np.testing.assert_allclose(chosen.inclusion(), exact.inclusion(), atol=0.15 if name == "particles" else 0.03)


def test_columns_beyond_what_the_engine_takes_are_judged_alone() -> None:
    rng = np.random.default_rng(1)
    problem = draw(rng, DrawConfig(columns=40, rows=(300, 300), mean_rate=0.1)).problem
    few, search = EnginePosterior("exact", seed=0), GreedyPosterior(GreedyConfig(most_sets=4096))
    few.update(problem)
    search.update(problem)
    assert MOST_COLUMNS["exact"] < 40
    np.testing.assert_allclose(few.inclusion(), search.inclusion(), atol=0.1)
    particles = few.sample(200, np.random.default_rng(0))
    np.testing.assert_allclose(particles.sets.mean(axis=0), few.inclusion(), atol=0.06)


def test_the_same_seed_gives_the_same_posterior() -> None:
    problem = draw(np.random.default_rng(2), DrawConfig(columns=12)).problem
    one, other = EnginePosterior("particles", seed=5), EnginePosterior("particles", seed=5)
    one.update(problem)
    other.update(problem)
    np.testing.assert_array_equal(one.inclusion(), other.inclusion())


def test_a_name_that_is_no_engine_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match="there is no structure engine 'oracle' for a world model; there are greedy"):
        EnginePosterior("oracle", seed=0)

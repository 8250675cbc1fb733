"""Discovery end to end on systems whose graph and law are known; and on input that is bad in many ways."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import crl_node
from crl_node.discovery.discover import DiscoverConfig, discover
from crl_node.discovery.result import Discovery
from crl_node.discovery.systems import System, dense_tail, lorenz96, random_polynomial, sparse_law
from crl_node.discovery.table import SeriesError
from crl_node.metrics import auroc

QUICK = DiscoverConfig(draws=100)


def polynomial(**given: float) -> System:
    return random_polynomial(seed=0, noise=0.4, size=4, steps=300, actions=1, forcing=1.0, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def base() -> tuple[System, Discovery]:
    system = polynomial()
    return system, discover(system.states, system.actions, config=QUICK)


def test_the_function_is_at_the_top_of_the_package() -> None:
    assert crl_node.discover is discover


def test_a_random_polynomial_system_is_found(base: tuple[System, Discovery]) -> None:
    system, found = base
    assert auroc(system.graph, found.inclusion) > 0.97
    assert found.inclusion.shape == (4, 5)
    assert found.orders[1] > 0.9  # noise-driven: a map


def test_lorenz_96_is_found_with_its_law_and_as_a_flow() -> None:
    system = lorenz96(seed=2, size=5, steps=500, forcing=8.0, dt=0.02, observation_noise=0.001)
    found = discover(system.states, dt=0.02, config=DiscoverConfig(draws=100, grow=0))
    assert auroc(system.graph, found.inclusion) == 1.0
    assert found.orders[1] < 0.01
    law = {term.term: term for term in found.laws[2].terms}
    assert law["x1*x3"].mean == pytest.approx(1.0, abs=0.02)
    assert law["x0*x1"].mean == pytest.approx(-1.0, abs=0.02)
    assert found.laws[2].intercept[0] == pytest.approx(8.0, abs=0.2)


def test_intervals_hold_the_true_weight_and_predictions_the_next_change(base: tuple[System, Discovery]) -> None:
    system, found = base
    assert system.actions is not None
    mean, std = found.predict(system.states[100], system.actions[100])
    change = system.states[101] - system.states[100]
    assert (np.abs(change - mean) < 4.0 * std).all()
    assert (std < 1.0).all()


def test_a_law_of_the_next_value_has_no_edge_to_itself() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((400, 2))
    for t in range(399):
        x[t + 1] = [0.8 * x[t, 1] + 0.3 * rng.normal(), 0.9 * x[t, 1] + rng.normal()]
    found = discover(x, config=QUICK)
    assert found.laws[0].form == "next"
    assert found.inclusion[0, 0] < 0.3
    assert found.inclusion[0, 1] > 0.9
    assert found.inclusion[1, 1] > 0.9


def test_sparse_law_and_dense_tail_are_told_apart() -> None:
    sparse = discover(sparse_law(seed=0, size=4, steps=800).states, config=QUICK)
    dense = discover(dense_tail(seed=0, size=4, steps=800).states, config=QUICK)
    assert sparse.shares[:, 1, 0].max() < 0.03
    assert dense.shares[:, 1, 0].min() > 0.08
    assert np.mean([h["tail_probability"] for h in dense.hypers]) > 0.95
    assert np.mean([h["tail_probability"] for h in sparse.hypers]) < 0.6
    np.testing.assert_allclose(dense.shares[:, :, 0].sum(axis=1), 1.0)


def test_the_grammar_finds_a_term_that_the_library_lacks_and_says_so() -> None:
    rng = np.random.default_rng(1)
    x = np.zeros((500, 2))
    for t in range(499):
        x[t + 1, 0] = 0.5 * x[t, 0] + 2.0 * np.sin(x[t, 1]) + 0.2 * rng.normal()
        x[t + 1, 1] = 0.3 * x[t, 1] + 2.5 * rng.normal()
    found = discover(x, config=QUICK)
    assert any("sin(x1)" in note for note in found.notes)
    assert "sin(x1)" in found.laws[0].text
    without = discover(x, config=DiscoverConfig(draws=100, grow=0))
    assert "sin" not in without.laws[0].text


def test_state_conditional_edges_are_active_only_in_their_states() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(600, 2)) * [1.0, 2.0]
    for t in range(599):
        x[t + 1, 0] = 0.5 * x[t, 0] + 3.0 * max(0.0, x[t, 1] - 1.0) + 0.1 * rng.normal()
    found = discover(x, config=QUICK)
    assert found.inclusion[0, 1] > 0.99
    assert found.active(np.array([0.0, 4.0]))[0, 1] > 0.95
    beyond, before = found.active(np.array([0.0, 4.0])), found.active(np.array([0.0, 0.05]))
    assert before[0, 1] < 0.6 * beyond[0, 1]


def test_the_same_seed_gives_the_same_answer(base: tuple[System, Discovery]) -> None:
    system, found = base
    again = discover(system.states, system.actions, config=QUICK)
    np.testing.assert_array_equal(again.inclusion, found.inclusion)
    assert again.laws == found.laws


def test_a_changed_mechanism_is_named_and_the_others_are_not() -> None:
    rng = np.random.default_rng(4)
    x = np.zeros((600, 3))
    for t in range(599):
        push = 0.5 if t < 300 else -0.4
        x[t + 1] = 0.7 * x[t] + [push * x[t, 1], 0.0, 0.4 * x[t, 1]] + 0.3 * rng.normal(size=3)
    found = discover(x, environment=np.where(np.arange(600) < 300, "dry", "wet"), config=QUICK)
    assert found.environments is not None
    invariant = {(t["variable"], t["term"]): t["invariant"] for t in found.environments["terms"]}
    assert invariant["x0", "x1"] < 0.05
    assert invariant["x2", "x1"] > 0.8
    assert invariant["x1", "x1"] > 0.8
    assert [s for s in found.environments["sentences"] if s.startswith("x1 in the law of x0 changed in 'wet'")]
    assert discover(x[:300], config=QUICK).environments is None


@pytest.mark.parametrize("engine", ["exact", "greedy", "particles"])
def test_another_engine_finds_the_same_graph(engine: str, base: tuple[System, Discovery]) -> None:
    system, found = base
    other = discover(system.states, system.actions, config=DiscoverConfig(draws=50, grow=0, engine=engine))
    assert auroc(system.graph, other.inclusion) > 0.97
    assert np.abs(other.inclusion - found.inclusion).mean() < 0.05


# -- bad input: a clear sentence or a wide posterior, never a confident wrong one, no warning from the arithmetic --


def quietly(*arguments: object, **named: object) -> Discovery:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = discover(*arguments, config=QUICK, **named)  # type: ignore[arg-type]
    assert np.isfinite(found.inclusion).all()
    assert ((found.inclusion >= 0.0) & (found.inclusion <= 1.0)).all()
    return found


def test_nan_rows_are_left_out_and_said(base: tuple[System, Discovery]) -> None:
    system, found = base
    states = system.states.copy()
    states[50:55, 2] = np.nan
    states[200, 0] = np.inf
    holed = quietly(states, system.actions)
    assert "6 of 300 rows hold NaN or infinite values (in x0, x2)" in holed.notes[0]
    assert auroc(system.graph, holed.inclusion) > 0.95


def test_a_constant_column_causes_nothing_that_could_be_told(base: tuple[System, Discovery]) -> None:
    system, _ = base
    states = np.hstack([system.states, np.full((300, 1), 7.0)])
    found = quietly(states, system.actions)
    assert any("'x4' is constant" in note for note in found.notes)
    assert ((found.inclusion[:, 4] > 0.1) & (found.inclusion[:, 4] < 0.9)).all()
    assert ((found.inclusion[4] > 0.1) & (found.inclusion[4] < 0.9)).all()


def test_twin_columns_share_the_probability(base: tuple[System, Discovery]) -> None:
    system, found = base
    twin = quietly(np.hstack([system.states, 2.0 * system.states[:, :1]]), system.actions)
    assert any("'x0' and 'x4' are the same up to scale" in note for note in twin.notes)
    caused = np.flatnonzero(found.inclusion[:, 0] > 0.99)
    for effect in caused:
        assert twin.inclusion[effect, 0] == pytest.approx(twin.inclusion[effect, 4], abs=0.1)
        assert 0.4 < twin.inclusion[effect, 0] < 0.8


@pytest.mark.parametrize("count", [3, 4, 8])
def test_fewer_rows_than_terms_give_a_wide_posterior(base: tuple[System, Discovery], count: int) -> None:
    system, _ = base
    assert system.actions is not None
    found = quietly(system.states[:count], system.actions[:count])
    assert found.inclusion.max() < 0.9
    assert any("candidate terms: expect wide posteriors" in note for note in found.notes)


def test_a_missing_action_is_said_and_stays_at_the_prior(base: tuple[System, Discovery]) -> None:
    system, _ = base
    actions = np.hstack([system.actions, np.full((300, 1), np.nan)])  # type: ignore[list-item]
    found = quietly(system.states, actions)
    assert any("action 'a1' holds no finite value" in note for note in found.notes)
    assert ((found.inclusion[:, 5] > 0.1) & (found.inclusion[:, 5] < 0.9)).all()


@pytest.mark.parametrize("scales", [(1e-6, 1e6, 1.0, 1e3), (1e150, 1e150, 1e-150, 1.0)])
def test_the_unit_of_a_column_does_not_matter(base: tuple[System, Discovery], scales: tuple[float, ...]) -> None:
    system, found = base
    scaled = quietly(system.states * np.array(scales), system.actions)
    np.testing.assert_allclose(scaled.inclusion, found.inclusion, atol=0.05)


def test_white_noise_and_random_walks_have_no_confident_edges() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(300, 4))
    for states in (noise, np.cumsum(noise, axis=0), np.cumsum(rng.standard_cauchy(size=(300, 4)), axis=0)):
        inclusion = quietly(states).inclusion
        assert inclusion[~np.eye(4, dtype=bool)].max() < 0.8


@pytest.mark.parametrize(
    ("states", "actions", "sentence"),
    [
        (np.zeros((0, 3)), None, "states must have shape"),
        (np.zeros((2, 3)), None, "only 2 usable rows of 2"),
        (np.ones((50, 2)), np.ones((20, 1)), "states have 50 rows, actions 20"),
        (np.array([["a"], ["b"]]), None, "states must be numbers"),
        (np.zeros((3, 3, 3)), None, "states must have shape"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(states: np.ndarray, actions: np.ndarray, sentence: str) -> None:
    with pytest.raises(SeriesError, match=sentence):
        discover(states, actions)


def test_rows_that_never_follow_one_another_are_refused(base: tuple[System, Discovery]) -> None:
    with pytest.raises(SeriesError, match="no two consecutive usable rows"):
        discover(base[0].states, episode=np.arange(300))


def test_nothing_moves_nothing_is_claimed() -> None:
    found = quietly(np.ones((100, 3)))
    assert ((found.inclusion > 0.05) & (found.inclusion < 0.95)).all()

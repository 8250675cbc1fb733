"""The graph now: far apart nothing acts, in contact the term's probability does, in between it is a matter of where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crl_node.activity import DRAWS, acting, drawn_states, graph_now
from crl_node.data import BODY, MAX_SLOTS, Belief, Edge, TermKind
from crl_node.mechanisms import grammar
from crl_node.mechanisms.terms import Scene, TermTable
from crl_node.world_model import WorldModel

EXTENT = np.array([0.015, 0.03, 0.03])
TOWARDS = np.array([0.1, 0.0])


def belief(x: float, *, std: float = 1e-5, stamp: float = 0.0) -> Belief:
    """The body at `x` m, a thing at 0.6 m, another far away."""
    mean = np.zeros((3, 5))
    mean[:, :2] = [[x, 0.0], [0.6, 0.0], [0.75, 0.2]]
    cov = np.tile(np.diag([std**2, std**2, 1e-10, 1e-10, 1e-6]), (3, 1, 1))
    cov[BODY, :2, :2] = 1e-12 * np.eye(2)
    return Belief(stamp, np.array([0, 4, 7]), mean, cov, np.zeros((3, 3)), EXTENT, np.ones(3), np.ones(3))


@pytest.fixture
def model() -> WorldModel:
    """Knows the three slots; believes with probability 0.8 that the body pushes slot_4, with weight 0.7."""
    model = WorldModel()
    for step in range(8):
        model.observe(belief(0.5, stamp=0.1 * step), np.zeros(2))
    block, slot = model.motion, model.registry.index(4)
    assert slot is not None
    block.inclusion[:] = block.mean[:] = block.edge[:] = 0.0
    push = np.flatnonzero((block.columns.kind == TermKind.PUSH) & (block.columns.parent == BODY))
    block.inclusion[slot, push[1]], block.mean[slot, push[1]], block.edge[slot, BODY] = 0.8, 0.8 * 0.7, 0.8
    action = np.flatnonzero(block.columns.kind == TermKind.ACTION)
    block.inclusion[BODY, action], block.mean[BODY, action] = 1.0, 1.0
    block.noise[:] = 0.001
    return model


def push_edge(edges: tuple[Edge, ...]) -> Edge:
    return next(e for e in edges if e.cause == "body" and e.effect == "slot_4.position")


def test_far_apart_the_edge_does_not_act(model: WorldModel) -> None:
    edge = push_edge(graph_now(model, belief(0.45), TOWARDS))
    assert edge.probability == pytest.approx(0.8)
    assert edge.now == 0.0


def test_in_contact_it_acts_with_the_probability_of_its_term(model: WorldModel) -> None:
    assert push_edge(graph_now(model, belief(0.56), TOWARDS)).now == pytest.approx(0.8)


def test_moving_away_it_does_not_act(model: WorldModel) -> None:
    assert push_edge(graph_now(model, belief(0.56), -TOWARDS)).now == 0.0


def test_at_the_rim_of_contact_it_acts_as_often_as_a_monte_carlo_of_the_belief_says(model: WorldModel) -> None:
    at_rim = belief(0.6 - 0.045 - 0.01 + 0.0025, std=0.003)  # after the step of 1 cm the overlap is about 2.5 mm
    now = push_edge(graph_now(model, at_rim, TOWARDS)).now
    rng = np.random.default_rng(1)
    count = 4000
    slot = model.registry.index(4)
    assert slot is not None
    place = np.array([0.6, 0.0]) + 0.003 * rng.standard_normal((count, 2))
    distance = np.linalg.norm(place - [at_rim.mean[BODY, 0] + 0.01, 0.0], axis=1)
    acts = 0.7 * np.clip(0.045 - distance, 0.0, 0.01) > 0.001
    assert 0.15 < now / 0.8 < 0.85
    assert now / 0.8 == pytest.approx(acts.mean(), abs=0.12)


def test_the_draws_have_the_mean_and_covariance_of_the_belief() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((MAX_SLOTS, 5, 5))
    covariance = root @ root.transpose(0, 2, 1)
    mean = rng.standard_normal((MAX_SLOTS, 5))
    drawn = drawn_states(mean, covariance)
    assert drawn.shape == (DRAWS, MAX_SLOTS, 5)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=1e-12)
    spread = np.einsum("nsi,nsi->s", drawn - mean, drawn - mean) / DRAWS
    np.testing.assert_allclose(spread / np.trace(covariance, axis1=1, axis2=2), 1.0, atol=0.6)
    assert np.mean(spread / np.trace(covariance, axis1=1, axis2=2)) == pytest.approx(1.0, abs=0.15)


def test_a_lamp_being_lit_acts_only_while_its_button_is_pressed() -> None:
    scene = Scene(EXTENT, np.ones(3, bool), np.array([0.38, 0.82, -0.3, 0.3]), 0.1)
    kind, target, parent = (np.array([value], np.int32) for value in (TermKind.LIT_BY, 2, 1))
    table = TermTable(kind, target, parent, np.zeros(1))

    def share(x: float) -> float:
        states = drawn_states(belief(x).mean, belief(x).cov)
        return float(acting(table, np.array([0.7]), np.array([0.03]), states, np.zeros(2), np.zeros(2), scene)[0])

    assert share(0.45) == 0.0
    assert share(0.555) == 1.0


def test_the_same_belief_gives_the_same_answer_and_bad_ones_are_refused(model: WorldModel) -> None:
    here = belief(0.55, std=0.003)
    assert graph_now(model, here, TOWARDS) == graph_now(model, here, TOWARDS)
    with pytest.raises(ValueError, match="not two finite numbers"):
        graph_now(model, here, np.array([np.nan, 0.0]))
    with pytest.raises(ValueError, match="not finite"):
        graph_now(model, replace(here, mean=here.mean * np.nan), TOWARDS)


def test_candidates_of_absent_slots_take_part_in_no_edge(model: WorldModel) -> None:
    whole = belief(0.56)
    fields = ("ids", "mean", "cov", "colour", "extent", "existence", "visible")
    without = replace(whole, **{name: getattr(whole, name)[[0, 2]] for name in fields})
    assert push_edge(graph_now(model, without, TOWARDS)).now == 0.0
    assert len(grammar.MOTION) == model.motion.inclusion.shape[1]

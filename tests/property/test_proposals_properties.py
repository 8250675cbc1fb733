"""Whatever stands on the table: proposals have the right shape, stay inside and are finite."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crl_node.curiosity.needs import edge_needs
from crl_node.curiosity.policies import Curious, Random, Request, Skills
from crl_node.curiosity.proposals import Table
from crl_node.curiosity.routes import Leg, Ways, velocities
from crl_node.curiosity.scene import scene_from
from tests.support.plan_inputs import belief_of, random_posterior

BOX = np.array([0.40, 0.80, -0.28, 0.28])
POSTERIOR = random_posterior(0, slots=9)
NEEDS = edge_needs(POSTERIOR)
coordinates = st.tuples(st.floats(0.36, 0.86), st.floats(-0.32, 0.32))
scenes = st.lists(coordinates, min_size=1, max_size=11)


def request(positions: list[tuple[float, float]], hidden: bool, horizon: int = 30) -> Request:
    tip = np.clip(positions[0], BOX[0::2], BOX[1::2])
    visible = np.ones(len(positions))
    visible[1:2] = 0.0 if hidden else 1.0
    belief = belief_of(np.vstack([tip, *positions[1:]]), visible=visible)
    scene = scene_from(belief, POSTERIOR)
    return Request(scene, Table(box=BOX), NEEDS, None, frozenset(), False, np.zeros((0, 2)), 64, horizon, 0.1)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(scenes, st.booleans(), st.integers(1, 40))
def test_curious_proposals_fill_the_graphs_shapes_and_are_finite(
    positions: list[tuple[float, float]], hidden: bool, horizon: int
) -> None:
    proposals = Curious().propose(request(positions, hidden, horizon), np.random.default_rng(0))
    assert proposals.actions.shape == (64, horizon, 2)
    assert proposals.actions.dtype == np.float32
    assert len(proposals.labels) == len(proposals.bonus) == 64
    assert np.isfinite(proposals.actions).all() and np.isfinite(proposals.bonus).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(scenes, st.booleans(), st.integers(0, 2**31 - 1))
def test_experiments_never_lead_the_tip_out_of_its_workspace(
    positions: list[tuple[float, float]], hidden: bool, seed: int
) -> None:
    asked = request(positions, hidden)
    for policy in (Curious(), Skills(), Random()):
        proposals = policy.propose(asked, np.random.default_rng(seed))
        paths = asked.scene.tip + np.cumsum(proposals.actions, axis=1) * 0.1
        named = np.array([label not in ("explore", "wander") for label in proposals.labels])
        assert (paths[named] >= BOX[0::2] - 1e-5).all() and (paths[named] <= BOX[1::2] + 1e-5).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    coordinates, coordinates, st.lists(st.tuples(coordinates, st.floats(0.02, 0.06)), max_size=6)
)
def test_routes_enter_no_disc_that_they_do_not_start_in(
    start: tuple[float, float], end: tuple[float, float], discs: list[tuple[tuple[float, float], float]]
) -> None:
    begin, goal = (np.clip(p, BOX[0::2], BOX[1::2]) for p in (start, end))
    centres = np.array([centre for centre, _ in discs]).reshape(-1, 2)
    radii = np.array([radius for _, radius in discs])
    way = Ways(begin, centres, radii, BOX).to(goal)
    if way is None:
        return
    points = np.array([begin, *way])
    np.testing.assert_allclose(points[-1], goal)
    shares = np.linspace(0, 1, 50)[:, None]
    samples = np.concatenate([a + (b - a) * shares for a, b in zip(points, points[1:], strict=False)])
    for centre, radius in zip(centres, radii, strict=True):
        if np.linalg.norm(begin - centre) >= radius:
            assert np.linalg.norm(samples - centre, axis=1).min() >= radius - 1e-3


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(coordinates, st.floats(0.05, 0.25), st.floats(0.0, 0.6)), max_size=5),
    st.integers(1, 40),
    st.floats(0.02, 0.2),
)
def test_velocities_never_exceed_the_fastest_leg_and_never_overshoot_the_end(
    legs: list[tuple[tuple[float, float], float, float]], horizon: int, dt: float
) -> None:
    start = np.array([0.6, 0.0])
    out = velocities(start, [Leg(np.array(to), speed, stay) for to, speed, stay in legs], horizon, dt)
    assert out.shape == (horizon, 2)
    fastest = max((speed for _, speed, _ in legs), default=0.0)
    assert np.linalg.norm(out, axis=1).max() <= fastest + 1e-4

"""Motion terms are equivariant: they know no direction, no place and no numbering of the slots."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crl_node.data import NO_PARENT, Term, TermKind
from crl_node.mechanisms.terms import Scene, TermTable, features

FAR = np.array([-5.0, 5.0, -5.0, 5.0])  # no rim near enough to matter
TERMS = [
    Term(TermKind.INERTIA, 1, NO_PARENT),
    Term(TermKind.PUSH, 1, 0, 0.08),
    Term(TermKind.PUSH, 2, 1, 0.08),
    Term(TermKind.PUSH, 0, 2, 0.08),
    Term(TermKind.DRAG, 1, 0, 0.09),
    Term(TermKind.DRAG, 2, 1, 0.09),
    Term(TermKind.SPRING, 2, 1, 0.10),
]


def scene(extent: np.ndarray) -> Scene:
    return Scene(extent, np.ones(len(extent), bool), FAR, 0.1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), angle=st.floats(-3.1, 3.1), shift=st.floats(-1.0, 1.0))
def test_turning_and_moving_the_world_turns_the_features(seed: int, angle: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    state = np.column_stack([rng.uniform(-0.06, 0.06, (3, 2)), rng.normal(0, 0.1, (3, 2)), rng.random(3)])
    action, step = rng.normal(0, 0.1, 2), rng.normal(0, 0.01, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = state.copy()
    turned[:, :2] = state[:, :2] @ turn.T + shift
    turned[:, 2:4] = state[:, 2:4] @ turn.T
    where = scene(np.full(3, 0.03))
    before = features(TermTable.of(TERMS), state, action, step, where)
    after = features(TermTable.of(TERMS), turned, turn @ action, turn @ step, where)
    np.testing.assert_allclose(after[:, :2], before[:, :2] @ turn.T, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_renumbering_the_things_renumbers_the_features(seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = np.column_stack([rng.uniform(-0.06, 0.06, (3, 2)), rng.normal(0, 0.1, (3, 2)), rng.random(3)])
    extent = rng.uniform(0.02, 0.04, 3)
    swap = [0, 2, 1]
    kinds = (TermKind.PUSH, TermKind.DRAG, TermKind.SPRING, TermKind.LIT_BY, TermKind.TOGGLE_BY, TermKind.TOUCH)
    one = TermTable.of([Term(kind, 1, 2, 0.08) for kind in kinds])
    two = TermTable.of([Term(kind, 2, 1, 0.08) for kind in kinds])
    action, step = rng.normal(0, 0.1, 2), rng.normal(0, 0.01, 2)
    np.testing.assert_allclose(
        features(one, state, action, step, scene(extent)),
        features(two, state[swap], action, step, scene(extent[swap])),
        atol=1e-12,
    )

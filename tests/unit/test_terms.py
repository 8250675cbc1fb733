"""The term library against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.data import ACTION_PARENT, NO_PARENT, Term, TermKind
from crl_node.mechanisms.terms import (
    DEAD_ZONE,
    Scene,
    TermTable,
    advance,
    describe,
    disturbed,
    features,
    in_contact,
)

WALL = np.array([0.38, 0.82, -0.30, 0.30])


def scene(count: int = 3, extent: float = 0.03, exists: list[bool] | None = None) -> Scene:
    return Scene(np.full(count, extent), np.array(exists or [True] * count), WALL, 0.1)


def state(*rows: tuple[float, ...]) -> np.ndarray:
    out = np.zeros((len(rows), 5))
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def phi(term: Term, where: np.ndarray, action=(0.0, 0.0), body_step=(0.0, 0.0), **kwargs) -> np.ndarray:
    return features(
        TermTable.of([term]), where, np.array(action), np.array(body_step), scene(len(where), **kwargs)
    )[0]


def test_a_push_is_the_overlap_that_the_parents_step_makes_along_the_line_of_centres() -> None:
    where = state((0.5, 0.0), (0.56, 0.0))
    # After a step of 10 mm the body is 50 mm away, 10 mm inside the radius.
    np.testing.assert_allclose(phi(Term(TermKind.PUSH, 1, 0, 0.06), where, body_step=(0.01, 0.0)), [0.01, 0, 0])


def test_a_push_is_no_deeper_than_the_approach_when_the_radius_is_too_large() -> None:
    where = state((0.5, 0.0), (0.56, 0.0))
    np.testing.assert_allclose(phi(Term(TermKind.PUSH, 1, 0, 0.08), where, body_step=(0.01, 0.0)), [0.01, 0, 0])


def test_things_at_rest_in_contact_do_not_push_each_other() -> None:
    where = state((0.4, 0.0), (0.50, 0.0), (0.55, 0.0))
    assert not phi(Term(TermKind.PUSH, 2, 1, 0.06), where).any()


def test_the_body_is_pushed_back_by_what_stands_in_the_way_of_its_command() -> None:
    where = state((0.5, 0.0), (0.56, 0.0))
    pushed = phi(Term(TermKind.PUSH, 0, 1, 0.06), where, action=(0.1, 0.0), body_step=(0.0, 0.0))
    np.testing.assert_allclose(pushed, [-0.01, 0, 0], atol=1e-12)


def test_drag_is_the_part_of_the_step_across_the_line_of_centres() -> None:
    where = state((0.5, 0.0), (0.54, 0.0))
    got = phi(Term(TermKind.DRAG, 1, 0, 0.066), where, body_step=(0.0, 0.01))
    normal = np.array([0.04, -0.01]) / np.hypot(0.04, 0.01)
    step = np.array([0.0, 0.01])
    np.testing.assert_allclose(got[:2], step - step @ normal * normal)


@pytest.mark.parametrize(("distance", "expected"), [(0.10, -0.042), (0.20, 0.042), (0.155, 0.0)])
def test_a_spring_pulls_to_its_rest_length_beyond_its_dead_zone(distance: float, expected: float) -> None:
    where = state((0.4, 0.2), (0.5, 0.0), (0.5 + distance, 0.0))
    rest = 0.15
    assert phi(Term(TermKind.SPRING, 2, 1, rest), where)[0] == pytest.approx(-expected)
    assert abs(expected) == pytest.approx(max(0.0, abs(distance - rest) - DEAD_ZONE))


def test_a_thing_at_the_rim_cannot_be_pushed_off_the_table_but_along_it() -> None:
    at_rim = 0.82 - 0.95 * 0.03
    where = state((at_rim - 0.05, 0.0), (at_rim, 0.0))
    assert not phi(Term(TermKind.PUSH, 1, 0, 0.06), where, body_step=(0.01, 0.0)).any()
    where = state((at_rim, -0.05), (at_rim, 0.0))
    assert phi(Term(TermKind.PUSH, 1, 0, 0.06), where, body_step=(0.0, 0.01))[1] == pytest.approx(0.01)


def test_a_thing_pinned_at_the_rim_blocks_the_body_and_a_free_one_does_not() -> None:
    wall = Term(TermKind.WALL, 0)
    at_rim = 0.82 - 0.95 * 0.03
    pinned = phi(wall, state((at_rim - 0.06, 0.0), (at_rim, 0.0)), action=(0.1, 0.0))
    np.testing.assert_allclose(pinned, [-0.01, 0, 0], atol=1e-12)
    assert not phi(wall, state((0.50, 0.0), (0.56, 0.0)), action=(0.1, 0.0)).any()


def test_action_drift_and_inertia_are_steps_in_metres() -> None:
    where = state((0.5, 0.0), (0.6, 0.1, 0.2, -0.1))
    np.testing.assert_allclose(phi(Term(TermKind.ACTION, 0, ACTION_PARENT), where, action=(0.1, 0.2)), [0.01, 0.02, 0])
    np.testing.assert_allclose(phi(Term(TermKind.INERTIA, 1, NO_PARENT), where), [0.02, -0.01, 0])
    np.testing.assert_allclose(phi(Term(TermKind.DRIFT_Y, 1), where), [0, 0.01, 0])


def test_brightness_terms_follow_the_contact_of_the_button_with_anything() -> None:
    # Slot 1 is the button, slot 2 the lamp far away; the body arrives at the button in this step.
    where = state((0.5, 0.0), (0.58, 0.0), (0.7, 0.2, 0, 0, 0.25))
    lit = phi(Term(TermKind.LIT_BY, 2, 1), where, body_step=(0.03, 0.0))
    assert lit[2] == pytest.approx(1.0 - 0.25)
    assert phi(Term(TermKind.TOGGLE_BY, 2, 1), where, body_step=(0.03, 0.0))[2] == pytest.approx(1.0 * 0.5)
    assert phi(Term(TermKind.TOUCH, 2, 0), where, body_step=(0.03, 0.0))[2] == pytest.approx(-0.25)
    assert phi(Term(TermKind.DECAY, 2), where)[2] == pytest.approx(-0.25)
    assert phi(Term(TermKind.GLOW, 2), where)[2] == 1.0


def test_contact_fades_from_one_to_one_and_a_quarter_times_the_reach() -> None:
    lamp = (0.7, 0.2)
    for distance, expected in ((0.06, 1.0), (0.0675, 0.5), (0.075, 0.0)):
        where = state((0.5, 0.0), (0.5 + distance, 0.0), lamp)
        assert phi(Term(TermKind.LIT_BY, 2, 1), where)[2] == pytest.approx(expected)


def test_terms_of_absent_slots_are_zero() -> None:
    where = state((0.5, 0.0), (0.55, 0.0), (0.56, 0.0))
    term = Term(TermKind.PUSH, 1, 2, 0.1)
    assert not phi(term, where, exists=[True, True, False]).any()


def test_coincident_slots_give_finite_features() -> None:
    where = state((0.5, 0.0), (0.5, 0.0))
    for kind in (TermKind.PUSH, TermKind.DRAG, TermKind.SPRING, TermKind.TOUCH):
        assert np.isfinite(phi(Term(kind, 1, 0, 0.05), where, body_step=(0.01, 0.0))).all()


def test_the_body_moves_first_and_the_others_from_its_predicted_step() -> None:
    terms = [Term(TermKind.ACTION, 0, ACTION_PARENT), Term(TermKind.PUSH, 1, 0, 0.06)]
    where = state((0.5, 0.0), (0.56, 0.0))
    delta, _ = advance(TermTable.of(terms), np.array([0.5, 1.0]), where, np.array([0.1, 0.0]), scene(2))
    np.testing.assert_allclose(delta[:, 0], [0.005, 0.005])


def test_the_contact_regime_is_near_something_or_in_motion() -> None:
    where = state((0.4, 0.0), (0.6, 0.0), (0.667, 0.0), (0.5, 0.2, 0.05, 0.0), (0.5, -0.2))
    assert in_contact(where, scene(5)).tolist() == [False, True, True, True, False]


def test_a_term_can_be_said_in_words() -> None:
    names = ["body", "slot_3", "slot_7"]
    assert describe(Term(TermKind.PUSH, 1, 2, 0.057), names) == "push(slot_7, r=0.057)"
    assert describe(Term(TermKind.ACTION, 0, ACTION_PARENT), names) == "action(action)"
    assert describe(Term(TermKind.INERTIA, 1), names) == "inertia"


def test_only_what_is_approached_or_moves_has_the_noise_of_contact() -> None:
    where = np.zeros((5, 5))
    where[:, :2] = [[0.50, 0.0], [0.545, 0.0], [0.60, 0.0], [0.70, 0.2], [0.50, -0.2]]
    where[3, 2] = 0.1  # moves by itself
    at_rest = disturbed(where, np.zeros(2), scene(5))
    assert at_rest.tolist() == [False, False, False, True, False]
    pushed = disturbed(where, np.array([0.01, 0.0]), scene(5))
    assert pushed.tolist() == [True, True, True, True, False]  # the third stands behind the second
    retreating = disturbed(where, np.array([-0.01, 0.0]), scene(5))
    assert retreating.tolist() == [False, False, False, True, False]


def test_what_is_met_within_the_step_has_the_noise_of_contact() -> None:
    """A fast tip is on a thing before it was ever seen beside it."""
    where = np.zeros((2, 5))
    where[:, :2] = [[0.50, 0.0], [0.58, 0.0]]
    assert disturbed(where, np.array([0.025, 0.0]), scene(2)).tolist() == [True, True]
    assert disturbed(where, np.array([0.002, 0.0]), scene(2)).tolist() == [False, False]


def test_what_slides_along_a_thing_disturbs_it_and_what_leaves_it_does_not() -> None:
    where = np.zeros((2, 5))
    where[:, :2] = [[0.50, 0.0], [0.545, 0.0]]
    assert disturbed(where, np.array([0.0, 0.02]), scene(2)).tolist() == [True, True]
    assert disturbed(where, np.array([-0.02, 0.01]), scene(2)).tolist() == [False, False]


def test_what_is_pushed_disturbs_what_stands_behind_it_in_the_same_step() -> None:
    where = np.zeros((4, 5))
    where[:, :2] = [[0.50, 0.0], [0.545, 0.0], [0.60, 0.0], [0.655, 0.0]]
    assert disturbed(where, np.array([0.02, 0.0]), scene(4)).tolist() == [True, True, True, True]
    where[3, 1] = 0.06  # beside the row
    assert disturbed(where, np.array([0.02, 0.0]), scene(4)).tolist() == [True, True, True, False]

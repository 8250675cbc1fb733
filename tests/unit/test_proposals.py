"""Experiments: behind things, around others, inside the workspace, in words."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.curiosity.needs import Need, binary_entropy, edge_needs
from crl_node.curiosity.proposals import (
    Experiment,
    Table,
    experiments,
    push_experiments,
    push_legs,
    shadowed,
    side_name,
    touch_legs,
    ways,
)
from crl_node.curiosity.routes import Leg, velocities
from crl_node.curiosity.scene import Scene, SceneError, scene_from
from crl_node.data import MAX_SLOTS, NO_PARENT, TermKind
from tests.support.plan_inputs import belief_of, empty_posterior, random_posterior, with_term

TABLE = Table(box=np.array([0.40, 0.80, -0.28, 0.28]))
REACH = 0.03 + TABLE.tool_radius


def scene_of(*positions: tuple[float, float], visible: list[float] | None = None) -> Scene:
    """Tip first, then things of radius 3 cm."""
    return scene_from(belief_of(np.array(positions), visible=None if visible is None else np.array(visible)), None)


def points(scene: Scene, legs: list[Leg]) -> np.ndarray:
    return np.array([scene.tip, *(leg.to for leg in legs)])


def closest(way: np.ndarray, centre: np.ndarray) -> float:
    """Smallest distance of a polyline [Q, 2] to a point, sampled finely."""
    samples = [a + (b - a) * t for a, b in zip(way, way[1:], strict=False) for t in np.linspace(0, 1, 200)]
    return float(np.linalg.norm(np.array(samples) - centre, axis=1).min())


@pytest.mark.parametrize("angle", np.arange(8) * np.pi / 4)
def test_push_goes_behind_the_thing_first_and_then_through_it(angle: float) -> None:
    scene = scene_of((0.45, 0.0), (0.6, 0.0))
    direction = np.array([np.cos(angle), np.sin(angle)])
    legs = push_legs(scene, TABLE, ways(scene, TABLE), 1, direction)
    assert legs is not None
    behind, end = legs[-2].to, legs[-1].to
    assert float((behind - scene.position[1]) @ direction) < -REACH
    assert float((end - behind) @ direction) == pytest.approx(np.linalg.norm(end - behind))
    # It carries the thing 8 cm: the end is that much further than first contact.
    assert float((end - scene.position[1]) @ direction) == pytest.approx(0.08 - REACH)
    # On its way behind the thing the tip does not touch it.
    assert closest(points(scene, legs)[:-1], scene.position[1]) > REACH


def test_the_way_behind_leads_around_other_things() -> None:
    scene = scene_of((0.42, 0.0), (0.70, 0.0), (0.55, 0.0))
    legs = push_legs(scene, TABLE, ways(scene, TABLE), 1, np.array([1.0, 0.0]))
    assert legs is not None
    assert len(legs) > 2
    assert closest(points(scene, legs)[:-1], scene.position[2]) > REACH
    way = points(scene, legs)
    assert (way >= TABLE.box[0::2] - 1e-9).all() and (way <= TABLE.box[1::2] + 1e-9).all()


def test_a_tip_that_touches_a_thing_can_still_get_away_from_it() -> None:
    scene = scene_of((0.56, 0.0), (0.6, 0.0))
    legs = push_legs(scene, TABLE, ways(scene, TABLE), 1, np.array([-1.0, 0.0]))
    assert legs is not None
    assert legs[-2].to[0] > 0.6 + REACH


def test_what_cannot_be_got_behind_inside_the_workspace_is_left_out() -> None:
    scene = scene_of((0.5, 0.0), (0.79, 0.0))
    assert push_legs(scene, TABLE, ways(scene, TABLE), 1, np.array([-1.0, 0.0])) is None
    assert push_legs(scene, TABLE, ways(scene, TABLE), 1, np.array([1.0, 0.0])) is None  # no room ahead
    assert push_legs(scene, TABLE, ways(scene, TABLE), 1, np.array([0.0, 1.0])) is not None


def test_a_thing_between_neighbours_is_pushed_where_there_is_a_gap() -> None:
    scene = scene_of((0.42, 0.2), (0.6, 0.0), (0.6, 0.075), (0.6, -0.075))
    roads = ways(scene, TABLE)
    assert "push slot_1 from the near side" in {e.label for e in push_experiments(scene, TABLE, roads, 1, 1.0)}
    for across in (1.0, -1.0):
        assert push_legs(scene, TABLE, roads, 1, np.array([0.0, across])) is None


def test_pushes_with_room_ahead_come_before_pushes_against_the_rim() -> None:
    scene = scene_of((0.6, 0.0), (0.6, 0.2))
    first = push_experiments(scene, TABLE, ways(scene, TABLE), 1, 1.0)[0]
    assert first.legs[-1].to[1] < 0.22


def test_sides_are_named_as_the_robot_sees_them() -> None:
    assert side_name(np.array([0.0, -1.0])) == "left"
    assert side_name(np.array([0.0, 1.0])) == "right"
    assert side_name(np.array([1.0, 0.0])) == "near side"
    assert side_name(np.array([-1.0, 0.0])) == "far side"


def test_touching_ends_in_contact_stays_half_a_second_and_goes_back() -> None:
    scene = scene_of((0.45, 0.0), (0.6, 0.0))
    legs = touch_legs(scene, TABLE, ways(scene, TABLE), 1)
    assert legs is not None
    assert legs[-2].stay == 0.5
    assert np.linalg.norm(legs[-2].to - scene.position[1]) < REACH
    assert np.linalg.norm(legs[-1].to - scene.position[1]) > REACH


def labels_for(scene: Scene, need: Need) -> list[str]:
    return [experiment.label for experiment in experiments(scene, TABLE, [need], 32)]


def test_each_kind_of_uncertain_edge_gets_the_experiment_that_decides_it() -> None:
    scene = scene_of((0.45, 0.0), (0.6, -0.1), (0.6, 0.12))
    assert "bring slot_2 into slot_1" in labels_for(scene, Need(TermKind.PUSH, 1, 2, 1.0))
    spring = labels_for(scene, Need(TermKind.SPRING, 1, 2, 1.0))
    assert "push slot_2 away from slot_1" in spring and "push slot_1 away from slot_2" in spring
    assert "touch slot_2" in labels_for(scene, Need(TermKind.LIT_BY, 1, 2, 1.0))
    assert "touch slot_1" in labels_for(scene, Need(TermKind.TOUCH, 1, 0, 1.0))
    assert any(label.startswith("push slot_1") for label in labels_for(scene, Need(TermKind.PUSH, 1, 0, 1.0)))
    assert any(label.startswith("push slot_2") for label in labels_for(scene, Need(TermKind.PUSH, 0, 2, 1.0)))


def test_bringing_one_thing_into_another_pushes_it_on_the_line_between_them() -> None:
    scene = scene_of((0.45, 0.0), (0.6, -0.1), (0.6, 0.12))
    found = {e.label: e for e in experiments(scene, TABLE, [Need(TermKind.PUSH, 1, 2, 1.0)], 32)}
    push = found["bring slot_2 into slot_1"].legs
    along = (push[-1].to - push[-2].to) / np.linalg.norm(push[-1].to - push[-2].to)
    np.testing.assert_allclose(along, [0.0, -1.0], atol=1e-6)
    # It goes on for 5 cm after the two meet.
    assert push[-1].to[1] == pytest.approx(-0.1 + 0.06 - 0.05 + REACH)


def test_a_thing_never_seen_by_the_model_is_pushed_first_and_every_thing_gets_a_push() -> None:
    posterior = empty_posterior(slots=3)
    belief = belief_of(np.array([[0.45, 0.0], [0.55, 0.15], [0.55, -0.15], [0.70, 0.0]]), ids=np.array([0, 1, 2, 9]))
    scene = scene_from(belief, posterior)
    found = experiments(scene, TABLE, edge_needs(posterior), 32)
    assert found[0].label.startswith("push slot_9")
    pushed = {e.label.split()[1] for e in found if e.label.startswith("push")}
    assert pushed == {"slot_1", "slot_2", "slot_9"}


def test_a_hidden_thing_is_looked_for_from_where_the_arm_does_not_hide_it() -> None:
    scene = scene_of((0.62, 0.0), (0.55, 0.0), (0.7, 0.2), visible=[1.0, 0.0, 1.0])
    assert shadowed(scene, TABLE, scene.tip, 1)
    looks = [e for e in experiments(scene, TABLE, [], 32) if e.label == "look for slot_1"]
    assert len(looks) == 2
    for look in looks:
        assert not shadowed(scene, TABLE, look.legs[-1].to, 1)


def test_never_more_experiments_than_asked_for_and_no_two_alike() -> None:
    scene = scene_of((0.45, 0.0), *((0.5 + 0.1 * (k % 3), -0.2 + 0.1 * (k // 3)) for k in range(9)))
    posterior = random_posterior(0, slots=10)
    found: list[Experiment] = experiments(scene, TABLE, edge_needs(posterior), 32)
    assert 0 < len(found) <= 32
    assert len({(e.label, round(e.way, 4)) for e in found}) == len(found)


def test_velocities_follow_the_legs_at_their_speeds_and_end_at_rest() -> None:
    start = np.array([0.5, 0.0])
    corners = [np.array(p) for p in ((0.6, 0.0), (0.6, 0.05), (0.5, 0.05))]
    legs = [Leg(corners[0], 0.25), Leg(corners[1], 0.1, stay=0.3), Leg(corners[2], 0.25)]
    out = velocities(start, legs, 30, 0.1)
    way = start + np.cumsum(out, axis=0) * 0.1
    np.testing.assert_allclose(way[3], [0.6, 0.0], atol=1e-6)
    np.testing.assert_allclose(way[8], [0.6, 0.05], atol=1e-6)
    np.testing.assert_allclose(way[11], [0.6, 0.05], atol=1e-6)
    np.testing.assert_allclose(way[-1], [0.5, 0.05], atol=1e-6)
    assert np.abs(out[16:]).max() < 1e-6
    assert np.linalg.norm(out, axis=1).max() <= 0.25 + 1e-6


def test_a_route_longer_than_the_horizon_is_cut_not_hurried() -> None:
    out = velocities(np.zeros(2), [Leg(np.array([10.0, 0.0]), 0.2)], 5, 0.1)
    np.testing.assert_allclose(out, np.tile([0.2, 0.0], (5, 1)), atol=1e-6)


def test_entropy_is_zero_at_certainty_and_log_two_at_a_half() -> None:
    np.testing.assert_allclose(binary_entropy(np.array([0.0, 0.5, 1.0])), [0.0, np.log(2), 0.0], atol=1e-10)


def test_undecided_edges_come_before_known_ones_and_certain_ones_do_not_come_at_all() -> None:
    posterior = with_term(empty_posterior(), 5, TermKind.PUSH, 1, 0, 0.05, np.full(16, 0.8))
    assert edge_needs(posterior) == []
    half = np.where(np.arange(16) < 8, 1.0, 0.0)
    posterior = with_term(posterior, 6, TermKind.PUSH, 2, 1, 0.05, half, between=True)
    posterior = with_term(posterior, 7, TermKind.PUSH, 2, 0, 0.05, 0.8 + 0.02 * np.linspace(-1, 1, 16))
    needs = edge_needs(posterior)
    assert [(need.target, need.parent) for need in needs] == [(2, 1), (2, 0)]
    assert needs[0].nats > np.log(2)


def test_belief_rows_are_sorted_into_the_models_rows_by_identity() -> None:
    posterior = empty_posterior(slots=4)
    ids = np.array(posterior.slot_ids)
    ids[1:4] = (7, 5, 6)
    posterior = type(posterior)(**{**posterior.__dict__, "slot_ids": ids})
    belief = belief_of(np.array([[0.5, 0.0], [0.6, 0.1], [0.7, 0.2]]), ids=np.array([0, 5, 8]))
    scene = scene_from(belief, posterior)
    assert scene.ids[:5].tolist() == [0, 7, 5, 6, 8]
    assert scene.exists[:5].tolist() == [True, False, True, False, True]
    assert scene.known[:5].tolist() == [True, False, True, False, False]
    np.testing.assert_allclose(scene.position[2], [0.6, 0.1])
    assert scene.name(4) == "slot_8" and scene.name(0) == "body"


def test_more_slots_than_there_are_rows_are_left_out_not_an_error() -> None:
    belief = belief_of(np.random.default_rng(0).uniform(0.4, 0.8, (20, 2)))
    assert scene_from(belief, None).exists.sum() == MAX_SLOTS


def test_a_belief_with_nan_or_without_a_body_is_refused_in_words() -> None:
    good = belief_of(np.array([[0.5, 0.0], [0.6, 0.1]]))
    mean = good.mean.copy()
    mean[1, 0] = np.nan
    with pytest.raises(SceneError, match="'mean' holds 1 non-finite values; not planning"):
        scene_from(type(good)(**{**good.__dict__, "mean": mean}), None)
    with pytest.raises(SceneError, match=r"none with id 0 \(the body\)"):
        scene_from(type(good)(**{**good.__dict__, "ids": np.array([3, 4])}), None)


def test_things_that_hardly_exist_are_no_obstacles_and_no_targets() -> None:
    good = belief_of(np.array([[0.5, 0.0], [0.6, 0.1]]))
    faint = type(good)(**{**good.__dict__, "existence": np.array([1.0, 0.3])})
    assert scene_from(faint, None).things.tolist() == []
    assert experiments(scene_from(faint, None), TABLE, [], 32) == []


def test_parents_and_targets_that_are_not_in_the_belief_get_no_experiment() -> None:
    scene = scene_of((0.45, 0.0), (0.6, 0.0))
    for need in (Need(TermKind.PUSH, 5, 1, 2.0), Need(TermKind.LIT_BY, 1, 7, 2.0)):
        assert all("slot_1 " in f"{label} " for label in labels_for(scene, need))
    assert NO_PARENT < 0

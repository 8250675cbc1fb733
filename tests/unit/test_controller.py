"""The controller follows trajectories as ros2_control's joint_trajectory_controller does."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.simulator.controller import TrajectoryController, TrajectoryRejectedError

NAMES = ("a", "b")


def controller() -> TrajectoryController:
    return TrajectoryController(NAMES, np.array([1.0, 2.0]))


def send(
    target: TrajectoryController, times: list[float], positions: list[list[float]], **given: object
) -> None:
    options: dict = {"joint_names": NAMES, "velocities": None, "start": 0.0, "now": 0.0} | given
    names = options.pop("joint_names")
    target.command(names, np.array(times), np.array(positions), options.pop("velocities"), **options)


def test_when_nothing_was_commanded_expect_it_holds_where_it_began() -> None:
    q, dq = controller().reference(12.0)
    assert q.tolist() == [1.0, 2.0] and dq.tolist() == [0.0, 0.0]


def test_when_names_come_in_another_order_expect_each_joint_gets_its_own() -> None:
    target = controller()
    send(target, [1.0], [[20.0, 10.0]], joint_names=("b", "a"))
    assert target.reference(1.0)[0].tolist() == [10.0, 20.0]


def test_when_the_first_point_lies_ahead_expect_a_smooth_start_from_the_current_reference() -> None:
    target = controller()
    send(target, [1.0], [[3.0, 2.0]])
    q, dq = target.reference(0.5)
    assert q[0] == pytest.approx(2.0) and dq[0] == pytest.approx(
        3.0
    )  # the middle of a cubic at rest at both ends
    send(target, [0.5], [[3.0, 2.0]], start=0.5, now=0.5)
    np.testing.assert_allclose(target.reference(0.5), (q, dq))


def test_when_the_last_point_has_passed_expect_it_is_held_at_rest() -> None:
    target = controller()
    send(target, [0.1, 0.2], [[1.5, 2.0], [3.0, 4.0]], velocities=np.array([[1.0, 1.0], [5.0, 5.0]]))
    q, dq = target.reference(7.0)
    assert q.tolist() == [3.0, 4.0] and dq.tolist() == [0.0, 0.0]


def test_when_a_new_trajectory_arrives_expect_it_replaces_the_old() -> None:
    target = controller()
    send(target, [1.0], [[5.0, 5.0]])
    send(target, [1.0], [[-5.0, -5.0]], start=0.2, now=0.2)
    assert target.reference(1.2)[0].tolist() == [-5.0, -5.0]


def test_when_points_have_already_passed_expect_the_rest_is_followed() -> None:
    target = controller()
    send(target, [0.0, 1.0, 2.0], [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], start=0.0, now=1.0)
    assert target.reference(1.0)[0].tolist() == [1.0, 1.0] and target.reference(2.0)[0].tolist() == [2.0, 2.0]


def test_when_the_start_lies_ahead_expect_the_motion_begins_now_and_arrives_in_time() -> None:
    target = controller()
    send(target, [0.5], [[3.0, 2.0]], start=1.0, now=0.0)
    assert target.reference(1.5)[0].tolist() == [3.0, 2.0]
    assert 1.0 < target.reference(0.7)[0][0] < 3.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"joint_names": ("a",), "positions": [[1.0]]}, r"missing: b.*\[a\].*\[a, b\]"),
        ({"joint_names": ("a", "elbow")}, r"missing: b; unknown: elbow"),
        ({"joint_names": ("a", "b", "a"), "positions": [[1.0, 1.0, 1.0]]}, "given twice: a"),
        ({"positions": [[1.0, float("nan")]]}, "positions of point 0 are not finite"),
        ({"velocities": np.array([[1.0, np.inf]])}, "velocities of point 0 are not finite"),
        (
            {"times": [0.2, 0.2], "positions": [[1.0, 1.0]] * 2},
            "the time of point 1 is 0.2 s, not after the 0.2 s",
        ),
        ({"times": [float("nan")]}, "times are"),
        ({"times": [-0.1]}, "times are"),
        ({"times": [], "positions": np.zeros((0, 2))}, "no points"),
        ({"positions": [[1.0, 2.0], [1.0, 2.0]]}, r"shape \[2, 2\], wanted \[1, 2\]"),
        ({"start": -5.0}, "in the past"),
    ],
)
def test_when_a_trajectory_cannot_be_followed_expect_a_sentence_and_the_motion_in_progress_goes_on(
    change: dict, sentence: str
) -> None:
    target = controller()
    send(target, [1.0], [[3.0, 3.0]])
    given = {"times": [0.1], "positions": [[9.0, 9.0]]} | change
    with pytest.raises(TrajectoryRejectedError, match=sentence) as caught:
        send(target, given.pop("times"), given.pop("positions"), **given)
    assert "the motion in progress goes on" in str(caught.value)
    assert target.reference(1.0)[0].tolist() == [3.0, 3.0]


def test_when_told_to_hold_expect_it_stays_at_the_reference_of_that_moment() -> None:
    target = controller()
    send(target, [1.0], [[3.0, 2.0]])
    target.hold(0.5)
    q, dq = target.reference(3.0)
    assert q[0] == pytest.approx(2.0) and dq.tolist() == [0.0, 0.0]


def test_when_the_stamp_is_of_another_clock_expect_it_is_refused_and_the_motion_goes_on() -> None:
    target = controller()
    send(target, [1.0], [[5.0, 5.0]])
    with pytest.raises(TrajectoryRejectedError, match="another clock"):
        send(target, [0.1], [[1.0, 2.0]], velocities=np.array([[0.5, 0.5]]), start=13.7, now=0.4)
    assert target.reference(1.0)[0].tolist() == [5.0, 5.0]

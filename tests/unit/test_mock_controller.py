"""The mock's controllers refuse, stop and abort as the real ones do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.simulator.controller import TrajectoryRejectedError
from crl_node.simulator.mock_controller import MockController, MockOptions

PROFILE = load_profile("ur5e")
HOME = PROFILE.vector(PROFILE.home)
NAMES = PROFILE.joint_names


def controller(kind: str = "joint_trajectory", **options: float) -> MockController:
    profile = replace(PROFILE, controller=replace(PROFILE.controller, type=kind))
    return MockController(profile, HOME, MockOptions(**options))


def send(target: MockController, end: np.ndarray, seconds: float = 1.0, **given: object) -> None:
    values: dict = {"names": NAMES, "velocities": None, "start": 0.0, "now": 0.0, "times": [0.0, seconds]} | given
    points = values.pop("positions", np.stack([HOME, end]))
    target.trajectory(
        values["names"], np.array(values["times"]), points, values["velocities"],
        start=values["start"], now=values["now"],
    )  # fmt: skip


def test_names_in_any_order_reach_their_own_joints() -> None:
    target = controller()
    end = HOME + np.linspace(0.01, 0.06, 6)
    turned = tuple(reversed(NAMES))
    send(target, end, names=turned, positions=np.stack([HOME, end])[:, ::-1])
    np.testing.assert_allclose(target.reference(2.0)[0], end)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"names": (*NAMES[:5], "elbow")}, "missing: wrist_3_joint; unknown: elbow"),
        ({"times": [0.5, 0.5]}, "not after the 0.5 s before it"),
        ({"positions": np.full((2, 6), np.nan)}, "positions of point 0 are not finite"),
        ({"positions": np.stack([HOME, HOME + 9.0])}, "' would leave the URDF's limits"),
        ({"velocities": np.stack([np.full(6, 9.0), np.zeros(6)])}, "times too fast"),
        ({"velocities": np.full((2, 6), 0.1)}, "its last point moves at 0.1000 rad/s"),
        ({"now": 5.0}, "all of it is in the past"),
    ],
)  # fmt: skip
def test_a_wrong_trajectory_is_refused_with_its_reason_and_the_motion_goes_on(given: dict, sentence: str) -> None:
    target = controller()
    send(target, HOME + 0.1, seconds=9.0)
    with pytest.raises(TrajectoryRejectedError, match=sentence):
        send(target, HOME, **given)
    assert sum(target.problems.values()) == 1
    np.testing.assert_allclose(target.reference(9.0)[0], HOME + 0.1)


def test_a_stop_that_comes_late_is_obeyed_when_its_last_point_lasts() -> None:
    """Refused, the motion before it would go on, and whoever sent the stop would take the arm to be where it is not."""
    times, points = np.array([0.0, 0.05]), np.stack([HOME, HOME + 0.01])
    stop = JointTrajectory(NAMES, times, points, np.zeros_like(points))
    for trajectory, stopped in ((stop, False), (stop.lasting(1.0), True)):
        target = controller()
        send(target, HOME + 0.1, seconds=0.5)
        given = {"times": trajectory.times, "positions": trajectory.positions, "velocities": trajectory.velocities}
        if stopped:
            send(target, HOME, now=0.1, **given)
        else:
            with pytest.raises(TrajectoryRejectedError, match="all of it is in the past"):
                send(target, HOME, now=0.1, **given)
        np.testing.assert_allclose(target.reference(2.0)[0], HOME + (0.01 if stopped else 0.1))


def test_a_delayed_command_acts_later() -> None:
    target = controller(delay=0.2)
    send(target, HOME + 0.1, seconds=0.3)
    np.testing.assert_allclose(target.reference(0.19)[0], HOME)
    np.testing.assert_allclose(target.reference(0.6)[0], HOME + 0.1)


def test_a_joint_that_does_not_follow_its_path_aborts_the_motion_and_holds_where_it_is() -> None:
    target = controller(path_tolerance=0.05)
    send(target, HOME + 0.6)
    assert target.watch(0.01, HOME) == ""
    assert "rad from its path" in target.watch(0.8, HOME)
    np.testing.assert_allclose(target.reference(2.0)[0], HOME)
    assert target.problems["aborted_path"] == 1


def test_a_goal_that_is_not_reached_in_time_aborts() -> None:
    target = controller(path_tolerance=0.0, goal_tolerance=0.02, goal_time=0.5)
    send(target, HOME + 0.1)
    assert target.watch(1.2, HOME) == ""
    assert "rad from its goal" in target.watch(1.6, HOME)


def test_a_goal_that_is_reached_is_no_abort() -> None:
    target = controller(goal_tolerance=0.02)
    send(target, HOME + 0.1)
    assert target.watch(1.2, HOME + 0.1) == target.watch(9.0, HOME) == ""


def test_velocities_move_the_joints_until_nobody_speaks() -> None:
    target = controller("forward_velocity", timeout=0.1)
    target.velocities([0.5] * 6, ",".join(NAMES), 0.0)
    for k in range(240):
        q, dq = target.reference(k / 240)
        if k == 6:
            target.largest_acceleration = 0.0  # the beginning was a jump
    assert not dq.any()
    braking = 0.5 * 0.5**2 / PROFILE.limits.acceleration
    assert (q - HOME > 0.04 + braking).all() and (q - HOME < 0.06 + braking).all()
    assert target.silences == 1
    assert target.largest_acceleration <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("values", "label", "sentence"),
    [
        ([0.1] * 5, "", "5 velocities for 6 joints"),
        ([0.1] * 6, ",".join(reversed(NAMES)), "the controller has shoulder_pan_joint"),
        ([float("nan")] * 6, "", "not finite"),
        ([4.0] * 6, "", "times too fast"),
    ],
)
def test_wrong_velocities_are_refused(values: list[float], label: str, sentence: str) -> None:
    with pytest.raises(TrajectoryRejectedError, match=sentence):
        controller("forward_velocity").velocities(values, label, 0.0)


def test_a_twist_moves_the_tip_as_it_says() -> None:
    target = controller("servo_twist", timeout=0.5)
    arm = Arm(PROFILE)
    target.twist(np.array([0.05, -0.02, 0.0, 0.0, 0.0, 0.0]), PROFILE.base_frame, 0.0)
    for k in range(49):
        q, _ = target.reference(k / 240)
    moved = arm.tip_at(q) - arm.tip_at(HOME)
    np.testing.assert_allclose(moved, [0.01, -0.004, 0.0], atol=1e-3)


def test_a_twist_in_a_strange_frame_or_for_another_controller_is_refused() -> None:
    with pytest.raises(TrajectoryRejectedError, match="its frame is 'tool0', wanted 'base_link'"):
        controller("servo_twist").twist(np.zeros(6), "tool0", 0.0)
    with pytest.raises(TrajectoryRejectedError, match="this arm has a joint_trajectory controller"):
        controller().velocities([0.0] * 6, "", 0.0)


def test_the_acceleration_of_what_is_followed_is_kept_and_a_jump_is_seen_in_it() -> None:
    """A quarter of the limit for 0.1 s; then a trajectory that begins 4 mrad further on, at the same velocity."""
    target, limit = controller(), float(PROFILE.limits.acceleration[0])
    first = np.eye(len(NAMES))[0]
    speed = 0.25 * limit * 0.1

    def positions(*values: float) -> np.ndarray:
        return HOME + np.outer(values, first)

    ends = (0.5 * 0.1 * speed, 0.5 * 0.1 * speed + 0.2 * speed, 0.5 * 0.1 * speed + 0.2 * speed + 0.05 * speed)
    rates = np.outer([0.0, speed, speed, 0.0], first)
    send(target, HOME, times=[0.0, 0.1, 0.3, 0.4], positions=positions(0.0, *ends), velocities=rates)
    for step in range(25):
        target.watch(step / 120, HOME)
    assert target.largest_acceleration == pytest.approx(0.25, abs=0.01)
    there = target.reference(0.21)[0][0] - HOME[0] + 0.004
    send(target, HOME, times=[0.0, 0.1, 0.2], positions=positions(there, there + 0.1 * speed, there + 0.15 * speed),
         velocities=rates[1:], start=0.21, now=0.21)  # fmt: skip
    for step in range(26, 36):
        target.watch(step / 120, HOME)
    assert target.largest_acceleration == pytest.approx(2 * 0.004 / 0.025**2 / limit, rel=0.05)

"""Velocity and twist streams: finite, within limits, and zero whenever the arm is not meant to move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crl_node.arm.checks import JointState
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import Box, load_profile
from crl_node.arm.stream import Stream
from crl_node.arm.trajectory import JointTrajectory

SHIPPED = load_profile("ur5e")
#: All the room there is: the workspace has a test of its own.
PROFILE = replace(SHIPPED, workspace=Box((-3.0, 3.0), (-3.0, 3.0), (-3.0, 3.0)))
ARM = Arm(PROFILE)
HOME = PROFILE.vector(PROFILE.home)
J = len(HOME)
PERIOD = 1 / PROFILE.controller.rate


def state(q: np.ndarray = HOME, stamp: float = 0.0) -> JointState:
    return JointState(stamp, np.asarray(q, float), np.zeros(J))


def moving(speed: float, seconds: float = 10.0, start: np.ndarray = HOME) -> JointTrajectory:
    """All joints at `speed` rad/s (longer than the gate lets through, to see what the stream does by itself)."""
    end = start + speed * seconds
    times = np.array([0.0, seconds])
    return JointTrajectory(PROFILE.joint_names, times, np.stack([start, end]), np.full((2, J), speed))


def run(stream: Stream, seconds: float, begin: float = 0.0, q: np.ndarray = HOME, **given: object) -> np.ndarray:
    """[ticks, J] rad/s that are sent to joints that follow exactly."""
    q, sent = np.array(q, float), []
    for k in range(round(seconds / PERIOD)):
        now = begin + k * PERIOD
        sent.append(stream.velocity(now, state(q, now), **given))  # type: ignore[arg-type]
        q = q + sent[-1] * PERIOD
    return np.array(sent)


def test_an_accepted_motion_is_followed_with_the_accelerations_of_the_profile() -> None:
    stream = Stream(PROFILE, ARM)
    stream.follow(moving(0.5), 0.0, 0.0, hold=False)
    sent = run(stream, 0.2)
    assert np.abs(sent[-1] - 0.5).max() < 0.1
    assert (np.abs(np.diff(sent, axis=0, prepend=0.0)) <= PROFILE.limits.acceleration * PERIOD * (1 + 1e-9)).all()


def test_silence_longer_than_the_timeout_ends_in_exactly_zero() -> None:
    stream = Stream(PROFILE, ARM)
    stream.follow(moving(0.5), 0.0, 0.0, hold=False)
    sent = run(stream, PROFILE.controller.timeout + 0.3)
    assert np.abs(sent[round(0.2 / PERIOD)]).max() > 0.3
    assert not sent[-1].any()
    assert "no command for" in stream.zeroed and stream.at_rest


def test_a_hold_is_followed_but_is_no_command() -> None:
    stream = Stream(PROFILE, ARM)
    stream.follow(moving(0.5), 0.0, 0.0, hold=False)
    run(stream, 0.1)
    stream.follow(moving(0.5), 0.1, 0.1, hold=True)
    # Braking from 0.5 rad/s takes 0.05 s; counted from the hold the timeout would not be over yet.
    assert not run(stream, 0.23, 0.1)[-1].any()


@pytest.mark.parametrize(
    ("measured", "problem"), [(state(), "joint states are 0.3 s old"), (None, ""), (state(np.full(J, np.nan)), "")]
)
def test_unknown_joints_end_in_zero_and_never_in_nan(measured: JointState | None, problem: str) -> None:
    stream = Stream(PROFILE, ARM)
    stream.follow(moving(0.5), 0.0, 0.0, hold=False)
    run(stream, 0.1)
    for k in range(30):
        stream.follow(moving(0.5), 0.0, 0.1 + k * PERIOD, hold=False)  # commands do come
        sent = stream.velocity(0.1 + k * PERIOD, measured, problem)
        assert np.isfinite(sent).all()
    assert not sent.any()


def test_stop_ends_in_zero_within_the_accelerations_of_the_profile() -> None:
    stream = Stream(PROFILE, ARM)
    stream.follow(moving(0.8), 0.0, 0.0, hold=False)
    run(stream, 0.1)
    stream.stop()
    sent = run(stream, 0.2, 0.1)
    assert (np.abs(np.diff(sent, axis=0)) <= PROFILE.limits.acceleration * PERIOD * (1 + 1e-9)).all()
    assert not sent[-1].any()


def test_no_velocity_is_larger_than_the_limit_however_far_the_reference_is() -> None:
    stream = Stream(PROFILE, ARM)
    stream.follow(moving(0.0, start=HOME + 0.9), 0.0, 0.0, hold=False)
    for k in range(20):
        sent = stream.velocity(k * PERIOD, state(), "")
        assert (np.abs(sent) <= PROFILE.limits.velocity * (1 + 1e-9)).all()


def test_a_joint_brakes_before_its_limit_whatever_was_accepted() -> None:
    limits = PROFILE.limits
    start = HOME.copy()
    start[2] = limits.upper[2] - 0.15
    stream, q, speed = Stream(PROFILE, ARM), start.copy(), np.zeros(J)
    speed[2] = limits.velocity[2]
    times = np.array([0.0, 1.0])
    onwards = JointTrajectory(PROFILE.joint_names, times, np.stack([start, start + speed]), np.stack([speed, speed]))
    for k in range(40):
        now = k * PERIOD
        stream.follow(onwards, 0.0, now, hold=False)
        q = q + stream.velocity(now, state(q, now), "") * PERIOD
        assert q[2] <= limits.upper[2] + 1e-9
    assert q[2] > start[2] + 0.05  # it did move


def test_a_tip_outside_the_workspace_does_not_go_further_out() -> None:
    out = ARM.solve(np.array([0.5, SHIPPED.workspace.y[1] + 0.02, 0.05]), HOME, iterations=200)
    place = ARM.tip_at(out)
    outwards = ARM.joint_velocity(out, place, np.array([0.0, 0.1, 0.0]))
    for sign, stays in ((1.0, True), (-1.0, False)):
        stream = Stream(SHIPPED, ARM)
        points = np.stack([out, out + sign * outwards])
        stream.follow(
            JointTrajectory(PROFILE.joint_names, np.array([0.0, 1.0]), points, np.stack([sign * outwards] * 2)),
            0.0, 0.0, hold=False,
        )  # fmt: skip
        sent = [stream.velocity(k * PERIOD, state(out), "") for k in range(5)][-1]
        assert (not sent.any()) == stays


def test_a_twist_is_the_tips_velocity_in_the_base_frame() -> None:
    stream = Stream(PROFILE, ARM)
    speeds = np.array([0.1, -0.2, 0.15, 0.05, 0.1, -0.3])
    twist = stream.twist(speeds, state(), 0.0)
    step = 1e-6
    np.testing.assert_allclose(
        twist[:3], (ARM.tip_at(HOME + step * speeds) - ARM.tip_at(HOME - step * speeds)) / (2 * step), atol=1e-6
    )
    turn = ARM.tip_pose_at(HOME + step * speeds)[1] @ ARM.tip_pose_at(HOME - step * speeds)[1].T
    spin = np.array([turn[2, 1], turn[0, 2], turn[1, 0]]) / (2 * step)
    np.testing.assert_allclose(twist[3:], spin, atol=1e-5)
    assert not stream.twist(speeds, None, 0.0).any()


def test_a_clock_that_stands_still_ends_in_zero() -> None:
    """By it the last command stays new for ever; messages go out all the same."""
    stream = Stream(PROFILE, ARM)
    stream.follow(moving(0.5), 0.0, 0.0, hold=False)
    run(stream, 0.1)
    ticks = np.arange(0.1, PROFILE.controller.timeout + 0.3, PERIOD)
    sent = [stream.velocity(0.1, state(HOME, 0.1), tick=tick) for tick in ticks]
    assert sent[0].any() and not sent[-1].any()
    assert "no command for" in stream.zeroed


@pytest.mark.parametrize("left", [0.0, 0.2])
def test_after_a_silence_of_its_own_the_stream_goes_on_from_what_the_controller_has_left(left: float) -> None:
    stream = Stream(PROFILE, ARM)
    stream.follow(moving(0.5), 0.0, 0.0, hold=False)
    assert np.abs(run(stream, 0.1)[-1]).max() > 0.3
    late = 0.1 + 1.5 * PROFILE.controller.timeout
    stream.follow(moving(0.5), 0.0, late, hold=False)
    sent = stream.velocity(late, JointState(late, HOME, np.full(J, left)))
    assert (np.abs(sent - left) <= PROFILE.limits.acceleration * PERIOD).all()

"""JointTrajectory: the cubic pieces, their exact bounds, and refusal of shapes that fit nothing."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.arm.trajectory import JointTrajectory

NAMES = ("a", "b")


def make(times: list[float], positions: list[list[float]], velocities: list[list[float]]) -> JointTrajectory:
    return JointTrajectory(NAMES, np.array(times), np.array(positions), np.array(velocities))


def swing() -> JointTrajectory:
    return make([0.0, 0.1, 0.2], [[0, 1], [0.02, 1.1], [0.03, 1.0]], [[0.1, 0], [0.2, -0.5], [0, 0]])


def test_a_sample_at_a_point_is_the_point() -> None:
    trajectory = swing()
    for i in range(2):
        q, dq = trajectory.sample(trajectory.times[i])
        np.testing.assert_allclose(q, trajectory.positions[i])
        np.testing.assert_allclose(dq, trajectory.velocities[i])


def test_a_sample_between_points_is_the_cubic_with_those_ends() -> None:
    """q(t) = 2 - 3 t + 4 t^2 - 5 t^3 is reproduced from its ends."""
    poly = np.polynomial.Polynomial([2.0, -3.0, 4.0, -5.0])
    ends = [0.0, 0.3]
    trajectory = JointTrajectory(
        ("a",),
        np.array(ends),
        np.array([[poly(t)] for t in ends]),
        np.array([[poly.deriv()(t)] for t in ends]),
    )
    for time in (0.01, 0.1, 0.29):
        q, dq = trajectory.sample(time)
        assert q[0] == pytest.approx(poly(time), abs=1e-12)
        assert dq[0] == pytest.approx(poly.deriv()(time), abs=1e-12)


def test_before_the_start_and_after_the_end_it_rests() -> None:
    trajectory = swing()
    for time, point in ((-0.01, 0), (0.2, -1), (9.0, -1)):
        q, dq = trajectory.sample(time)
        np.testing.assert_array_equal(q, trajectory.positions[point])
        np.testing.assert_array_equal(dq, 0.0)


def test_what_is_left_after_a_time_is_the_same_motion() -> None:
    trajectory = swing()
    rest = trajectory.after(0.03)
    assert rest.times[0] == 0
    for time in (0.0, 0.02, 0.07, 0.1, 0.17):
        for one, other in zip(rest.sample(time), trajectory.sample(0.03 + time), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)


def test_a_stop_takes_constant_acceleration_and_ends_at_rest() -> None:
    stop = JointTrajectory.stopping(NAMES, np.array([0.0, 1.0]), np.array([0.5, -1.0]), 0.1)
    np.testing.assert_allclose(stop.max_acceleration(), [5.0, 10.0])
    np.testing.assert_allclose(stop.positions[-1], [0.025, 0.95])
    assert stop.ends_at_rest


def test_a_velocity_peak_between_points_is_found() -> None:
    """From rest to rest over 1 rad in 1 s the cubic is fastest in the middle: 1.5 rad/s, 6 rad/s^2 at its ends."""
    trajectory = JointTrajectory(("a",), np.array([0.0, 1.0]), np.array([[0.0], [1.0]]), np.zeros((2, 1)))
    assert trajectory.max_velocity()[0] == pytest.approx(1.5)
    assert trajectory.max_acceleration()[0] == pytest.approx(6.0)


def test_a_position_beyond_both_points_is_found() -> None:
    """Starting at 1 rad/s and returning, the joint overshoots to 4/27 rad."""
    trajectory = JointTrajectory(("a",), np.array([0.0, 1.0]), np.zeros((2, 1)), np.array([[1.0], [0.0]]))
    low, high = trajectory.position_range()
    assert high[0] == pytest.approx(4 / 27)
    assert low[0] == pytest.approx(0.0)


def test_joints_are_reordered_by_name() -> None:
    swapped = swing().reordered(("b", "a"))
    np.testing.assert_array_equal(swapped.positions, swing().positions[:, ::-1])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [(("a", "c"), "missing \\['c'\\], unknown \\['b'\\]"), (("a",), "names 2 joints, wanted 1")],
)
def test_other_joint_names_are_refused_by_name(names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        swing().reordered(names)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"velocities has shape \[1, 2\], wanted \[2, 2\]"):
        JointTrajectory(NAMES, np.array([0.0, 0.1]), np.zeros((2, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="no points"):
        JointTrajectory(NAMES, np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2)))


def test_nan_is_seen_wherever_it_is() -> None:
    assert swing().is_finite
    for field in ("times", "positions", "velocities"):
        parts = {f: getattr(swing(), f).copy() for f in ("times", "positions", "velocities")}
        parts[field][1] = np.nan
        assert not JointTrajectory(NAMES, **parts).is_finite


def test_it_keeps_its_own_copy_of_the_numbers() -> None:
    times = np.array([0.0, 0.1])
    trajectory = JointTrajectory(("a",), times, np.zeros((2, 1)), np.zeros((2, 1)))
    times[1] = 99.0
    assert trajectory.duration == 0.1


def test_a_trajectory_that_lasts_moves_as_before_and_rests_longer() -> None:
    positions = np.array([[0.0, 1.0], [0.1, 1.2], [0.15, 1.1]])
    velocities = np.array([[0.5, 0.0], [0.2, -0.1], [0.0, 0.0]])
    short = JointTrajectory(("a", "b"), np.array([0.0, 0.1, 0.2]), positions, velocities)
    long = short.lasting(1.0)
    assert long.duration == 1.0 and long.ends_at_rest
    times = np.linspace(0.0, 0.3, 31)
    for one, other in zip(short.sample_many(times), long.sample_many(times), strict=True):
        np.testing.assert_array_equal(one, other)
    assert short.lasting(0.2) is short

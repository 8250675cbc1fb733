"""The bounds of a trajectory are exact: never exceeded by a sample, and reached."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crl_node.arm.trajectory import JointTrajectory

NUMBERS = st.floats(-3, 3, allow_subnormal=False)


@st.composite
def trajectories(draw: st.DrawFn) -> JointTrajectory:
    points = draw(st.integers(2, 5))
    steps = draw(arrays(float, points - 1, elements=st.floats(0.01, 0.5)))
    positions = draw(arrays(float, (points, 2), elements=NUMBERS))
    velocities = draw(arrays(float, (points, 2), elements=NUMBERS))
    return JointTrajectory(("a", "b"), np.concatenate([[0.0], np.cumsum(steps)]), positions, velocities)


@given(trajectories())
def test_no_sample_exceeds_the_bounds_and_a_fine_grid_reaches_them(trajectory: JointTrajectory) -> None:
    # Just before the end: from the end on it rests, whatever the last velocity says.
    times = np.linspace(0.0, np.nextafter(trajectory.duration, 0.0), 2001)
    q, dq = trajectory.sample_many(times)
    low, high = trajectory.position_range()
    most = trajectory.max_velocity()
    assert (q >= low - 1e-9).all()
    assert (q <= high + 1e-9).all()
    assert (np.abs(dq) <= most + 1e-9).all()
    step = times[1] * trajectory.max_acceleration() + 1e-6
    assert (most - np.abs(dq).max(axis=0) <= step).all()
    assert (high - q.max(axis=0) <= most * times[1] + 1e-6).all()
    assert (q.min(axis=0) - low <= most * times[1] + 1e-6).all()


@given(trajectories())
def test_no_difference_of_velocities_exceeds_the_largest_acceleration(trajectory: JointTrajectory) -> None:
    times = np.linspace(0.0, np.nextafter(trajectory.duration, 0.0), 501)
    _, dq = trajectory.sample_many(times)
    rates = np.abs(np.diff(dq, axis=0)) / np.diff(times)[:, None]
    assert (rates <= trajectory.max_acceleration() + 1e-5).all()


@given(trajectories(), st.floats(0.0, 1.0))
def test_cutting_off_the_beginning_changes_nothing_later(trajectory: JointTrajectory, share: float) -> None:
    cut = share * trajectory.duration * 0.99
    rest = trajectory.after(cut)
    for time in np.linspace(0.0, trajectory.duration - cut, 7):
        np.testing.assert_allclose(rest.sample(time)[0], trajectory.sample(cut + time)[0], atol=1e-6)

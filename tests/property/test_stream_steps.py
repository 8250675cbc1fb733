"""What a stream asks of the joints, with ticks that come when a busy machine lets them: no jump in any 25 ms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crl_node.arm.checks import JointState
from crl_node.arm.felt import FELT
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import Box, load_profile
from crl_node.arm.stream import Stream
from crl_node.arm.trajectory import JointTrajectory

SHIPPED = load_profile("ur5e")
PROFILE = replace(SHIPPED, workspace=Box((-3.0, 3.0), (-3.0, 3.0), (-3.0, 3.0)))
ARM = Arm(PROFILE)
HOME = PROFILE.vector(PROFILE.home)
J = len(HOME)
#: Time from one tick to the next, in periods: even, bunched after a late one, late by many.
GAPS = st.one_of(st.just(1.0), st.floats(0.0, 2.0), st.floats(0.0, 0.1), st.floats(1.0, 12.0))
#: What happens at a tick: nothing, a new trajectory at a share of the velocity limits, a stop, joints not known.
EVENTS = st.one_of(st.none(), st.floats(-1.0, 1.0), st.sampled_from(["stop", "unknown", "near a limit"]))


def moving(speed: np.ndarray) -> JointTrajectory:
    points = np.stack([HOME, HOME + 10.0 * speed])
    return JointTrajectory(PROFILE.joint_names, np.array([0.0, 10.0]), points, np.stack([speed, speed]))


def streamed(
    rate: float, ticks: list[tuple[float, float, object]], bunched: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """When each message arrives [n] s and the velocities in it [n, J] rad/s.

    Delays are shares of a period, or of `bunched` s, which joint states then have told of.
    """
    profile = replace(PROFILE, controller=replace(PROFILE.controller, type="forward_velocity", rate=rate))
    stream, period = Stream(profile, ARM), 1.0 / rate
    now, arrivals, sent = 0.0, [0.0], [np.zeros(J)]
    longest = bunched or period
    for gap, delay, event in ticks:
        now += gap * period
        for age in (0.004, 0.004 + bunched):  # by clocks that differ, the difference counts
            stream.bunching.observe(now, age)
        position, problem = HOME, ""
        if isinstance(event, float):
            stream.follow(moving(event * profile.limits.velocity), now, now, hold=False)
        elif event == "stop":
            stream.stop()
        elif event == "unknown":
            problem = "joint states are old"
        elif event == "near a limit":
            position = profile.limits.upper - 1e-3
        arrivals.append(max(arrivals[-1], now + delay * longest))
        sent.append(stream.velocity(now, JointState(now, position, np.zeros(J)), problem))
    return np.array(arrivals), np.array(sent)


def largest_push(arrivals: np.ndarray, sent: np.ndarray) -> float:
    """Largest change of velocity over FELT, as a share of what the limits allow in it."""
    share = 0.0
    for first in range(1, len(sent)):
        last = int(np.searchsorted(arrivals, arrivals[first] + FELT, side="right"))
        change = np.abs(sent[first:last] - sent[first - 1])
        share = max(share, float((change / (PROFILE.limits.acceleration * FELT)).max()))
    return share


@settings(max_examples=150, deadline=None)
@given(
    rate=st.sampled_from([50.0, 100.0, 200.0, 250.0, 500.0]),
    ticks=st.lists(st.tuples(GAPS, st.floats(0.0, 1.0), EVENTS), min_size=5, max_size=60),
)
def test_in_no_25_ms_does_a_velocity_change_by_more_than_the_limit_allows(
    rate: float, ticks: list[tuple[float, float, object]]
) -> None:
    assert largest_push(*streamed(rate, ticks)) <= 1.0 + 1e-9


@settings(max_examples=100, deadline=None)
@given(
    rate=st.sampled_from([100.0, 200.0, 500.0]),
    bunched=st.sampled_from([0.012, 0.025, 0.05]),
    ticks=st.lists(st.tuples(GAPS, st.floats(0.0, 1.0), EVENTS), min_size=20, max_size=80),
)
def test_nor_where_messages_bunch_as_much_as_joint_states_do(
    rate: float, bunched: float, ticks: list[tuple[float, float, object]]
) -> None:
    assert largest_push(*streamed(rate, ticks, bunched)) <= 1.0 + 1e-9


@pytest.mark.parametrize("bunched", [0.005, 0.02])
def test_a_bunch_and_what_follows_it_at_once_come_near_the_limit(bunched: float) -> None:
    """The bound is no looser than it must be."""
    rate, count = 200.0, round(bunched * 200.0)
    bunch = [(1.0, 1.0 - k / count, None) for k in range(count)]  # all arrive with the last of them
    ticks: list[tuple[float, float, object]] = [(1.0, 0.0, 1.0), *bunch, *[(1.0, 0.0, None)] * 6]
    assert 0.9 < largest_push(*streamed(rate, ticks, bunched)) <= 1.0 + 1e-9


@pytest.mark.parametrize("rate", [50.0, 200.0])
def test_after_a_late_tick_the_velocity_changes_by_no_more_than_after_one_in_time(rate: float) -> None:
    even: list[tuple[float, float, object]] = [(1.0, 0.0, 1.0), *[(1.0, 0.0, None)] * 2]
    _, sent = streamed(rate, [*even, (10.0, 0.0, None)])
    steps = np.abs(np.diff(sent, axis=0))
    np.testing.assert_allclose(steps[-1], steps[-2], rtol=1e-9)
    assert (steps[-1] > 0).all()


@pytest.mark.parametrize("rate", [100.0, 200.0, 250.0])
def test_even_ticks_use_most_of_the_acceleration(rate: float) -> None:
    """So that a bound that is kept by hardly moving at all is not taken for a good one."""
    ticks: list[tuple[float, float, object]] = [(1.0, 0.0, 1.0), *[(1.0, 0.0, None)] * 30]
    assert largest_push(*streamed(rate, ticks)) > 0.5

"""A command that comes late is joined within limits, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.arm.checks import JointState, RejectionError
from crl_node.arm.commander import TipCommander
from crl_node.arm.joining import joined
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile

PROFILE = load_profile("ur5e")
ARM = Arm(PROFILE)
CENTRE = ARM.solve(np.array([0.5, 0.0, PROFILE.tip_height]), ARM.home, iterations=200)


def two_commands() -> tuple:
    """One command under way and its successor, which turns round."""
    commander = TipCommander(PROFILE, ARM)
    still = dict.fromkeys(PROFILE.joint_names, 0.0)
    commander.reset(PROFILE.named(CENTRE))
    first = commander.chunk(PROFILE.named(CENTRE), still, np.array([0.2, 0.0]), start=0.0).trajectory
    q, dq = first.sample(0.1)
    second = commander.chunk(PROFILE.named(q), PROFILE.named(dq), np.array([-0.1, 0.15]), start=0.1).trajectory
    return first, second


@pytest.mark.parametrize("late", [0.01, 0.03, 0.05, 0.08])
def test_a_late_command_continues_what_is_executed_within_limits(late: float) -> None:
    first, second = two_commands()
    executing = first.sample(0.1 + late)
    result = joined(second, late, executing, JointState(0.0, *executing), ARM)
    for ours, theirs in zip(result.sample(0.0), executing, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    assert (result.max_velocity() <= PROFILE.limits.velocity).all()
    assert (result.max_acceleration() <= PROFILE.limits.acceleration * (1 + 1e-6)).all()
    assert result.ends_at_rest and result.duration <= 0.2
    np.testing.assert_allclose(result.sample(0.13 - late)[1], second.sample(0.13)[1], atol=1e-6)  # its velocity


def test_taken_up_in_its_middle_the_same_command_would_jump() -> None:
    """What the joining is for: without it the reference's velocity jumps by more than the limits allow in a step."""
    first, second = two_commands()
    jump = np.abs(first.sample(0.15)[1] - second.sample(0.05)[1])
    assert (jump > PROFILE.limits.acceleration / 240).any()


def test_a_command_in_time_is_left_as_it_is() -> None:
    _, second = two_commands()
    start = second.sample(0.0)
    result = joined(second, 0.0, start, JointState(0.0, *start), ARM)
    np.testing.assert_array_equal(result.positions, second.positions)


def test_a_command_that_cannot_be_joined_is_refused() -> None:
    first, second = two_commands()
    q, dq = first.sample(0.15)
    far = (q, dq + 1.5)
    with pytest.raises(RejectionError, match="0.050 s late cannot be joined to what is executed: joint '.*would reach"):
        joined(second, 0.05, far, JointState(0.0, *far), ARM)


def test_a_command_in_time_that_begins_elsewhere_begins_where_the_arm_is() -> None:
    """As one that was planned before the gate held: within the join's tolerance, but a jump all the same."""
    _, second = two_commands()
    q = second.positions[0] - 0.02
    resting = (q, np.zeros_like(q))
    result = joined(second, 0.0, resting, JointState(0.0, *resting), ARM)
    np.testing.assert_allclose(result.positions[0], q)
    assert (result.max_acceleration() <= PROFILE.limits.acceleration * (1 + 1e-6)).all()
    assert (result.max_velocity() <= PROFILE.limits.velocity).all()

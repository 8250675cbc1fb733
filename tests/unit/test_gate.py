"""The gate's logic: each rule with a command that only this rule stops, holding, the latch and the watchdog."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.gate import Gate, Verdict
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command
from crl_node.data import Array

PROFILE = load_profile("iiwa_sim")
ARM = Arm(PROFILE)
NAMES = PROFILE.joint_names
MIDDLE = ARM.solve(np.array([0.6, 0.0, 0.02]), ARM.home)
BEGIN = 100.0  # s


class Loop:
    """A gate, a commander and an arm that does exactly what it is told."""

    def __init__(self, q: Array = MIDDLE) -> None:
        self.gate, self.commander = Gate(PROFILE, ARM), TipCommander(PROFILE, ARM)
        self.time, self.q, self.dq = BEGIN, q.copy(), np.zeros(7)
        self.commander.reset(PROFILE.named(q), BEGIN)
        self.measure()

    def measure(self, **changes: Any) -> str:
        message = {"stamp": self.time, "names": NAMES, "positions": self.q, "velocities": self.dq} | changes
        return self.gate.observe(**message)

    def propose(self, velocity: tuple[float, float] = (0.2, 0.1), **changes: Any) -> Command:
        chunk = self.commander.chunk(
            PROFILE.named(self.q), PROFILE.named(self.dq), np.array(velocity), start=self.time
        )
        command = Command(self.time, 1, self.time, 3, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)
        return replace(command, **changes)

    def judge(self, command: Command) -> Verdict:
        return self.gate.judge(command, self.time)

    def advance(self, executed: Command, seconds: float = 0.1) -> None:
        """Let the arm follow what the gate sent, and measure it."""
        assert executed.trajectory is not None
        self.q, self.dq = executed.trajectory.sample(self.time + seconds - executed.stamp)
        self.time += seconds
        self.measure()


def with_trajectory(command: Command, **changes: Any) -> Command:
    trajectory = command.trajectory
    assert trajectory is not None
    parts = {f: getattr(trajectory, f).copy() for f in ("times", "positions", "velocities")}
    parts["joint_names"] = trajectory.joint_names
    for name, change in changes.items():
        parts[name] = change(parts[name]) if callable(change) else change
    return replace(command, trajectory=JointTrajectory(**parts))


def put(index: Any, value: float) -> Any:
    def change(array: Array) -> Array:
        array[index] = value
        return array

    return change


def with_stranger(command: Command) -> Command:
    """An eighth joint that repeats the first."""
    t = command.trajectory
    assert t is not None
    doubled = (np.column_stack([part, part[:, :1]]) for part in (t.positions, t.velocities))
    return replace(command, trajectory=JointTrajectory((*t.joint_names, t.joint_names[0]), t.times, *doubled))


def straight(q: Array, to: Array, seconds: float) -> JointTrajectory:
    """From rest at `q` to rest at `to`."""
    return JointTrajectory(NAMES, np.array([0.0, seconds]), np.stack([q, to]), np.zeros((2, 7)))


def assert_rests(executed: Command) -> None:
    """A hold: finite, inside the limits, ends at rest, says that it is one."""
    assert executed.hold
    np.testing.assert_array_equal(executed.velocity, 0.0)
    trajectory = executed.trajectory
    assert trajectory is not None
    assert trajectory.is_finite
    assert trajectory.ends_at_rest
    assert trajectory.duration <= 0.2
    assert (trajectory.max_velocity() <= PROFILE.limits.velocity * (1 + 1e-9)).all()
    assert (trajectory.max_acceleration() <= PROFILE.limits.acceleration * (1 + 1e-9)).all()


def test_a_good_command_passes_unchanged_with_its_stamp() -> None:
    loop = Loop()
    command = loop.propose()
    verdict = loop.judge(command)
    assert verdict.accepted, verdict.sentence
    assert verdict.executed.stamp == command.stamp
    assert verdict.executed.trajectory is not None
    assert command.trajectory is not None
    np.testing.assert_array_equal(verdict.executed.trajectory.positions, command.trajectory.positions)
    assert (loop.gate.accepted, sum(loop.gate.rejected.values())) == (1, 0)


def test_a_minute_of_random_velocities_is_never_rejected() -> None:
    loop, rng = Loop(), np.random.default_rng(0)
    for _ in range(150):
        verdict = loop.judge(loop.propose(tuple(rng.normal(size=2) * 0.3)))
        assert verdict.accepted, verdict.sentence
        loop.advance(verdict.executed)


def test_the_executed_velocity_is_that_of_the_trajectory_not_what_the_planner_claims() -> None:
    loop = Loop()
    command = loop.propose((0.2, 0.1))
    lie = replace(command, velocity=np.array([-9.0, 9.0]))
    np.testing.assert_allclose(loop.judge(lie).executed.velocity, command.velocity, atol=1e-4)


BAD = {
    "nan position": ("not_finite", lambda c: with_trajectory(c, positions=put((2, 3), np.nan))),
    "nan velocity": ("not_finite", lambda c: with_trajectory(c, velocities=put((1, 0), np.nan))),
    "infinite time": ("not_finite", lambda c: with_trajectory(c, times=put(-1, np.inf))),
    "nan tip velocity": ("not_finite", lambda c: replace(c, velocity=np.array([np.nan, 0.0]))),
    "nan duration": ("not_finite", lambda c: replace(c, duration=np.nan)),
    "nan stamp": ("not_finite", lambda c: replace(c, stamp=np.nan)),
    "no trajectory": ("empty", lambda c: replace(c, trajectory=None)),
    "old": ("stale", lambda c: replace(c, stamp=c.stamp - 0.2)),
    "from the future": ("future", lambda c: replace(c, stamp=c.stamp + 0.3)),
    "renamed joint": ("names", lambda c: with_trajectory(c, joint_names=("elbow", *NAMES[1:]))),
    "joint too many": ("names", lambda c: with_stranger(c)),
    "joint twice": ("names", lambda c: with_trajectory(c, joint_names=(NAMES[1], *NAMES[1:]))),
    "times that shrink": ("times", lambda c: with_trajectory(c, times=put(1, 0.0))),
    "times that begin late": ("times", lambda c: with_trajectory(c, times=put(0, 0.001))),
    "one point": (
        "times",
        lambda c: with_trajectory(
            c, times=lambda t: t[:1], positions=lambda p: p[:1], velocities=lambda v: 0 * v[:1]
        ),
    ),
    "too long": (
        "duration",
        lambda c: with_trajectory(c, times=lambda t: 1.1 * t, velocities=lambda v: v / 1.1),
    ),
    "duration beyond its trajectory": ("duration", lambda c: replace(c, duration=0.3)),
    "moving at its end": ("not_at_rest", lambda c: with_trajectory(c, velocities=put((-1, 6), 0.01))),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_command_is_rejected_for_its_reason_and_the_arm_held(case: str) -> None:
    reason, spoil = BAD[case]
    loop = Loop()
    verdict = loop.judge(spoil(loop.propose()))
    assert not verdict.accepted
    assert verdict.reason == reason, verdict.sentence
    assert verdict.sentence.endswith("; holding")
    assert loop.gate.rejected == {reason: 1}
    assert_rests(verdict.executed)
    np.testing.assert_allclose(verdict.executed.trajectory.positions[-1], loop.q, atol=1e-9)


def test_too_many_points_are_rejected_before_they_cost_time() -> None:
    loop = Loop()
    flat = JointTrajectory(NAMES, np.linspace(0, 0.2, 1000), np.tile(loop.q, (1000, 1)), np.zeros((1000, 7)))
    assert loop.judge(loop.propose(trajectory=flat)).reason == "times"


def test_a_joint_beyond_its_position_limit_is_rejected_even_between_points() -> None:
    q = MIDDLE.copy()
    q[6] = PROFILE.limits.upper[6] - 0.001
    loop = Loop(q)
    loop.gate.observe(BEGIN, NAMES, q, np.eye(7)[6] * 0.5)  # it moves towards its limit
    loop.dq = np.eye(7)[6] * 0.5
    overshoot = JointTrajectory(
        NAMES, np.array([0.0, 0.15]), np.stack([q, q]), np.stack([loop.dq, np.zeros(7)])
    )
    verdict = loop.judge(replace(loop.propose(), trajectory=overshoot))
    assert verdict.reason == "position"
    assert "'lbr_iiwa_joint_7' would go from" in verdict.sentence


def test_a_joint_faster_than_its_limit_between_points_is_rejected() -> None:
    """0.25 rad in 0.2 s from rest to rest peaks at 1.875 rad/s though both points are at rest."""
    loop = Loop()
    gate = Gate(replace(PROFILE, limits=replace(PROFILE.limits, acceleration=np.full(7, 1e3))), ARM)
    gate.observe(BEGIN, NAMES, loop.q, loop.dq)
    fast = straight(loop.q, loop.q + 0.25 * np.eye(7)[6], 0.2)
    verdict = gate.judge(replace(loop.propose(), trajectory=fast), BEGIN)
    assert verdict.reason == "velocity"
    assert "'lbr_iiwa_joint_7' would reach 1.875 rad/s, at most 1.7" in verdict.sentence


def test_an_acceleration_above_the_limit_is_rejected() -> None:
    """0.15 rad in 0.2 s from rest to rest needs 22.5 rad/s^2; joint 7 has 15."""
    loop = Loop()
    verdict = loop.judge(
        replace(loop.propose(), trajectory=straight(loop.q, loop.q + 0.15 * np.eye(7)[6], 0.2))
    )
    assert verdict.reason == "acceleration"
    assert "22.500 rad/s^2, at most 15" in verdict.sentence


def test_a_start_far_from_the_measured_position_is_rejected() -> None:
    loop = Loop()
    verdict = loop.judge(replace(loop.propose(), trajectory=straight(loop.q + 0.16, loop.q + 0.16, 0.2)))
    assert verdict.reason == "start"


def test_a_jump_of_position_where_the_command_begins_is_rejected() -> None:
    loop = Loop()
    moved = loop.q + 0.07 * np.eye(7)[6]
    verdict = loop.judge(replace(loop.propose(), trajectory=straight(moved, moved, 0.2)))
    assert verdict.reason == "join"
    assert "position of joint 'lbr_iiwa_joint_7' would jump by 0.0700 rad" in verdict.sentence


def test_a_jump_of_velocity_where_the_command_begins_is_rejected() -> None:
    loop = Loop()
    dq = 0.4 * np.eye(7)[6]
    jerk = JointTrajectory(
        NAMES, np.array([0.0, 0.1]), np.stack([loop.q, loop.q + 0.05 * dq]), np.stack([dq, 0 * dq])
    )
    verdict = loop.judge(replace(loop.propose(), trajectory=jerk))
    assert verdict.reason == "join"
    assert "velocity of joint 'lbr_iiwa_joint_7' would jump by 0.4000 rad/s" in verdict.sentence


def test_a_join_is_judged_where_a_late_command_really_begins() -> None:
    """A command that was right at its stamp is wrong 0.12 s later, when the last one has almost stopped."""
    loop = Loop()
    for _ in range(3):
        verdict = loop.judge(loop.propose((0.25, 0.0)))
        loop.advance(verdict.executed)
    command = loop.propose((0.25, 0.0))
    q, dq = verdict.executed.trajectory.sample(0.2)
    late = loop.time + 0.095
    loop.gate.observe(late, NAMES, q, dq)
    assert loop.gate.judge(command, late).reason == "join"


def test_a_trajectory_that_leaves_the_workspace_is_rejected() -> None:
    edge = ARM.solve(np.array([0.795, 0.0, 0.02]), ARM.home)
    out = ARM.solve(np.array([0.805, 0.0, 0.02]), edge)
    loop = Loop(edge)
    verdict = loop.judge(replace(loop.propose(), trajectory=straight(edge, out, 0.2)))
    assert verdict.reason == "workspace"
    assert "5.0 mm outside" in verdict.sentence


def test_a_trajectory_that_dips_out_of_the_workspace_and_returns_is_rejected() -> None:
    edge = ARM.solve(np.array([0.798, 0.0, 0.02]), ARM.home)
    out = ARM.solve(np.array([0.803, 0.0, 0.02]), edge)
    loop = Loop(edge)
    dip = JointTrajectory(NAMES, np.array([0.0, 0.1, 0.2]), np.stack([edge, out, edge]), np.zeros((3, 7)))
    assert loop.judge(replace(loop.propose(), trajectory=dip)).reason == "workspace"


def test_an_arm_outside_the_workspace_may_come_back_but_not_go_further() -> None:
    outside = ARM.solve(np.array([0.60, 0.30, 0.02]), ARM.home)
    back, away = (ARM.solve(np.array([0.60, y, 0.02]), outside) for y in (0.295, 0.31))
    loop = Loop(outside)
    assert loop.judge(replace(loop.propose(), trajectory=straight(outside, away, 0.2))).reason == "workspace"
    assert loop.judge(replace(loop.propose(), trajectory=straight(outside, back, 0.2))).accepted


def test_a_command_older_than_the_one_being_executed_is_rejected() -> None:
    loop = Loop()
    first = loop.propose()
    verdict = loop.judge(first)
    loop.advance(verdict.executed, 0.05)
    assert loop.judge(replace(loop.propose(), stamp=first.stamp - 0.01)).reason == "order"


# -- holding ----------------------------------------------------------------------------------------------------------


def moving() -> Loop:
    loop = Loop()
    for _ in range(2):
        loop.advance(loop.judge(loop.propose((0.25, 0.0))).executed)
    assert np.abs(loop.dq).max() > 0.2
    return loop


def test_a_rejection_in_motion_ramps_down_from_the_reference_within_limits() -> None:
    loop = moving()
    verdict = loop.judge(replace(loop.propose(), trajectory=None))
    assert_rests(verdict.executed)
    trajectory = verdict.executed.trajectory
    np.testing.assert_allclose(trajectory.positions[0], loop.q, atol=1e-9)
    np.testing.assert_allclose(trajectory.velocities[0], loop.dq, atol=1e-9)
    assert trajectory.duration < 0.1


def test_a_hold_at_the_border_does_not_overshoot_it() -> None:
    loop = Loop(ARM.solve(np.array([0.76, 0.0, 0.02]), ARM.home))
    for _ in range(4):
        executed = loop.judge(loop.propose((0.25, 0.0))).executed
        hold = replace(loop.gate.hold(loop.time + 0.05), hold=True)
        for time in np.linspace(0, 0.2, 9):
            assert ARM.tip_at(hold.trajectory.sample(time)[0])[0] < 0.80 + 1.1e-3
        loop.gate._executing = (executed.stamp, executed.trajectory)
        loop.advance(executed)


def test_a_blocked_arm_is_held_where_it_is_not_where_it_should_be() -> None:
    loop = moving()
    stuck = loop.q - 0.14 * np.eye(7)[0]
    loop.time += 0.05
    loop.measure(positions=stuck, velocities=np.zeros(7))
    np.testing.assert_allclose(loop.gate.hold(loop.time).trajectory.positions[-1], stuck)


def test_after_a_hold_the_next_good_command_passes() -> None:
    loop = moving()
    loop.advance(loop.judge(replace(loop.propose(), trajectory=None)).executed)
    loop.commander.reset(PROFILE.named(loop.q), loop.time)
    assert loop.judge(loop.propose()).accepted


def test_a_planner_that_does_not_know_of_a_hold_gets_through_again_by_itself() -> None:
    loop = moving()
    loop.advance(loop.judge(replace(loop.propose(), trajectory=None)).executed)
    outcomes = []
    for _ in range(8):
        verdict = loop.judge(loop.propose((0.25, 0.0)))
        outcomes.append(verdict.accepted)
        loop.advance(verdict.executed)
    assert outcomes[-1]


def test_a_command_to_hold_is_carried_out_and_counts_as_accepted() -> None:
    loop = moving()
    verdict = loop.judge(replace(loop.propose(), hold=True, trajectory=None))
    assert verdict.accepted
    assert_rests(verdict.executed)
    assert verdict.executed.stamp == loop.time


def test_without_any_joint_states_there_is_nothing_to_hold_and_nothing_moves() -> None:
    gate, loop = Gate(PROFILE, ARM), Loop()
    verdict = gate.judge(loop.propose(), BEGIN)
    assert verdict.reason == "joint_states"
    assert "no joint states have arrived yet" in verdict.sentence
    assert verdict.executed.trajectory is None
    gate.observe(BEGIN, NAMES, loop.q, loop.dq)
    assert gate.judge(loop.propose(), BEGIN).accepted


# -- joint states -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"positions": np.where(np.arange(7) == 2, np.nan, MIDDLE)},
            "positions of joint 'lbr_iiwa_joint_3' .* is nan",
        ),
        (
            {"velocities": np.where(np.arange(7) == 5, np.inf, 0.0)},
            "velocities of joint 'lbr_iiwa_joint_6' .* is inf",
        ),
        (
            {"names": ("elbow", *NAMES[1:])},
            r"joint 'lbr_iiwa_joint_1' is absent from joint states: they name \[elbow, lbr_iiwa_joint_2, .*\], "
            r"the arm has \[lbr_iiwa_joint_1, .*\]",
        ),
        (
            {"names": NAMES[:5], "positions": MIDDLE[:5], "velocities": []},
            "joint 'lbr_iiwa_joint_6' is absent",
        ),
        ({"positions": MIDDLE[:6]}, "7 names and 6 positions"),
        (
            {"positions": MIDDLE + 1e6 * np.eye(7)[1]},
            "joint 'lbr_iiwa_joint_2' in joint states is at 1000000.* outside",
        ),
    ],
)
def test_unusable_joint_states_hold_the_arm_until_good_ones_come(
    changes: dict[str, Any], sentence: str
) -> None:
    loop = moving()
    assert re.search(sentence + ".*; holding", loop.measure(**changes))
    verdict = loop.judge(loop.propose())
    assert verdict.reason == "joint_states"
    assert_rests(verdict.executed)
    loop.advance(verdict.executed)
    loop.commander.reset(PROFILE.named(loop.q), loop.time)
    assert loop.judge(loop.propose()).accepted


def test_joints_may_come_in_any_order_with_strangers_and_without_velocities() -> None:
    loop = Loop()
    order = [3, 1, 0, 2, 6, 5, 4]
    names = ["gripper", *[NAMES[i] for i in order]]
    assert not loop.measure(names=names, positions=[9.0, *loop.q[order]], velocities=[])
    np.testing.assert_array_equal(loop.gate.measured.position, loop.q)


def test_old_joint_states_hold_the_arm() -> None:
    loop = moving()
    loop.time += PROFILE.watchdog.joint_states + 0.01
    verdict = loop.judge(loop.propose())
    assert verdict.reason == "joint_states"
    assert "joint states are 0.260 s old, at most 0.25 s" in verdict.sentence


def test_joint_states_from_before_the_last_are_ignored() -> None:
    loop = Loop()
    assert "came after" in loop.measure(stamp=BEGIN - 1.0, positions=loop.q + 0.5)
    np.testing.assert_array_equal(loop.gate.measured.position, loop.q)


# -- emergency stop and watchdog --------------------------------------------------------------------------------------


def test_the_emergency_stop_latches_until_it_is_reset() -> None:
    loop = moving()
    loop.gate.latch("button")
    for _ in range(3):
        verdict = loop.judge(loop.propose())
        assert verdict.reason == "estop"
        assert "the emergency stop is latched (button)" in verdict.sentence
        assert_rests(verdict.executed)
        loop.advance(verdict.executed)
    assert not loop.gate.reset()
    loop.commander.reset(PROFILE.named(loop.q), loop.time)
    assert loop.judge(loop.propose()).accepted


def test_the_emergency_stop_cannot_be_reset_while_nobody_knows_where_the_arm_is() -> None:
    loop = Loop()
    loop.gate.latch("button")
    loop.measure(positions=np.full(7, np.nan))
    assert "stays latched" in loop.gate.reset()
    assert loop.gate.estop


def test_a_silent_planner_is_reported_once_and_the_arm_held() -> None:
    loop = moving()
    assert not loop.gate.overdue(loop.time)
    late = loop.time + PROFILE.watchdog.command + 0.01
    loop.gate.observe(late, NAMES, loop.q, np.zeros(7))
    assert "no command for" in loop.gate.overdue(late)
    loop.gate.hold(late)
    assert not loop.gate.overdue(late + 10.0)


def test_silent_joint_states_are_reported_while_commands_come() -> None:
    loop = moving()
    loop.gate.last_command = late = loop.time + 0.3
    assert "joint states are" in loop.gate.overdue(late)


def test_a_chunk_ends_at_rest_even_if_the_gate_dies_with_the_planner() -> None:
    loop = moving()
    executed = loop.judge(loop.propose()).executed
    _, dq = executed.trajectory.sample(0.2)
    np.testing.assert_array_equal(dq, 0.0)


def test_the_gate_needs_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, crl_node.arm.gate, crl_node.arm.commander\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'pybullet', 'rclpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

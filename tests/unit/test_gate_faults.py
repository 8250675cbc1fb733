"""The gate against faults of clock, joints and actuators: what it notices, when, and that it goes on afterwards.

Times are stamps. The real node is in tests/integration/test_gate_node.py, the loop in tests/faults.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.following import PATIENCE, TOLERANCE, Following
from crl_node.arm.gate import CLOCK_WINDOW, RESUME_STEP, Gate, Verdict
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command

PROFILE = load_profile("iiwa_sim")
ARM = Arm(PROFILE)
NAMES = PROFILE.joint_names
MIDDLE = ARM.solve(np.array([0.6, 0.0, 0.02]), ARM.home)


class Loop:
    """Gate and commander with an arm that is `slip` rad from where it is told to be."""

    def __init__(self, time: float = 100.0) -> None:
        self.gate, self.commander = Gate(PROFILE, ARM), TipCommander(PROFILE, ARM)
        self.time, self.q, self.dq, self.slip = time, MIDDLE.copy(), np.zeros(7), np.zeros(7)
        self.commander.reset(PROFILE.named(self.q), time)
        self.measure()

    def measure(self, order: list[int] | None = None) -> str:
        order = order or list(range(7))
        q, dq = self.q + self.slip, self.dq
        return self.gate.observe(self.time, [NAMES[i] for i in order], q[order], dq[order])

    def propose(self) -> Command:
        chunk = self.commander.chunk(
            PROFILE.named(self.q), PROFILE.named(self.dq), np.array([0.2, 0.1]), start=self.time
        )
        return Command(self.time, 1, self.time, 3, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)

    def tick(self) -> Verdict:
        """Judge a command, let the arm follow for 0.1 s in 10 steps."""
        verdict = self.gate.judge(self.propose(), self.time)
        executed = verdict.executed
        if not verdict.accepted:
            self.commander.reset(PROFILE.named(self.q), self.time)
        begin = self.time
        for step in range(1, 11):
            self.time = round(begin + 0.01 * step, 6)
            if executed.trajectory is not None:
                self.q, self.dq = executed.trajectory.sample(self.time - executed.stamp)
            self.measure()
        return verdict


def test_joint_states_in_any_of_100_orders_give_the_same_bits() -> None:
    rng = random.Random(0)
    plain = Loop()
    plain.tick()
    wanted = plain.gate.judge(plain.propose(), plain.time).executed
    for _ in range(100):
        order = rng.sample(range(7), 7)
        loop = Loop()
        loop.tick()
        assert not loop.measure(order)
        command = loop.propose()
        assert command.trajectory is not None
        shuffled = JointTrajectory(
            tuple(NAMES[i] for i in order), command.trajectory.times, command.trajectory.positions[:, order],
            command.trajectory.velocities[:, order],
        )  # fmt: skip
        got = loop.gate.judge(Command(**{**command.__dict__, "trajectory": shuffled}), loop.time).executed
        assert got.trajectory is not None and wanted.trajectory is not None
        assert got.trajectory.joint_names == NAMES
        for field in ("times", "positions", "velocities"):
            assert getattr(got.trajectory, field).tobytes() == getattr(wanted.trajectory, field).tobytes()
        assert got.velocity.tobytes() == wanted.velocity.tobytes()


def test_a_mismatch_of_joints_is_refused_with_both_lists() -> None:
    loop = Loop()
    problem = loop.gate.observe(100.1, ["elbow", *NAMES[1:]], MIDDLE, np.zeros(7))
    assert f"they name [{', '.join(['elbow', *NAMES[1:]])}]" in problem
    assert f"the arm has [{', '.join(NAMES)}]" in problem


def test_joint_states_that_come_twice_or_late_change_nothing() -> None:
    loop = Loop()
    loop.tick()
    before = loop.gate.measured
    assert before is not None
    loop.measure()
    assert "came after" in loop.gate.observe(loop.time - 0.05, NAMES, MIDDLE + 0.05, np.zeros(7))
    assert loop.gate.measured is not None
    np.testing.assert_array_equal(loop.gate.measured.position, before.position)
    assert loop.tick().accepted


@pytest.mark.parametrize("jump", [-99.0, -5.0, 5.0, 1e6])
def test_after_a_jump_of_the_clock_nothing_moves_for_a_window_and_then_it_does(jump: float) -> None:
    loop = Loop()
    assert loop.tick().accepted
    loop.time += jump
    loop.commander.reset(PROFILE.named(loop.q), loop.time)
    began = loop.time
    loop.measure()
    assert "jumped from" in loop.gate.overdue(loop.time)
    first = None
    for _ in range(12):
        stamp = loop.time
        if loop.tick().accepted:
            first = stamp
            break
    assert first is not None
    assert CLOCK_WINDOW <= first - began <= 1.0
    assert loop.gate.rejected["clock"] >= 2
    assert loop.gate.clock_jumps == 1


def test_a_clock_that_went_back_before_the_joint_states_did_holds_too() -> None:
    loop = Loop()
    loop.tick()
    verdict = loop.gate.judge(loop.propose(), loop.time - 50.0)
    assert verdict.reason == "joint_states"
    assert "the clock jumped back" in verdict.sentence


def test_an_arm_that_does_not_follow_is_held_where_it_is_and_goes_on_when_it_does() -> None:
    loop = Loop()
    assert loop.tick().accepted
    loop.slip = 1.05 * TOLERANCE * np.eye(7)[3]
    since, noticed = loop.time, None
    for _ in range(8):
        verdict = loop.tick()
        if loop.gate.following.problem:
            noticed = loop.time
            break
        assert verdict.accepted
    assert noticed is not None and PATIENCE <= noticed - since <= PATIENCE + 0.1 + 1e-6
    assert "does not follow: joint 'lbr_iiwa_joint_4'" in loop.gate.overdue(loop.time)
    where = loop.q + loop.slip
    verdict = loop.gate.judge(loop.propose(), loop.time)
    assert (verdict.accepted, verdict.reason) == (False, "following")
    np.testing.assert_allclose(verdict.executed.trajectory.positions[-1], where)  # type: ignore[union-attr]
    loop.slip[:] = 0.0
    assert any(loop.tick().accepted for _ in range(10))


def test_an_impact_shorter_than_the_patience_is_none_of_its_business() -> None:
    following = Following(("a",))
    following.told(0.0, JointTrajectory.resting(("a",), np.zeros(1)))
    for step in range(100):
        strays = step % 40 < 25  # 0.25 s away, 0.15 s near
        assert following.observe(0.01 * step, np.array([0.15 if strays else 0.01])) == ""


def test_moments_of_nearness_do_not_hide_an_arm_that_is_dragged_along() -> None:
    following = Following(("a",))
    said = []
    for step in range(60):
        if step % 8 == 0:  # the reference is given up for the measured state, again and again
            following.told(0.01 * step, JointTrajectory.resting(("a",), np.array([0.02 * step])))
        said.append(following.observe(0.01 * step, np.array([0.02 * step])))
    assert any(said)


def test_after_an_emergency_stop_the_first_step_begins_where_the_arm_is() -> None:
    loop = Loop()
    loop.tick()
    loop.gate.latch("button")
    loop.tick()
    assert loop.gate.reset() == ""
    held = loop.gate.hold(loop.time).trajectory
    assert held is not None
    np.testing.assert_allclose(held.positions[-1], loop.q, atol=1e-12)
    away = loop.propose()
    assert away.trajectory is not None
    shifted = JointTrajectory(
        NAMES, away.trajectory.times, away.trajectory.positions + 2 * RESUME_STEP, away.trajectory.velocities
    )
    verdict = loop.gate.judge(Command(**{**away.__dict__, "trajectory": shifted}), loop.time)
    assert verdict.reason == "resume", verdict.sentence
    loop.commander.reset(PROFILE.named(loop.q), loop.time)
    verdict = loop.gate.judge(loop.propose(), loop.time)
    assert verdict.accepted, verdict.sentence
    assert verdict.executed.trajectory is not None
    assert np.abs(verdict.executed.trajectory.positions[0] - loop.q).max() <= RESUME_STEP


def test_a_stranger_on_the_command_topics_is_refused_by_name_while_it_is_there() -> None:
    loop = Loop()
    assert loop.tick().accepted
    loop.gate.foreign = "/intruder publishes on /planner/command"
    assert "/intruder" in loop.gate.overdue(loop.time)
    verdict = loop.tick()
    assert verdict.reason == "foreign" and "/intruder" in verdict.sentence
    loop.gate.foreign = ""
    assert any(loop.tick().accepted for _ in range(3))

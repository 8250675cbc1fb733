"""The planner as a real node in its own process: beliefs in, commands out, in lockstep and in real time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.data import Belief, Posterior, TermKind
from crl_node.export.onnx_model import verify
from crl_node.posterior import PARTICLES
from tests.support.plan_inputs import belief_of, empty_posterior, random_posterior, with_term

pytestmark = pytest.mark.ros
PROFILE = load_profile("iiwa_sim")
ARM = Arm(PROFILE)
TIP = np.array([0.6, 0.0])
START = ARM.solve(np.array([*TIP, 0.02]), ARM.home)
SCENE = np.array([TIP, [0.7, 0.1], [0.5, -0.15]])


class Rig:
    """The planner's neighbours, all in the test."""

    def __init__(self, domain: Any, start: Callable[..., Any], **parameters: Any) -> None:
        from crl_interfaces.msg import Belief as BeliefMessage
        from crl_interfaces.msg import Command as CommandMessage
        from crl_interfaces.msg import Plan as PlanMessage
        from crl_interfaces.msg import Posterior as PosteriorMessage
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import JointState

        self.domain = domain
        self.process = start("planner", {"use_sim_time": True, "provider": "cpu", **parameters})
        assert domain.transition("planner", "configure"), self.process.log()
        self.commands = domain.collect(CommandMessage, "planner/command")
        self.plans = domain.collect(PlanMessage, "planner/plan")
        self.reports = domain.collect(DiagnosticArray, "/diagnostics")
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._beliefs = domain.publisher(BeliefMessage, "learner/belief")
        self._posteriors = domain.publisher(PosteriorMessage, "learner/posterior", latched)
        self._joints = domain.publisher(JointState, "joint_states")
        self._clock = domain.publisher(Clock, "/clock")

    def activate(self) -> None:
        assert self.domain.transition("planner", "activate"), self.process.log()

    def clock(self, stamp: float) -> None:
        from rosgraph_msgs.msg import Clock

        from crl_node.nodes.base import seconds_to_stamp

        self._clock.publish(Clock(clock=seconds_to_stamp(stamp)))

    def joints(self, stamp: float, q: np.ndarray = START, names: tuple[str, ...] = PROFILE.joint_names) -> None:
        from sensor_msgs.msg import JointState

        from crl_node.nodes.convert import header

        self._joints.publish(
            JointState(header=header(stamp), name=list(names), position=q.tolist(), velocity=[0.0] * len(q))
        )

    def belief(self, stamp: float, version: int = 0, belief: Belief | None = None) -> None:
        from crl_node.nodes.convert import belief_to_message

        belief = belief or belief_of(SCENE)
        self._beliefs.publish(belief_to_message(replace(belief, stamp=stamp), posterior_version=version))

    def posterior(self, posterior: Posterior, stamp: float = 1.0) -> None:
        from crl_node.nodes.convert import posterior_to_message

        self._posteriors.publish(posterior_to_message(posterior, stamp))

    def command(self, number: int) -> Any:
        """The command with this number, counted from 1."""
        self.domain.wait_until(lambda: len(self.commands) >= number, f"command {number}")
        return self.commands[number - 1]

    def says(self, text: str) -> None:
        self.domain.wait_until(lambda: text in self.process.log(), f"the sentence '{text}'")

    def value(self, key: str) -> str:
        for message in reversed(self.reports):
            for status in message.status:
                for pair in status.values:
                    if pair.key == key:
                        return str(pair.value)
        return ""


@pytest.fixture
def lockstep(ros_domain: Any, node_process: Callable[..., Any]) -> Rig:
    return Rig(ros_domain, node_process, lockstep=True)


def stamp_of(command: Any) -> float:
    return float(command.header.stamp.sec + command.header.stamp.nanosec * 1e-9)


def test_lockstep_answers_each_belief_once_with_its_stamp_after_posterior_and_joints_are_here(lockstep: Rig) -> None:
    from crl_node.arm.gate import Gate
    from crl_node.nodes.convert import command_from_message

    rig = lockstep
    rig.activate()
    rig.belief(1.0, version=3)
    rig.joints(1.0)
    rig.posterior(random_posterior(1, version=3))
    first = rig.command(1)
    assert stamp_of(first) == 1.0
    assert first.posterior_version == 3
    assert first.belief_stamp == first.header.stamp
    assert not first.hold
    # Posterior first, joint states last: the order must not matter.
    rig.posterior(random_posterior(2, version=4))
    rig.belief(1.1, version=4)
    rig.joints(1.1)
    second = rig.command(2)
    assert stamp_of(second) == pytest.approx(1.1)
    assert second.posterior_version == 4
    assert second.sequence == first.sequence + 1
    rig.domain.wait_until(lambda: len(rig.plans) == 2, "two plans")
    plan = rig.plans[0]
    assert plan.posterior_version == 3
    assert plan.policy == "curious" and plan.provider == "CPUExecutionProvider"
    assert plan.chosen.label and len(plan.rejected) >= 1
    assert len(plan.chosen.path) == 31
    # What it sends is what the gate lets through.
    gate = Gate(PROFILE)
    gate.begin_watch(1.0)
    assert gate.observe(1.0, PROFILE.joint_names, START, np.zeros(7)) == ""
    verdict = gate.judge(command_from_message(first), 1.0)
    assert verdict.accepted, verdict.sentence


def test_nothing_is_sent_before_it_is_active_and_nothing_after(lockstep: Rig) -> None:
    rig = lockstep
    rig.joints(1.0)
    rig.belief(1.0)
    rig.domain.wait_until(lambda: rig.value("ignored") == "1", "the belief to arrive")
    rig.activate()
    rig.joints(1.1)
    rig.belief(1.1)
    assert stamp_of(rig.command(1)) == pytest.approx(1.1)
    assert rig.domain.transition("planner", "deactivate")
    rig.joints(1.2)
    rig.belief(1.2)
    rig.domain.wait_until(lambda: rig.value("ignored") == "2", "the last belief to arrive")
    assert len(rig.commands) == 1


def test_two_runs_of_the_same_lockstep_give_the_same_trajectories(
    ros_domain: Any, node_process: Callable[..., Any]
) -> None:
    courses = []
    for _ in range(2):
        rig = Rig(ros_domain, node_process, lockstep=True, seed=3)
        rig.activate()
        rig.posterior(random_posterior(1, version=1))
        for k in range(3):
            rig.joints(1.0 + 0.1 * k)
            rig.belief(1.0 + 0.1 * k, version=1)
            rig.command(k + 1)
        courses.append([[list(p.positions) for p in c.trajectory.points] for c in rig.commands])
        assert rig.process.kill(2) == 0
    assert courses[0] == courses[1]


def test_a_bad_posterior_is_refused_in_words_the_old_one_stays_and_lockstep_goes_on(lockstep: Rig) -> None:
    rig = lockstep
    rig.activate()
    rig.posterior(random_posterior(1, version=3))
    rig.joints(1.0)
    rig.belief(1.0, version=3)
    rig.command(1)
    bad = random_posterior(2, version=4)
    rig.posterior(replace(bad, weight_mean=np.full_like(bad.weight_mean, np.nan)))
    rig.joints(1.1)
    rig.belief(1.1, version=4)
    assert rig.command(2).posterior_version == 3
    rig.says("posterior version 4: 'weight_mean' holds 96 non-finite values; keeping the previous model")
    rig.domain.wait_until(lambda: rig.value("posteriors_refused") == "1", "the refusal in the diagnostics")


def test_a_belief_that_is_not_finite_is_answered_by_a_hold(lockstep: Rig) -> None:
    rig = lockstep
    rig.activate()
    good = belief_of(SCENE)
    mean = good.mean.copy()
    mean[1, 0] = np.nan
    rig.joints(1.0)
    rig.belief(1.0, belief=replace(good, mean=mean))
    command = rig.command(1)
    assert command.hold
    assert (command.velocity.x, command.velocity.y) == (0.0, 0.0)
    rig.says("'mean' holds 1 non-finite values; not planning from it; holding")
    rig.joints(1.1)
    rig.belief(1.1)
    assert not rig.command(2).hold


def test_joint_states_without_a_joint_or_with_nan_are_answered_by_a_hold_without_trajectory(lockstep: Rig) -> None:
    rig = lockstep
    rig.activate()
    rig.joints(1.0, START[1:], PROFILE.joint_names[1:])
    rig.belief(1.0)
    first = rig.command(1)
    assert first.hold and not first.trajectory.points
    rig.says(f"joint '{PROFILE.joint_names[0]}' is absent in joint_states at 1.000 s: they name [lbr_iiwa_joint_2, ")
    rig.joints(1.1, np.full(7, np.nan))
    rig.belief(1.1)
    assert rig.command(2).hold
    rig.joints(1.2)
    rig.belief(1.2)
    assert not rig.command(3).hold


def test_lockstep_does_not_wait_for_ever_for_a_posterior_that_never_comes(
    ros_domain: Any, node_process: Callable[..., Any]
) -> None:
    rig = Rig(ros_domain, node_process, lockstep=True, lockstep_patience=0.2)
    rig.activate()
    rig.joints(1.0)
    rig.belief(1.0, version=99)
    assert rig.command(1).posterior_version == 0
    rig.says("posterior or joint states did not come")


def test_in_real_time_a_plan_is_gone_on_with_until_its_belief_is_too_old_and_then_the_arm_holds(
    ros_domain: Any, node_process: Callable[..., Any]
) -> None:
    rig = Rig(ros_domain, node_process, lockstep=False)
    rig.activate()
    rig.posterior(empty_posterior(version=1))
    time = 10.0

    def pass_time(until: Callable[[], bool], what: str) -> None:
        def condition() -> bool:
            nonlocal time
            time = round(time + 0.005, 6)
            rig.clock(time)
            rig.joints(time)
            return until()

        rig.domain.wait_until(condition, what)

    for _ in range(3):
        rig.clock(time)
        rig.joints(time)
    rig.domain.wait_until(lambda: "policy 'curious'" in rig.process.log(), "the node to be up")
    rig.belief(time)
    pass_time(lambda: any(not c.hold for c in rig.commands), "a command that moves")
    moving = sum(not c.hold for c in rig.commands)
    # No further belief: the plan is gone on with step by step, then it holds.
    pass_time(lambda: sum(not c.hold for c in rig.commands) > moving + 1, "further commands of the plan")
    pass_time(lambda: rig.commands[-1].hold, "a hold")
    assert len(rig.plans) == 1
    moved = [c for c in rig.commands if not c.hold]
    assert {(c.belief_stamp.sec, c.belief_stamp.nanosec) for c in moved} == {(10, 0)}
    starts = [stamp_of(c) for c in moved]
    assert min(b - a for a, b in zip(starts[:-1], starts[1:], strict=True)) > 0.05  # one a period, not one a look
    pass_time(lambda: int(rig.value("continued") or 0) >= len(moved) - 1, "the count in the diagnostics")
    rig.says("no belief since 10.000 s")
    # A hold from before the first joint state has nothing to hold at; all others have a trajectory.
    assert all(c.trajectory.points for c in rig.commands if not c.hold)
    assert rig.commands[-1].trajectory.points


def test_what_was_learned_is_written_to_the_model_file_when_it_stops(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    target = tmp_path / "run" / "model.onnx"
    rig = Rig(ros_domain, node_process, lockstep=True, model=str(target))
    rig.activate()
    posterior = random_posterior(1, version=6)
    rig.posterior(posterior)
    rig.joints(1.0)
    rig.belief(1.0, version=6)
    rig.command(1)
    assert rig.domain.transition("planner", "deactivate")
    info = verify(target)
    assert info.posterior_version == 6
    assert info.posterior_hash == posterior.hash


def test_a_broken_model_file_fails_to_configure_in_words(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    process = node_process("planner", {"model": str(broken), "provider": "cpu"})
    assert not ros_domain.transition("planner", "configure")
    ros_domain.wait_until(lambda: "is not an ONNX file" in process.log() or "format" in process.log(), "a sentence")
    assert ros_domain.state("planner") == "unconfigured"


# -- goals ------------------------------------------------------------------------------------------------------------


def coloured(places: np.ndarray = SCENE) -> Belief:
    """Slot 1 is red, slot 2 green."""
    belief = belief_of(places)
    return replace(belief, colour=np.array([[0.0, 0.0, 0.0], [0.8, 0.1, 0.1], [0.1, 0.6, 0.15]]))


def pushing() -> Posterior:
    """The tip is known to push both things."""
    weights = np.linspace(0.8, 1.2, PARTICLES)
    posterior = with_term(empty_posterior(version=1), 1, TermKind.PUSH, 1, 0, 0.05, weights)
    return with_term(posterior, 2, TermKind.PUSH, 2, 0, 0.05, weights)


def ask(rig: Rig, **fields: Any) -> Any:
    from crl_interfaces.srv import SetGoal

    return rig.domain.call(SetGoal, "planner/set_goal", SetGoal.Request(**fields))


def test_a_goal_is_taken_in_words_followed_from_the_next_plan_on_and_given_up_when_it_is_reached(
    lockstep: Rig,
) -> None:
    from crl_interfaces.msg import Goals

    rig = lockstep
    told = rig.domain.collect(Goals, "planner/goals")
    rig.activate()
    early = ask(rig, thing="red", x=0.6, y=0.1)
    assert not early.success and early.slot == -1 and "nothing has been seen yet" in early.message
    rig.posterior(pushing())

    def tick(number: int, places: np.ndarray = SCENE) -> Any:
        rig.joints(1.0 + 0.1 * number)
        rig.belief(1.0 + 0.1 * number, version=1, belief=coloured(places))
        rig.command(number)
        rig.domain.wait_until(lambda: len(rig.plans) == number, "the plan")
        return rig.plans[-1].chosen

    assert tick(1).preference == 0.0
    taken = ask(rig, thing="red", x=0.6, y=0.1, hold=0.15)
    assert taken.success and taken.slot == 1
    assert taken.message == "the red thing 1 is wanted at (0.60, 0.10) m"
    rig.domain.wait_until(lambda: len(told) == 1, "the goals")
    assert told[0].from_command == 2 and stamp_of(told[0]) == pytest.approx(1.1)
    assert [(g.slot, g.name, g.x, g.y, g.weight, g.hold) for g in told[0].goals] == [(1, "red", 0.6, 0.1, 100.0, 0.15)]
    chosen = tick(2)
    assert chosen.label == "bring slot_1 to the goal" and chosen.preference > 0.0
    for fields, words in (
        ({"thing": "red", "x": 0.95, "y": 0.1}, "no place on the table"),
        ({"thing": "red", "x": float("nan"), "y": 0.1}, "finite"),
        ({"thing": "blue", "x": 0.6, "y": 0.1}, "no thing is blue"),
        ({"thing": "green", "clear": True}, "has no goal; goals: 1 (red)"),
    ):
        refused = ask(rig, **fields)
        assert not refused.success and words in refused.message, refused.message
    there = SCENE.copy()
    there[1] = 0.605, 0.1
    tick(3, there)
    assert len(told) == 1
    tick(4, there)
    assert len(told) == 1  # there, but not for long enough: `from_command` below says when it was
    assert tick(5, there).preference == 0.0
    rig.domain.wait_until(lambda: len(told) == 2, "that it is reached")
    assert not told[1].goals and "reached" in told[1].note and told[1].from_command == 5
    assert ask(rig, thing="2", x=0.6, y=-0.1).success
    cleared = ask(rig, clear=True)
    assert cleared.success and "given up" in cleared.message
    assert tick(6).preference == 0.0
    again = ask(rig, clear=True)
    assert again.success and "there was no goal" in again.message


def test_a_policy_that_follows_no_goals_says_so(ros_domain: Any, node_process: Callable[..., Any]) -> None:
    rig = Rig(ros_domain, node_process, lockstep=True, policy="skills")
    rig.activate()
    answer = ask(rig, thing="red", x=0.6, y=0.1)
    assert not answer.success and "policy 'skills' follows no goals" in answer.message

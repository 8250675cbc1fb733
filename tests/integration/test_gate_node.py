"""The gate as a real node in its own process: what it lets through, what it holds, and that it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.command import Command

pytestmark = pytest.mark.ros
PROFILE = load_profile("iiwa_sim")
ARM = Arm(PROFILE)
START = ARM.solve(np.array([0.6, 0.0, 0.02]), ARM.home)


class Rig:
    """The gate's neighbours: planner, joint states, clock, controller and learner, all in the test."""

    def __init__(self, domain: Any, start: Callable[..., Any], lockstep: bool, **parameters: Any) -> None:
        from crl_interfaces.msg import Command as CommandMessage
        from diagnostic_msgs.msg import DiagnosticArray
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import JointState
        from trajectory_msgs.msg import JointTrajectory

        self.domain, self.time = domain, 100.0
        # The clock here stands still while the test thinks.
        given = {"lockstep": lockstep, "use_sim_time": True, "clock_patience": 3600.0, **parameters}
        self.process = start("gate", given)
        assert domain.transition("gate", "configure"), self.process.log()
        self.controller = domain.collect(JointTrajectory, "arm_controller/joint_trajectory")
        self.executed = domain.collect(CommandMessage, "gate/executed")
        self.reports = domain.collect(DiagnosticArray, "/diagnostics")
        self.commands = domain.publisher(CommandMessage, "planner/command")
        self.joints = domain.publisher(JointState, "joint_states")
        self.clock = domain.publisher(Clock, "/clock")
        self.commander = TipCommander(PROFILE, ARM)
        self.q, self.dq = START.copy(), np.zeros(7)
        self.commander.reset(PROFILE.named(self.q), self.time)

    def tick(self, seconds: float = 0.0) -> None:
        from rosgraph_msgs.msg import Clock

        from crl_node.nodes.base import seconds_to_stamp

        self.time = round(self.time + seconds, 9)
        self.clock.publish(Clock(clock=seconds_to_stamp(self.time)))

    def settle(self) -> None:
        """The gate knows the time and the joints. /clock is best effort: its first messages may be lost."""
        self.measure()

        def settled() -> bool:
            self.tick()
            return self.value("joint_states_age_s") == "0.000"

        self.domain.wait_until(settled, "the clock and the joint states to arrive")

    def measure(self, q: Any = None) -> None:
        from sensor_msgs.msg import JointState

        from crl_node.nodes import convert

        message = JointState(header=convert.header(self.time), name=list(PROFILE.joint_names))
        message.position = list(self.q if q is None else q)
        message.velocity = list(self.dq)
        self.joints.publish(message)

    def propose(
        self, velocity: tuple[float, float] = (0.2, 0.0), spoil: Callable[[Any], None] | None = None
    ) -> None:
        from crl_node.nodes import convert

        chunk = self.commander.chunk(
            PROFILE.named(self.q), PROFILE.named(self.dq), np.array(velocity), start=self.time
        )
        command = Command(self.time, 7, self.time, 3, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)
        message = convert.command_to_message(command)
        if spoil is not None:
            spoil(message)
        self.commands.publish(message)

    def answered(self, count: int) -> Any:
        """The last of `count` trajectories sent so far."""
        self.domain.wait_until(
            lambda: len(self.controller) >= count and len(self.executed) >= count, f"answer {count}"
        )
        assert len(self.controller) == count
        return self.executed[-1]

    def follow(self) -> None:
        from crl_node.nodes import convert

        trajectory = convert.trajectory_from_message(self.controller[-1])
        assert trajectory is not None
        assert trajectory.is_finite
        assert trajectory.ends_at_rest
        assert trajectory.duration == 1.0  # a late one is not over when it arrives: it would be refused
        self.q, self.dq = trajectory.sample(0.1)

    def value(self, key: str) -> str:
        """Newest value of a key in the gate's diagnostics."""
        values = {v.key: v.value for r in self.reports for v in r.status[0].values}
        return values.get(key, "")


@pytest.fixture
def rig(ros_domain: Any, node_process: Any) -> Callable[..., Rig]:
    return lambda lockstep, **parameters: Rig(ros_domain, node_process, lockstep, **parameters)


def spoil_position(message: Any) -> None:
    message.trajectory.points[1].positions[2] = float("nan")


def test_in_lockstep_each_tick_gets_exactly_one_trajectory_with_its_stamp(rig: Any, ros_domain: Any) -> None:
    r = rig(lockstep=True)
    r.measure()
    r.propose()
    ros_domain.wait_until(lambda: r.value("active") == "False", "a report")
    assert r.controller == []  # nothing before activate
    r.commander.reset(PROFILE.named(r.q), r.time)
    assert ros_domain.transition("gate", "activate")
    for answers, spoil in enumerate((None, None, spoil_position, None), start=1):
        r.time = round(r.time + 0.1, 9)
        r.propose(spoil=spoil)
        r.propose(spoil=spoil)  # the same tick again: answered once only
        r.measure()  # after the command: it must be waited for
        executed = r.answered(answers)
        assert executed.hold == (spoil is not None)
        stamp = r.controller[-1].header.stamp
        assert stamp.sec + stamp.nanosec * 1e-9 == r.time
        assert executed.header.stamp == stamp
        assert (executed.sequence, executed.posterior_version) == (7, 3)
        r.follow()
        if executed.hold:
            assert executed.velocity.x == executed.velocity.y == 0.0
            r.commander.reset(PROFILE.named(r.q), r.time)
    ros_domain.wait_until(lambda: r.value("rejected/not_finite") == "1", "the count of the rejection")
    assert (r.value("accepted"), r.value("ignored")) == ("3", "5")
    assert "is not finite (1 such numbers); holding" in r.process.log()


def test_in_lockstep_nan_joint_states_are_answered_with_a_hold(rig: Any, ros_domain: Any) -> None:
    r = rig(lockstep=True)
    assert ros_domain.transition("gate", "activate")
    r.measure()
    r.propose()
    assert not r.answered(1).hold
    r.follow()
    r.time = round(r.time + 0.1, 9)
    r.propose()
    r.measure(np.full(7, np.nan))
    assert r.answered(2).hold
    r.follow()
    assert "in joint states is nan; holding" in r.process.log()


def test_in_lockstep_a_message_that_cannot_be_read_is_answered_too(rig: Any, ros_domain: Any) -> None:
    r = rig(lockstep=True)
    assert ros_domain.transition("gate", "activate")
    r.measure()
    r.propose(spoil=lambda m: m.trajectory.points[0].velocities.pop())
    assert r.answered(1).hold
    assert "it is not executed; holding" in r.process.log()


def test_a_planner_that_falls_silent_is_noticed_and_the_arm_held_once(rig: Any, ros_domain: Any) -> None:
    r = rig(lockstep=False)
    r.settle()
    assert ros_domain.transition("gate", "activate")
    r.propose()
    assert not r.answered(1).hold
    r.follow()
    r.tick(0.1)
    r.measure()
    r.propose()
    assert not r.answered(2).hold
    r.follow()
    r.tick(0.2)
    r.measure()
    r.tick(0.06)
    r.answered(3)
    assert r.executed[-1].hold
    ros_domain.wait_until(lambda: r.value("rejected/watchdog") == "1", "the count of the watchdog")
    r.tick(1.0)
    ros_domain.wait_until(lambda: r.value("command_age_s") == "1.260", "the clock to arrive")
    assert len(r.controller) == 3
    assert "no command for" in r.process.log()


def test_while_the_clock_stands_still_nothing_is_sent_that_a_new_simulator_could_take_up(
    rig: Any, ros_domain: Any
) -> None:
    r = rig(lockstep=False, clock_patience=0.5)
    r.settle()
    assert ros_domain.transition("gate", "activate")

    def passes() -> bool:
        r.tick(0.02)
        r.measure()
        r.commander.reset(PROFILE.named(r.q), r.time)
        r.propose((0.02, 0.0))
        ros_domain.spin_once()
        return bool(r.executed) and not r.executed[-1].hold

    ros_domain.wait_until(passes, "a command that is passed on while the clock moves")
    ros_domain.wait_until(lambda: r.value("last_problem").startswith("the clock has stood still"), "the gate to notice")
    sent, refused = len(r.controller), int(r.value("rejected/clock") or 0)
    r.propose((0.02, 0.0))
    ros_domain.wait_until(lambda: int(r.value("rejected/clock") or 0) > refused, "the command refused")
    assert r.controller[sent:] == []
    assert r.executed[-1].hold
    r.executed.clear()
    ros_domain.wait_until(passes, "motion when the clock moves again")


def test_the_emergency_stop_holds_at_once_and_latches_until_reset(rig: Any, ros_domain: Any) -> None:
    from std_srvs.srv import Trigger

    r = rig(lockstep=False)
    r.settle()
    assert ros_domain.transition("gate", "activate")
    r.propose()
    assert not r.answered(1).hold
    assert ros_domain.call(Trigger, "gate/estop").success
    assert r.answered(2).hold
    r.commander.reset(PROFILE.named(r.q), r.time)
    r.propose()
    assert r.answered(3).hold
    ros_domain.wait_until(lambda: r.value("estop") != "released", "the emergency stop in the diagnostics")
    status = next(s for m in reversed(r.reports) for s in m.status)
    assert "emergency stop: service gate/estop was called" in status.message
    assert ros_domain.call(Trigger, "gate/reset").success
    assert r.answered(4).hold  # for the planner: go on from here
    r.commander.reset(PROFILE.named(r.q + 0.02), r.time)
    r.propose()
    assert r.answered(5).hold
    assert "the first after the emergency stop, would begin" in r.process.log()
    r.commander.reset(PROFILE.named(r.q), r.time)
    r.propose()
    assert not r.answered(6).hold
    first = r.executed[-1].trajectory.points[0].positions
    assert np.abs(np.array(first) - r.q).max() <= 0.01


def test_deactivating_holds_and_then_nothing_is_sent(rig: Any, ros_domain: Any) -> None:
    r = rig(lockstep=False)
    r.settle()
    assert ros_domain.transition("gate", "activate")
    r.propose()
    assert not r.answered(1).hold
    assert ros_domain.transition("gate", "deactivate")
    assert r.answered(2).hold
    ros_domain.wait_until(lambda: r.value("active") == "False", "a report")
    r.propose()
    ros_domain.wait_until(lambda: r.value("ignored") == "1", "the count of ignored commands")
    assert len(r.controller) == 2  # and not a third


def test_an_unknown_robot_fails_to_configure_with_a_sentence(ros_domain: Any, node_process: Any) -> None:
    process = node_process("gate", {"profile": "robbie"})
    assert not ros_domain.transition("gate", "configure")
    assert ros_domain.state("gate") == "unconfigured"
    assert "robot profile 'robbie' is not in" in process.log()

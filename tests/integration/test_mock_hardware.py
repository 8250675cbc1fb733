"""Mock and gate as real nodes, each type of controller: nothing moves before activate, silence stops the arm."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.profile import load_profile
from crl_node.arm.schema import CONTROLLERS
from crl_node.command import Command
from crl_node.paths import share

pytestmark = pytest.mark.ros
LEAD = 0.06


class Rig:
    """Mock and gate as processes; the test is the planner."""

    def __init__(self, domain: Any, start: Any, folder: Path, kind: str) -> None:
        from crl_interfaces.msg import Command as CommandMessage
        from diagnostic_msgs.msg import DiagnosticArray
        from sensor_msgs.msg import JointState

        text = (share() / "config" / "robots" / "so101.yaml").read_text()
        path = folder / "arm.yaml"
        path.write_text(text.replace("type: joint_trajectory}", f"type: {kind}, timeout: 0.3}}"))
        self.domain, self.profile = domain, load_profile(path)
        self.mock = start("mock", {"robot": str(path), "things": 0, "joint_state_rate": 60, "max_lag": 1.0})
        self.gate = start("gate", {"profile": str(path)})
        assert domain.transition("gate", "configure"), self.gate.log()
        self.joints = domain.collect(JointState, "joint_states")
        package, _, name = CONTROLLERS[kind].split("/")
        module = __import__(f"{package}.msg", fromlist=[name])
        self.sent = domain.collect(getattr(module, name), self.profile.controller.topic, matched=False)
        self.executed = domain.collect(CommandMessage, "gate/executed", matched=False)
        self.reports = domain.collect(DiagnosticArray, "/diagnostics")
        self.commands = domain.publisher(CommandMessage, "planner/command")
        domain.wait_until(lambda: len(self.joints) > 3, "joint states of the mock")
        self.commander = TipCommander(self.profile)
        self.sequence = 0

    def state(self) -> tuple[float, np.ndarray, np.ndarray]:
        message = self.joints[-1]
        names = list(message.name)
        order = [names.index(name) for name in self.profile.joint_names]
        stamp = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        return stamp, np.array(message.position)[order], np.array(message.velocity)[order]

    def propose(self, velocity: tuple[float, float]) -> None:
        from crl_node.nodes import convert

        now = self.domain.node.get_clock().now().nanoseconds * 1e-9
        stamp, q, dq = self.state()
        named, rates = self.profile.named(q), self.profile.named(dq)
        chunk = self.commander.chunk(named, rates, np.array(velocity), start=now + LEAD, measured_at=stamp)
        self.sequence += 1
        command = Command(now + LEAD, self.sequence, now, 1, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)
        self.commands.publish(convert.command_to_message(command))
        adopted = len(self.executed)
        until = time.monotonic() + 0.1
        self.domain.wait_until(lambda: time.monotonic() >= until, "the next tick")
        for message in self.executed[adopted:]:
            given = convert.command_from_message(message)
            if given.hold and given.trajectory is not None:
                self.commander.adopt(given.trajectory, given.stamp)

    def hardware(self) -> dict[str, str]:
        """The mock's newest diagnostics."""
        found = [s for report in self.reports for s in report.status if s.name == "mock: hardware"]
        return {entry.key: entry.value for entry in found[-1].values} if found else {}

    def moved(self) -> float:
        home = self.profile.vector(self.profile.home)
        return float(np.abs(self.state()[1] - home).max())

    def move(self, least: float = 0.08) -> None:
        """Command until some joint has moved; the velocity turns round at the workspace's middle."""
        deadline = time.monotonic() + 60
        while self.moved() < least:
            self.propose((0.08, 0.0))
            assert time.monotonic() < deadline, f"the arm did not move\n{self.domain.logs()}"

    def at_rest(self) -> bool:
        return bool(np.abs(self.state()[2]).max() < 1e-3)


@pytest.mark.parametrize("kind", list(CONTROLLERS))
def test_nothing_moves_before_activate_then_the_arm_moves_until_silence_or_a_stop(
    ros_domain: Any, node_process: Any, tmp_path: Path, kind: str
) -> None:
    from std_srvs.srv import Trigger

    rig = Rig(ros_domain, node_process, tmp_path, kind)
    for _ in range(5):
        rig.propose((0.08, 0.0))
    assert rig.sent == [] and rig.moved() < 1e-3  # not active: nothing is sent
    assert ros_domain.transition("gate", "activate")
    rig.commander = TipCommander(rig.profile)
    rig.move()
    ros_domain.wait_until(rig.at_rest, "rest after silence")
    if kind != "joint_trajectory":
        ros_domain.wait_until(lambda: _zero(rig.sent[-1]), "zeros after silence")
    assert ros_domain.call(Trigger, "gate/estop").success
    ros_domain.wait_until(rig.at_rest, "rest after the emergency stop")
    before = rig.moved()
    for _ in range(6):
        rig.propose((0.08, 0.0))
    assert abs(rig.moved() - before) < 0.01  # latched
    assert ros_domain.transition("gate", "deactivate")
    for _ in range(50):  # what had arrived by then waits in a queue of ten
        ros_domain.spin_once()
    count = len(rig.sent)
    for _ in range(3):
        rig.propose((0.08, 0.0))
    assert len(rig.sent) == count
    if kind != "joint_trajectory":
        assert _zero(rig.sent[-1])
    ros_domain.wait_until(lambda: int(rig.hardware().get("commands_accepted", 0)) > 0, "the mock's diagnostics")
    assert rig.hardware()["errors"] == "0", rig.mock.log()
    lower, upper = (np.array([rig.profile.urdf_limits[n][i] for n in rig.profile.joint_names]) for i in (0, 1))
    positions = rig.state()[1]
    assert (positions > lower).all() and (positions < upper).all()


@pytest.mark.parametrize("kind", ["forward_velocity", "servo_twist"])
def test_when_the_gate_is_killed_in_motion_the_controllers_own_timeout_stops_the_arm(
    ros_domain: Any, node_process: Any, tmp_path: Path, kind: str
) -> None:
    rig = Rig(ros_domain, node_process, tmp_path, kind)
    assert ros_domain.transition("gate", "activate")
    rig.move(0.05)
    rig.gate.kill()
    ros_domain.wait_until(rig.at_rest, "rest without a gate")


def test_the_live_check_finds_a_driver_in_degrees_and_a_controller_that_is_not_there(
    ros_domain: Any, node_process: Any
) -> None:
    from crl_node.robot_checking import check

    node_process("mock", {"robot": "so101", "things": 0, "degrees": True}, remappings={
        "arm_controller/joint_trajectory": "/elsewhere"})  # fmt: skip
    from sensor_msgs.msg import Image, JointState

    joints, images = ros_domain.collect(JointState, "joint_states"), ros_domain.collect(Image, "camera/image_raw")
    ros_domain.wait_until(lambda: len(joints) > 3 and len(images) > 3, "the mock")
    findings = check("so101", live=True, seconds=3.0, overrides={}, domain_id=ros_domain.id)
    text = " | ".join(entry.sentence for entry in findings.entries if not entry.ok)
    assert "joint states look like degrees" in text
    assert "nobody reads arm_controller/joint_trajectory" in text
    assert findings.errors >= 2


def _zero(message: Any) -> bool:
    if hasattr(message, "twist"):
        linear, angular = message.twist.linear, message.twist.angular
        return not any((linear.x, linear.y, linear.z, angular.x, angular.y, angular.z))
    return not any(message.data)

"""Faults put into running nodes: a relay that spoils a topic on its way, and floods of messages that are none."""

from __future__ import annotations

import array
import math
import random
from collections.abc import Callable
from typing import Any

#: Numbers nobody should send.
HOSTILE = (math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.0, 1e6)


class Relay:
    """Forwards `source` to `target`, through `spoil` (None: the message is lost). Serve it by spinning the domain."""

    def __init__(self, domain: Any, kind: Any, source: str, target: str) -> None:
        self.spoil: Callable[[Any], Any] = lambda message: message
        self.passed = 0
        self.last_stamp = 0.0  # s, of the last message that went through
        self._out = domain.node.create_publisher(kind, target, 10)
        domain.node.create_subscription(kind, source, self._on_message, 10)

    def _on_message(self, message: Any) -> None:
        spoiled = self.spoil(message)
        if spoiled is None:
            return
        for one in spoiled if isinstance(spoiled, list) else [spoiled]:
            self._out.publish(one)
            self.passed += 1
            self.last_stamp = one.header.stamp.sec + one.header.stamp.nanosec * 1e-9


class Flood:
    """A gate and a learner under a hail of bytes that cannot be read and messages that make no sense."""

    def __init__(self, domain: Any, start: Callable[..., Any], rng: random.Random) -> None:
        from crl_interfaces.msg import Command
        from rclpy.serialization import serialize_message
        from sensor_msgs.msg import Image, JointState
        from trajectory_msgs.msg import JointTrajectory

        self.domain, self.rng = domain, rng
        self.nodes = {name: start(name) for name in ("gate", "learner")}
        for name in self.nodes:
            assert domain.transition(name, "configure"), domain.logs()
            assert domain.transition(name, "activate"), domain.logs()
        self.trajectories = domain.collect(JointTrajectory, "arm_controller/joint_trajectory")
        self._out = {
            kind: domain.publisher(kind, topic)
            for kind, topic in ((Command, "planner/command"), (JointState, "joint_states"), (Image, "camera/image_raw"))
        }
        self._serialise = serialize_message

    def send(self, count: int) -> int:
        """Send `count` messages, a third of them bytes that are no message; the nodes are spun for now and then."""
        kinds = list(self._out)
        for number in range(count):
            kind = self.rng.choice(kinds)
            message = self._message(kind)
            if self.rng.random() < 0.34:
                self._out[kind].publish(self._garbled(self._serialise(message)))
            else:
                self._out[kind].publish(message)
            if number % 100 == 99:
                self._good_joint_state()
                self.domain.spin_once()
        return count

    def _good_joint_state(self) -> None:
        """So that the gate knows where the arm is, and holds it there in answer to nonsense."""
        from sensor_msgs.msg import JointState

        from crl_node.arm.profile import load_profile

        profile = load_profile("iiwa_sim")
        message = JointState(name=list(profile.joint_names), position=[profile.home[n] for n in profile.joint_names])
        message.header.stamp = self.domain.node.get_clock().now().to_msg()
        self._out[JointState].publish(message)

    def _garbled(self, data: bytes) -> bytes:
        rng, data = self.rng, bytearray(data)
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.5:
            data = data[: rng.randint(0, len(data))]
        return bytes(data)

    def _number(self) -> float:
        return self.rng.choice(HOSTILE) if self.rng.random() < 0.3 else self.rng.uniform(-3, 3)

    def _message(self, kind: Any) -> Any:
        rng, message = self.rng, kind()
        message.header.stamp.sec = rng.choice((0, 1, -1, 2**31 - 1, -(2**31), 100))
        message.header.stamp.nanosec = rng.choice((0, 999_999_999, 2**32 - 1))
        names = [rng.choice(("lbr_iiwa_joint_1", "elbow", "", "\u0000", "x" * 300)) for _ in range(rng.randint(0, 8))]
        if kind.__name__ == "JointState":
            message.name = names
            message.position = [self._number() for _ in range(rng.randint(0, 8))]
            message.velocity = [self._number() for _ in range(rng.randint(0, 8))]
        elif kind.__name__ == "Image":
            message.encoding = rng.choice(("rgb8", "mono8", "", "32FC3", "rgb8\u0000", "x" * 1000))
            message.width, message.height = rng.choice((0, 96, 2**32 - 1)), rng.choice((0, 96, 2**32 - 1))
            message.step = rng.choice((0, 288, 2**32 - 1))
            message.data = array.array("B", bytes(rng.choice((0, 1, 96 * 288))))
        else:
            from trajectory_msgs.msg import JointTrajectoryPoint

            message.hold = rng.random() < 0.3
            message.velocity.x, message.velocity.y = self._number(), self._number()
            message.trajectory.joint_names = names
            for _ in range(rng.choice((0, 1, 3, 200))):
                point = JointTrajectoryPoint()
                point.positions = [self._number() for _ in range(rng.randint(0, 8))]
                point.velocities = [self._number() for _ in range(rng.randint(0, 8))]
                message.trajectory.points.append(point)
        return message

    def assert_alive(self) -> None:
        """The nodes still answer, and are still active."""
        for name, process in self.nodes.items():
            assert process.popen.poll() is None, f"{name} has died\n{process.log()[-3000:]}"
            assert self.domain.state(name) == "active", process.log()[-3000:]

    def not_finite(self) -> int:
        """Numbers on the controller's topic that are not finite."""
        points = [p for t in self.trajectories for p in t.points]
        return sum(not math.isfinite(v) for p in points for v in (*p.positions, *p.velocities))

    def moves(self) -> float:
        """Largest joint velocity on the controller's topic, rad/s; 0 without any."""
        return max((abs(v) for t in self.trajectories for p in t.points for v in p.velocities), default=0.0)

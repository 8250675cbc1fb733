"""Moves the arm through its workspace for a calibration; writes down where the marker is seen and the table felt.

It stands where the planner stands: its commands go to the gate, and nowhere else.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from crl_interfaces.msg import Command as CommandMessage
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image, JointState

from crl_node.arm.marker import find_marker
from crl_node.arm.visiting import Visitor, places
from crl_node.command import Command
from crl_node.data import Array
from crl_node.nodes import convert
from crl_node.nodes.base import ManagedNode, run, stamp_to_seconds
from crl_node.nodes.robot_profile import robot_profile
from crl_node.perception.validate import decode_image

#: A command is on its way to the gate for this long, s.
LEAD = 0.04


class CalibratorNode(ManagedNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("calibrator")
        self._owned: list[tuple[str, object]] = []
        self._visitor: Visitor | None = None

    def setup(self) -> None:
        profile = robot_profile(self, self.params.robot)
        if profile.marker is None:
            raise ValueError(f"the profile '{profile.name}' has no `marker`; a calibration looks for one")
        if not self.params.out:
            raise ValueError("parameter 'out' is empty; the measurements must go somewhere")
        self._profile, self._colour = profile, profile.marker.colour
        targets = places(profile, self.params.columns, self.params.touch_depth > 0)
        self._visitor = Visitor(profile, targets, self.params.touch_depth, self.params.patience)
        self._joints: tuple[float, Array, Array] | None = None
        self._sequence = 0
        self._start = 0.0  # s, of the last command sent
        self._size = (0, 0)
        self._written = False
        self._commands = self.create_lifecycle_publisher(CommandMessage, "planner/command", 10)
        subscriptions = [
            self.create_subscription(JointState, "joint_states", self.guarded(self._on_joints), 1),
            self.create_subscription(Image, "camera/image_raw", self.guarded(self._on_image), 1),
            self.create_subscription(CommandMessage, "gate/executed", self.guarded(self._on_executed), 10),
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self.create_timer(profile.command_duration, self.guarded(self._tick), clock=steady)
        self._owned = [("publisher", self._commands), ("timer", timer), *(("subscription", s) for s in subscriptions)]
        self.get_logger().info(f"{len(targets)} places to visit with '{profile.name}'")

    def teardown(self) -> None:
        for kind, entity in self._owned:
            getattr(self, f"destroy_{kind}")(entity)
        self._owned = []
        self._visitor = None

    @property
    def visitor(self) -> Visitor:
        """There between configure and clean-up."""
        if self._visitor is None:
            raise RuntimeError("the calibrator is not configured")
        return self._visitor

    def _on_joints(self, message: JointState) -> None:
        names = list(message.name)
        q = self._profile.vector(dict(zip(names, message.position, strict=False)))
        dq = self._profile.vector(dict(zip(names, message.velocity or [0.0] * len(names), strict=False)))
        if np.isfinite(q).all() and np.isfinite(dq).all():
            self._joints = stamp_to_seconds(message.header.stamp), q, dq

    def _on_executed(self, message: CommandMessage) -> None:
        """Go on from what the gate made of a command."""
        command = convert.command_from_message(message)
        if command.hold:
            self.visitor.disturbed()
        as_sent = command.sequence == self._sequence and not command.hold and command.stamp <= self._start + 1e-6
        if command.trajectory is not None and not as_sent:
            self.visitor.commander.adopt(command.trajectory, command.stamp)

    def _on_image(self, message: Image) -> None:
        stamp = stamp_to_seconds(message.header.stamp)
        if not self.active or self._joints is None or not self.visitor.resting(stamp, self.params.settle):
            return
        image = decode_image(
            message.data, width=message.width, height=message.height, step=message.step, encoding=message.encoding,
            expected=(message.width, message.height),
        )  # fmt: skip
        self._size = (int(message.width), int(message.height))
        blob = find_marker(image, self._colour)
        self.visitor.record(self._joints[1], None if blob is None else blob.centre)
        self.get_logger().info(f"{self.visitor.at} of {len(self.visitor.targets)} places", throttle_duration_sec=3.0)

    def _tick(self) -> None:
        if not self.active or self._joints is None:
            return
        now = self.now()
        stamp, q, dq = self._joints
        controller = self._profile.controller
        self._start = start = now + LEAD + (0.0 if controller.streams else controller.latency)
        chunk = self.visitor.chunk(now, start, stamp, q, dq)
        self._sequence += 1
        profile = self._profile
        command = Command(
            start, self._sequence, stamp, 0, False, chunk.velocity, profile.command_duration, profile.command_ramp,
            chunk.trajectory,
        )  # fmt: skip
        self._commands.publish(convert.command_to_message(command, profile.base_frame))
        if self.visitor.place is None and not self._written:
            self._write()

    def _write(self) -> None:
        self._written = True
        found = self.visitor.measurements
        out = Path(self.params.out)
        partial = out.with_name(f".{out.name}.partial")
        content = {
            "joint_names": list(self._profile.joint_names),
            "joints": [q.tolist() for q in found.joints],
            "pixels": [p.tolist() for p in found.pixels],
            "touches": [t.tolist() for t in found.touches],
            "missed": found.missed,
            "image_size": list(self._size),
        }
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(out)
        self.get_logger().info(f"wrote {out}: {len(found.pixels)} pictures, {len(found.touches)} touches")


def main() -> None:
    """Entry point of the executable `calibrator`."""
    run(CalibratorNode)


if __name__ == "__main__":
    main()

"""Mock hardware: what an arm's driver, its controller and a camera do, for a robot that is not here.

Publishes joint_states, camera/image_raw, camera/camera_info and robot_description, and obeys the controller that the
profile names (trajectories, velocities or twists). Like hardware it is there before anybody else, is managed by nobody,
and lives in real time. Its table is PyBullet's; nobody is told the truth about it.
"""

from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from crl_node.arm.profile import RobotProfile, TablePlane, load_profile
from crl_node.calibration import Calibration, load_calibration
from crl_node.nodes import parameters
from crl_node.nodes import sim_messages as messages
from crl_node.nodes.base import Guard, run
from crl_node.simulator.controller import TrajectoryRejectedError
from crl_node.simulator.engine import RATE, Simulator
from crl_node.simulator.mock_arm import drawn, mock_world, rotor_inertia
from crl_node.simulator.mock_controller import MockController, MockOptions

#: How often the wall clock is looked at, s.
TICK = 0.004
#: Physics that is so far behind draws no picture, s.
FRAME_LAG = 0.1
#: Period of the diagnostics, s.
REPORT_PERIOD = 1.0


class MockNode(Guard, Node):
    """One mocked arm on one table."""

    def __init__(self) -> None:
        super().__init__("mock")
        self.error_counts = Counter()
        self.params = parameters.declare(self, "mock")
        given = self.params
        profile = load_profile(given.robot)
        calibration = load_calibration(given.camera or profile.camera.calibration)
        if RATE % given.joint_state_rate:
            raise ValueError(f"joint_state_rate is {given.joint_state_rate} Hz; allowed: divisors of {RATE}")
        self._profile = profile
        self._simulator = _simulator(profile, calibration, given)
        start = self._simulator.joint_state()[1]
        options = MockOptions(
            given.delay, given.path_tolerance, given.goal_tolerance, given.goal_time,
            given.command_timeout or profile.controller.timeout,
        )  # fmt: skip
        self._controller = MockController(profile, start, options)
        self._simulator.driver = self._controller
        self._joint_steps = RATE // given.joint_state_rate
        self._frame_steps = round(RATE * calibration.period)
        # Drivers do not keep to the URDF's order, and they tell of joints that are not the arm's.
        self._order = sorted(range(len(profile.joint_names)), key=lambda i: profile.joint_names[i], reverse=True)
        self._frames = self._dropped = 0
        self._given_up = 0.0
        self._last_problem = ""
        self._open()
        self._anchor()
        self.get_logger().info(
            f"mock of '{profile.name}': {profile.controller.type} controller at {profile.controller.topic}, camera "
            f"{calibration.camera.width}x{calibration.camera.height}, {given.things} things"
        )

    def _open(self) -> None:
        small, images = QoSProfile(depth=10), QoSProfile(depth=5)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._joints_out = self.create_publisher(JointState, "joint_states", small)
        self._image_out = self.create_publisher(Image, "camera/image_raw", images)
        self._info_out = self.create_publisher(CameraInfo, "camera/camera_info", small)
        self._description_out = self.create_publisher(String, "robot_description", latched)
        self._diagnostics_out = self.create_publisher(DiagnosticArray, "/diagnostics", small)
        self._description_out.publish(String(data=self._profile.description))
        kind, callback = {
            "joint_trajectory": (JointTrajectory, self._on_trajectory),
            "forward_velocity": (Float64MultiArray, self._on_velocities),
            "servo_twist": (TwistStamped, self._on_twist),
        }[self._profile.controller.type]
        self._commands_in = self.create_subscription(
            kind, self._profile.controller.topic, self.guarded(callback), small
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK, self.guarded(self._tick), clock=steady)
        self.create_timer(REPORT_PERIOD, self.guarded(self._report), clock=steady)

    # -- commands -----------------------------------------------------------------------------------------------------

    def _take_commands(self) -> None:
        """What has come while this process drew or did not run: a controller in a thread of its own would have it."""
        handle = self._commands_in.handle
        with handle:
            while (taken := handle.take_message(self._commands_in.msg_type, False)) is not None:
                self._commands_in.callback(*taken)

    def _arrival(self, info: dict[str, int]) -> float:
        """When a message came, s of the physics: then it acts, even if this process gets round to it later."""
        stamp = info.get("received_timestamp") or info.get("source_timestamp") or 0
        now = self._now()
        return min((stamp - self._epoch) / 1e9, now) if stamp else now

    def _on_trajectory(self, message: JointTrajectory, info: dict[str, int]) -> None:
        if not message.points:
            return  # as the real controller: nothing is replaced
        joints = len(message.joint_names)
        for index, point in enumerate(message.points):
            if len(point.positions) != joints or len(point.velocities) not in (0, joints):
                self._refuse(
                    f"command rejected: point {index} has {len(point.positions)} positions and {len(point.velocities)} "
                    f"velocities for {joints} joints; the motion in progress goes on"
                )
                return
        moving = all(len(point.velocities) == joints for point in message.points)
        stamp = messages.stamp_to_nanoseconds(message.header.stamp)
        now = self._arrival(info)
        times = [messages.stamp_to_nanoseconds(point.time_from_start) / 1e9 for point in message.points]
        try:
            self._controller.trajectory(
                list(message.joint_names),
                np.array(times),
                np.array([point.positions for point in message.points], float).reshape(-1, joints),
                np.array([point.velocities for point in message.points], float) if moving else None,
                start=now if stamp == 0 else (stamp - self._epoch) / 1e9,
                now=now,
            )
        except TrajectoryRejectedError as error:
            self._refuse(str(error))

    def _on_velocities(self, message: Float64MultiArray, info: dict[str, int]) -> None:
        label = message.layout.dim[0].label if message.layout.dim else ""
        try:
            self._controller.velocities(message.data, label, self._arrival(info))
        except TrajectoryRejectedError as error:
            self._refuse(str(error))

    def _on_twist(self, message: TwistStamped, info: dict[str, int]) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        try:
            self._controller.twist(twist, message.header.frame_id, self._arrival(info))
        except TrajectoryRejectedError as error:
            self._refuse(str(error))

    def _refuse(self, sentence: str) -> None:
        self._last_problem = sentence
        self.get_logger().error(sentence, throttle_duration_sec=1.0)

    # -- time -------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """Where the physics should be, s."""
        return self._base + time.monotonic() - self._wall

    def _tick(self) -> None:
        simulator = self._simulator
        lag = self._now() - simulator.time
        if lag > self.params.max_lag:
            self._given_up += lag
            self.get_logger().warning(
                f"physics is {lag:.2f} s behind: that time is given up, {self._given_up:.2f} s so far",
                throttle_duration_sec=5.0,
            )
            self._anchor()
            return
        target = int(self._now() * RATE)
        while simulator.steps < target:
            self._take_commands()
            to_event = self._joint_steps - simulator.steps % self._joint_steps
            simulator.step(min(to_event, target - simulator.steps))
            if simulator.steps % self._joint_steps == 0:
                self._publish_joints()
            if simulator.steps % self._frame_steps == 0:
                if self._now() - simulator.time > FRAME_LAG:
                    self._dropped += 1  # as a camera does whose machine is busy
                else:
                    self._publish_frame()

    def _anchor(self) -> None:
        """Let the physics run from here and now."""
        self._wall, self._base = time.monotonic(), self._simulator.time
        self._epoch = self.get_clock().now().nanoseconds - self._simulator.time_ns

    def _stamp(self) -> int:
        """The clock's time of the physics' instant, ns; it grows as evenly as the physics."""
        return int(self._epoch + self._simulator.time_ns)

    def _publish_joints(self) -> None:
        names, q, dq, effort = self._simulator.joint_state()
        problem = self._controller.watch(self._simulator.time, q)
        if problem:
            self._refuse(problem)
        unit = 180.0 / np.pi if self.params.degrees else 1.0
        locked = self._profile.locked
        order = self._order
        message = messages.joint_state_message(
            (*(names[i] for i in order), *locked),
            np.concatenate([q[order] * unit, list(locked.values())]),
            np.concatenate([dq[order] * unit, np.zeros(len(locked))]),
            np.concatenate([effort[order], np.zeros(len(locked))]),
            messages.nanoseconds_to_stamp(self._stamp()),
        )
        self._joints_out.publish(message)

    def _publish_frame(self) -> None:
        stamp = messages.nanoseconds_to_stamp(self._stamp())
        image = self._simulator.render()
        frame = self.params.camera_frame
        self._info_out.publish(messages.camera_info_message(self._simulator.camera, stamp, frame))
        self._image_out.publish(messages.image_message(image, stamp, frame))
        self._frames += 1

    def _report(self) -> None:
        controller = self._controller
        problems = sum(controller.problems.values())
        level = DiagnosticStatus.WARN if problems or self._given_up else DiagnosticStatus.OK
        values = {
            "commands_accepted": controller.accepted,
            **{f"refused/{reason}": count for reason, count in sorted(controller.problems.items())},
            "silences": controller.silences,
            "frames": self._frames,
            "frames_dropped": self._dropped,
            "followed_acceleration": f"{controller.largest_acceleration:.3f}",
            "given_up_s": f"{self._given_up:.3f}",
            "errors": self.error_count,
            "last_problem": self._last_problem,
        }
        status = DiagnosticStatus(
            name="mock: hardware", hardware_id=self._profile.name, level=level,
            message=f"{problems} commands refused or aborted" if problems else "running",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )  # fmt: skip
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_out.publish(message)

    def close(self) -> None:
        """Free the physics server."""
        self._simulator.close()


def _simulator(profile: RobotProfile, calibration: Calibration, given: SimpleNamespace) -> Simulator:
    params = vars(given)
    plane = profile.table_plane
    really = TablePlane(
        plane.height + params["table_height"], plane.roll + params["table_roll"], plane.pitch + params["table_pitch"]
    )
    return Simulator(
        mock_world(profile, calibration, params["things"]),
        profile,
        params["seed"],
        camera=calibration.camera,
        over_fence=True,
        arm_options={
            "description": drawn(profile, marker=params["draw_marker"]),
            "plane": really,
            "friction": params["friction"],
            "rotor_inertia": rotor_inertia(profile),
        },
    )


def main() -> None:
    """Entry point of the executable `mock`."""
    run(MockNode, raw=True)  # it asks when messages came


if __name__ == "__main__":
    main()

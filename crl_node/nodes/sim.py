"""The simulator as a ROS 2 node: a real arm's topics, and the ground truth beside them.

Publishes camera/image_raw, camera/camera_info, joint_states, /clock and sim/ground_truth; obeys
arm_controller/joint_trajectory as a joint_trajectory_controller does. Time runs while the node is active: with
the wall clock (times `rtf`), or in lockstep, where each frame waits for the command that answers it.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from crl_interfaces.msg import GroundTruth
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from crl_node.arm.profile import load_profile
from crl_node.nodes import sim_messages as messages
from crl_node.nodes.base import ManagedNode, run
from crl_node.nodes.convert import header
from crl_node.simulator.controller import TrajectoryRejectedError
from crl_node.simulator.engine import RATE, Simulator
from crl_node.simulator.world import World, WorldError, load_world

#: How often the wall clock is looked at in real time, s.
TICK = 0.005
#: How often lockstep looks whether everybody is there, and how long the circle must have been stable, s.
GATHER_PERIOD, GATHER_STABLE = 0.05, 0.5
#: Periods of what is published while nothing moves, and of the diagnostics, s of wall time.
IDLE_PERIOD, REPORT_PERIOD = 0.1, 1.0


class SimNode(ManagedNode):
    """One simulated world."""

    def __init__(self) -> None:
        super().__init__("sim")
        self._simulator: Simulator | None = None

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        profile = load_profile(self.params.robot)
        world = _overridden(load_world(self.params.world), self.params)
        if RATE % self.params.joint_state_rate:
            raise ValueError(
                f"joint_state_rate is {self.params.joint_state_rate} Hz; allowed: divisors of {RATE}"
            )
        seed = world.seed if self.params.seed < 0 else self.params.seed
        self._simulator = Simulator(world, profile, seed)
        self._frame_id = profile.base_frame
        self._frame_steps = round(RATE / world.camera.rate)
        self._joint_steps = RATE // self.params.joint_state_rate
        self._answered = 0  # lockstep: ticks answered; real time: frames published
        self._late = self._rejected = self._ignored = 0
        self._given_up = 0.0  # s of simulated time
        self._waiting = self._done = False
        self._timings: dict[str, list[float]] = {"advance": [], "render": []}
        small, images = QoSProfile(depth=10), QoSProfile(depth=5)
        self._clock_out = self.create_publisher(ClockMessage, "/clock", small)
        self._joints_out = self.create_publisher(JointState, "joint_states", small)
        self._image_out = self.create_publisher(Image, "camera/image_raw", images)
        self._info_out = self.create_publisher(CameraInfo, "camera/camera_info", small)
        self._truth_out = self.create_publisher(GroundTruth, "sim/ground_truth", small)
        self._diagnostics_out = self.create_publisher(DiagnosticArray, "/diagnostics", small)
        self._trajectory_in = self.create_subscription(
            JointTrajectory, "arm_controller/joint_trajectory", self.guarded(self._on_trajectory), small
        )
        # Timers on the machine's clock: this node makes simulated time, it cannot wait for it.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._ticker = self.create_timer(TICK, self.guarded(self._tick), clock=steady, autostart=False)
        self._gatherer = self.create_timer(
            GATHER_PERIOD, self.guarded(self._gather), clock=steady, autostart=False
        )
        self._reporter = self.create_timer(REPORT_PERIOD, self.guarded(self._report), clock=steady)
        self._idler = self.create_timer(IDLE_PERIOD, self.guarded(self._idle), clock=steady)
        self.get_logger().info(
            f"world '{world.name}' ({len(world.things)} things, seed {seed}), camera {world.camera.width}x"
            f"{world.camera.height} at {world.camera.rate:g} Hz, "
            + ("lockstep" if self.params.lockstep else f"real-time factor {self.params.rtf:g}")
        )

    def start(self) -> None:
        if self.params.lockstep:
            self._circle, self._circle_since = (0, 0), time.monotonic()
            self._gatherer.reset()
        else:
            self._anchor()
            if self._simulator is not None and self._simulator.steps == 0:
                self._publish_state()
                self._publish_frame()
            self._ticker.reset()

    def stop(self) -> None:
        self._ticker.cancel()
        self._gatherer.cancel()
        self._waiting = False

    def teardown(self) -> None:
        for name in ("_ticker", "_gatherer", "_reporter", "_idler"):
            if getattr(self, name, None) is not None:
                self.destroy_timer(getattr(self, name))
                setattr(self, name, None)
        if getattr(self, "_trajectory_in", None) is not None:
            self.destroy_subscription(self._trajectory_in)
            self._trajectory_in = None
        for name in (
            "_clock_out",
            "_joints_out",
            "_image_out",
            "_info_out",
            "_truth_out",
            "_diagnostics_out",
        ):
            if getattr(self, name, None) is not None:
                self.destroy_publisher(getattr(self, name))
                setattr(self, name, None)
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    # -- commands -----------------------------------------------------------------------------------------------------

    def _on_trajectory(self, message: JointTrajectory) -> None:
        simulator = self._simulator
        if simulator is None or not self.active:
            self._ignored += 1
            return
        stamp = messages.stamp_to_nanoseconds(message.header.stamp)
        if self.params.lockstep and (not self._waiting or stamp != simulator.time_ns):
            self._late += 1
            self.get_logger().warning(
                f"trajectory stamped {stamp / 1e9:.3f} s answers no frame (it is {simulator.time:.3f} s, "
                f"{'waiting' if self._waiting else 'not waiting'} for one): ignored, {self._late} so far",
                throttle_duration_sec=5.0,
            )
            return
        try:
            # As the controller: a stamp of zero starts at once. Without points nothing is replaced.
            if message.points:
                self._execute(message, stamp / 1e9 if stamp else simulator.time)
        except (TrajectoryRejectedError, ValueError) as error:
            self._rejected += 1
            self.get_logger().error(f"{error} ({self._rejected} rejected so far)", throttle_duration_sec=1.0)
        if self.params.lockstep:
            self._waiting = False
            self._advance(self._frame_steps)
            self._lockstep_tick()

    def _execute(self, message: JointTrajectory, start: float) -> None:
        assert self._simulator is not None
        joints = len(message.joint_names)
        for index, point in enumerate(message.points):
            for field in ("positions", "velocities"):
                count = len(getattr(point, field))
                if count != joints and not (field == "velocities" and count == 0):
                    raise TrajectoryRejectedError(
                        f"trajectory rejected: point {index} has {count} {field} for {joints} joints; "
                        "the motion in progress goes on"
                    )
        given = [len(point.velocities) == joints for point in message.points]
        if any(given) and not all(given):
            raise TrajectoryRejectedError(
                f"trajectory rejected: point {given.index(False)} has no velocities while others have; "
                "the motion in progress goes on"
            )
        self._simulator.controller.command(
            message.joint_names,
            np.array(
                [messages.stamp_to_nanoseconds(point.time_from_start) / 1e9 for point in message.points]
            ),
            np.array([point.positions for point in message.points], float).reshape(-1, joints),
            np.array([point.velocities for point in message.points], float).reshape(-1, joints)
            if all(given)
            else None,
            start=start,
            now=self._simulator.time,
        )

    # -- time ---------------------------------------------------------------------------------------------------------

    def _advance(self, steps: int) -> None:
        assert self._simulator is not None
        begin = time.perf_counter()
        self._simulator.limp(self.params.limp_joint)
        self._simulator.step(steps)
        self._timings["advance"].append(time.perf_counter() - begin)

    @property
    def _finished(self) -> bool:
        """`duration` is over; says so once."""
        assert self._simulator is not None
        over = bool(0 < self.params.duration <= self._simulator.time + 1e-9)
        if over and not self._done:
            self._done = True
            self.get_logger().info(
                f"{self._simulator.time:g} simulated seconds are over; nothing more is published"
            )
        return over

    def _gather(self) -> None:
        """Lockstep begins when somebody sees the frames, somebody commands, and no one has joined for a while."""
        circle = (
            self._image_out.get_subscription_count() + self._joints_out.get_subscription_count(),
            self.count_publishers(self._trajectory_in.topic_name),
        )
        if circle != self._circle or not all(circle):
            self._circle, self._circle_since = circle, time.monotonic()
            self.get_logger().info(
                f"lockstep waits for the others: {circle[0]} subscriptions to frames and joints, "
                f"{circle[1]} publishers of trajectories",
                throttle_duration_sec=5.0,
            )
        elif time.monotonic() - self._circle_since >= GATHER_STABLE:
            self._gatherer.cancel()
            self._lockstep_tick()

    def _lockstep_tick(self) -> None:
        """Publish the instant, then wait for its command."""
        if self._done:
            return
        self._waiting = not self._finished
        self._publish_state()
        self._publish_frame()

    def _anchor(self) -> None:
        """Let simulated time run from here and now."""
        assert self._simulator is not None
        self._rtf = self.params.rtf
        self._wall, self._base = time.monotonic(), self._simulator.time

    def _tick(self) -> None:
        """Real time: bring the physics to where the wall clock is, frame by frame."""
        simulator = self._simulator
        if simulator is None or not self.active or self._done:
            return
        if self._rtf != self.params.rtf:
            self._anchor()
        wanted = self._base + (time.monotonic() - self._wall) * self._rtf
        lag = wanted - simulator.time
        if lag > self.params.max_lag * max(1.0, self._rtf):
            # Catching up would take longer than the time it catches up with, and so on for ever.
            self._given_up += lag
            self.get_logger().warning(
                f"physics is {lag:.2f} s behind at {simulator.time:.2f} s: that time is given up, "
                f"{self._given_up:.2f} s so far (lower rtf, or a smaller image)",
                throttle_duration_sec=5.0,
            )
            self._anchor()
            return
        target = int(wanted * RATE)
        while simulator.steps < target and not self._finished:
            to_event = min(self._joint_steps - simulator.steps % self._joint_steps, self._to_frame())
            if simulator.steps + to_event > target:
                self._advance(target - simulator.steps)
                break
            self._advance(to_event)
            self._publish_state()
            if simulator.steps % self._frame_steps == 0:
                self._publish_frame()

    def _to_frame(self) -> int:
        assert self._simulator is not None
        return self._frame_steps - self._simulator.steps % self._frame_steps

    # -- publishing ---------------------------------------------------------------------------------------------------

    def _publish_state(self) -> None:
        assert self._simulator is not None
        stamp = messages.nanoseconds_to_stamp(self._simulator.time_ns)
        self._clock_out.publish(ClockMessage(clock=stamp))
        self._joints_out.publish(messages.joint_state_message(*self._simulator.joint_state(), stamp))

    def _publish_frame(self) -> None:
        simulator = self._simulator
        assert simulator is not None
        stamp = messages.nanoseconds_to_stamp(simulator.time_ns)
        begin = time.perf_counter()
        image = simulator.render()
        self._timings["render"].append(time.perf_counter() - begin)
        self._truth_out.publish(messages.truth_message(simulator.truth(), stamp, self._frame_id))
        self._info_out.publish(
            messages.camera_info_message(simulator.camera, stamp, self.params.camera_frame)
        )
        self._image_out.publish(messages.image_message(image, stamp, self.params.camera_frame))
        self._answered += 1

    def _idle(self) -> None:
        """Before activation in real time: the joints are there, and time stands still."""
        if self._simulator is not None and not self.active and not self.params.lockstep and not self._done:
            self._publish_state()

    def _report(self) -> None:
        if self._simulator is None or self._done:
            return
        status = DiagnosticStatus(
            name="sim: simulator", hardware_id=self.params.world, level=DiagnosticStatus.OK
        )
        status.message = "running" if self.active else "waiting for activation"
        if self._given_up > 0 or self._rejected > 0:
            status.level = DiagnosticStatus.WARN
            status.message = f"{self._given_up:.2f} s given up, {self._rejected} trajectories rejected"
        values = {
            "time_s": f"{self._simulator.time:.3f}",
            "frames": self._answered,
            "given_up_s": f"{self._given_up:.3f}",
            "trajectories_rejected": self._rejected,
            "trajectories_stale": self._late,
            "trajectories_while_inactive": self._ignored,
        }
        for name, seconds in self._timings.items():
            if seconds:
                values[f"{name}_ms_p50"] = f"{1e3 * float(np.median(seconds)):.2f}"
                values[f"{name}_ms_max"] = f"{1e3 * max(seconds):.2f}"
                seconds.clear()
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        # Diagnostics speak of this machine, so they carry its time.
        self._diagnostics_out.publish(DiagnosticArray(header=header(time.time()), status=[status]))


def _overridden(world: World, params: object) -> World:
    """The world with the camera the parameters ask for."""
    camera = world.camera
    rate = getattr(params, "camera_rate") or camera.rate  # noqa: B009
    if RATE % rate:
        raise WorldError(f"parameter camera_rate is {rate:g} Hz; allowed: divisors of {RATE} up to 60, or 0")
    width = getattr(params, "camera_width") or camera.width  # noqa: B009
    height = getattr(params, "camera_height") or camera.height  # noqa: B009
    if min(width, height) < 16:
        raise WorldError(
            f"camera_width and camera_height ask for {width}x{height} px; allowed: 16 to 1024, or 0"
        )
    return replace(world, camera=replace(camera, rate=rate, width=width, height=height))


def main() -> None:
    """Run the node."""
    run(SimNode)

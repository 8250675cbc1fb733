"""The gate: the only publisher to the arm's controller. The rules are in `crl_node.arm.gate`."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from crl_interfaces.msg import Command as CommandMessage
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from crl_node.arm.gate import Gate as Logic
from crl_node.arm.standing_clock import StandingClock
from crl_node.arm.stream import Stream
from crl_node.command import Command
from crl_node.nodes import convert, stream_messages
from crl_node.nodes.base import ManagedNode, run, stamp_to_seconds
from crl_node.nodes.foreign import ForeignWatch
from crl_node.nodes.meters import array_of
from crl_node.nodes.robot_profile import robot_profile

#: Answered stamps remembered in lockstep, to answer none of them twice.
_REMEMBERED = 256
#: What each type of controller takes.
_OUTPUTS = {
    "joint_trajectory": JointTrajectoryMessage,
    "forward_velocity": Float64MultiArray,
    "servo_twist": TwistStamped,
}
#: The arm rests in the last point of a trajectory until it is so old, s: what is over when it arrives is refused.
_LASTING = 1.0
#: Share of the way to the controller that an answer may spend in this process, which a busy machine keeps waiting.
_SPENT = 0.5
#: A stream that is deactivated ends with this many zeros, after at most so long, s.
_ZEROS, _RUN_OUT = 3, 1.0


class Gate(ManagedNode):
    """Forwards commands that pass every rule, holds the arm in place of those that do not."""

    def __init__(self) -> None:
        super().__init__("gate")
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._logic: Logic | None = None
        self._stream: Stream | None = None  # of a controller that wants velocities
        self._owned: list[tuple[str, object]] = []
        self._waiting: deque[tuple[CommandMessage, float]] = deque()  # lockstep: with steady time of arrival
        self._answered: deque[float] = deque(maxlen=_REMEMBERED)
        self._standing = StandingClock(self.params.clock_patience)
        self._logged: dict[str, float] = {}  # reason -> steady s
        self._last_problem = ""
        self._slowest = 0.0  # s, from a command's judgement to the end of its sending
        self._ignored = 0  # commands that came while not active, or twice for one tick

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        profile = robot_profile(self, self.params.profile)
        controller = profile.controller
        if controller.streams and self.params.lockstep:
            raise ValueError(f"lockstep needs a joint_trajectory controller, '{profile.name}' has {controller.type}")
        # A stream's ticks are the gate's own, and in lockstep the controller waits: nothing is on its way for long.
        latency = 0.0 if controller.streams or self.params.lockstep else controller.latency
        self._logic = Logic(profile, latency=latency)
        self._stream = Stream(profile, self._logic.arm) if controller.streams else None
        self._output = self.create_lifecycle_publisher(_OUTPUTS[controller.type], controller.topic, 10)
        self._executed = self.create_lifecycle_publisher(CommandMessage, "gate/executed", 10)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        subscriptions = [
            self.listen(JointState, "joint_states", self._on_joint_states, 10),
            self.listen(CommandMessage, "planner/command", self._on_command, 10),
        ]
        self._foreign = ForeignWatch(
            self, {"planner/command": self.params.planner, controller.topic: self.get_name()}
        )
        services = [
            self.create_service(Trigger, "gate/estop", self.guarded(self._on_estop)),
            self.create_service(Trigger, "gate/reset", self.guarded(self._on_reset)),
        ]
        # Timers on the steady clock, ages on the node's: they also wake when /clock stands still.
        timers = [
            self.create_timer(self.params.watch_period, self.guarded(self._watch), clock=self._steady),
            self.create_timer(1.0, self.guarded(self._report), clock=self._steady),
        ]
        if self._stream is not None:
            timers.append(self.create_timer(1.0 / controller.rate, self.guarded(self._tick), clock=self._steady))
        self._owned = [("publisher", p) for p in (self._output, self._executed, self._diagnostics)]
        self._owned += [("subscription", s) for s in subscriptions]
        self._owned += [("service", s) for s in services] + [("timer", t) for t in timers]
        self.get_logger().info(
            f"gate of '{profile.name}' ({len(profile.joint_names)} joints of {profile.urdf.name}) for the "
            f"{controller.type} controller at {controller.topic}, "
            f"{'lockstep' if self.params.lockstep else 'watchdog'} mode"
        )

    def start(self) -> None:
        self._waiting.clear()
        self._tick_since = self._steady_seconds()
        self.logic.begin_watch(self.now())

    def stop(self) -> None:
        self._waiting.clear()
        self._hold("the gate was deactivated")
        self._run_out()

    def teardown(self) -> None:
        for kind, entity in self._owned:
            getattr(self, f"destroy_{kind}")(entity)
        self._owned = []
        self._logic = self._stream = None

    @property
    def logic(self) -> Logic:
        """The rules; there between configure and clean-up."""
        if self._logic is None:
            raise RuntimeError("the gate is not configured")
        return self._logic

    # -- input ----------------------------------------------------------------------------------------------------

    def _on_joint_states(self, message: JointState) -> None:
        stamp = stamp_to_seconds(message.header.stamp)
        if stamp > self.logic.newest_joint_stamp:
            self._tick_since = self._steady_seconds()
        now = self.now()
        self.logic.way.observe(now, now - stamp)
        if self._stream is not None:
            self._stream.bunching.observe(self._steady_seconds(), now - stamp)
        problem = self.logic.observe(stamp, message.name, message.position, message.velocity)
        if problem:
            self._complain("joint_states", problem)
        self._serve_waiting()

    def _on_command(self, message: CommandMessage) -> None:
        if not self.active:
            self._ignored += 1
            return
        if self.params.lockstep:
            self._waiting.append((message, self._steady_seconds()))
            self._serve_waiting()
        else:
            self._judge(message, self.now())

    def _serve_waiting(self) -> None:
        """Lockstep: judge the commands whose tick's joint states are here, or that waited too long for them."""
        while self._waiting and self.active:
            message, arrived = self._waiting[0]
            stamp, newest = stamp_to_seconds(message.header.stamp), self.logic.newest_joint_stamp
            if stamp > newest and self._steady_seconds() - arrived < self.params.lockstep_patience:
                return
            self._waiting.popleft()
            if stamp in self._answered or stamp < newest:
                self._ignored += 1
                self._complain(
                    "repeated",
                    f"command {message.sequence} of tick {stamp:.3f} s came again or too late; ignored",
                )
                continue
            self._judge(message, stamp if np.isinf(newest) else newest)

    def _judge(self, message: CommandMessage, now: float) -> None:
        begun, stamp = self._steady_seconds(), stamp_to_seconds(message.header.stamp)
        self._look_at_clock()
        try:
            command = convert.command_from_message(message)
        except ValueError as error:
            verdict = self.logic.refuse("malformed", f"command {message.sequence}: {error}", now, stamp)
        else:
            verdict = self.logic.judge(command, now)
            spent, way = self.now() - now, self.logic.way.at(now)
            if way > 0.0 and spent > _SPENT * way and verdict.executed.trajectory is not None:
                verdict = self.logic.too_late(command, verdict, spent, self.now())
        if not verdict.accepted:
            self._complain(verdict.reason, verdict.sentence)
        self._send(verdict.executed)
        self._slowest = max(self._slowest, self._steady_seconds() - begun)

    # -- output ---------------------------------------------------------------------------------------------------

    def _send(self, command: Command) -> None:
        """The one place from which an answer goes to the controller (a stream's `_tick` sends it bit by bit)."""
        outgoing = None if command.trajectory is None else self.logic.outgoing
        if outgoing is not None and not (outgoing[1].is_finite and np.isfinite(command.velocity).all()):
            # Cannot happen; a motor is not the place to find out that it can.
            raise RuntimeError(f"command {command.sequence} is not finite after all checks; nothing was sent")
        frame = self.logic.profile.base_frame
        self._answered.append(command.stamp)
        if self._stream is None:
            start, trajectory = outgoing or (command.stamp, None)
            if trajectory is not None or self.params.lockstep:  # there the tick waits for an answer
                trajectory = trajectory and trajectory.lasting(_LASTING)
                self._output.publish(convert.trajectory_to_message(trajectory, start, frame))
        elif outgoing is None:
            self._stream.stop()
        else:
            self._stream.follow(outgoing[1], outgoing[0], self.now(), hold=command.hold)
        self._executed.publish(convert.command_to_message(command, frame))

    def _tick(self) -> None:
        """One message of a velocity or twist stream."""
        stream, logic = self._stream, self.logic
        if stream is None or not self.active:
            return
        self._publish_stream(stream, logic.standing or logic.joints_stale(self.now()))

    def _publish_stream(self, stream: Stream, problem: str) -> None:
        measured = self.logic.measured
        now = self.now()
        velocities = stream.velocity(now, measured, problem, tick=self._steady_seconds())
        controller, profile = self.logic.profile.controller, self.logic.profile
        if controller.type == "forward_velocity":
            self._output.publish(stream_messages.velocities_to_message(velocities, profile.joint_names))
        else:
            twist = stream.twist(velocities, measured, now)
            self._output.publish(stream_messages.twist_to_message(twist, now, profile.base_frame))

    def _run_out(self) -> None:
        """Bring a stream to rest before its publisher is closed: what was sent last would go on for ever."""
        stream = self._stream
        if stream is None:
            return
        stream.stop()
        period = 1.0 / self.logic.profile.controller.rate
        deadline = time.monotonic() + _RUN_OUT
        zeros = 0
        while zeros < _ZEROS and time.monotonic() < deadline:
            self._publish_stream(stream, "")
            zeros += stream.at_rest
            time.sleep(period)

    def _look_at_clock(self) -> None:
        """In lockstep it stands still whenever the simulator waits."""
        if not self.params.lockstep:
            self.logic.standing = self._standing.observe(self.now(), self._steady_seconds())

    def _hold(self, why: str) -> None:
        """Hold now, for a reason of our own."""
        now = self.now()
        if self.params.lockstep:
            now = self.logic.newest_joint_stamp
            if np.isinf(now) or now in self._answered:
                return  # the tick has its trajectory, which ends at rest
        hold = self.logic.hold(now)
        self._complain("hold", why)
        if hold.trajectory is not None or self._stream is not None:
            self._send(hold)

    def _watch(self) -> None:
        if not self.active:
            return
        foreign = self._foreign.look()
        if foreign and foreign != self.logic.foreign:
            self.get_logger().error(f"{foreign}: holding until it is gone")
        self.logic.foreign = foreign
        if self.params.lockstep:
            self._serve_waiting()
            waited = self._steady_seconds() - self._tick_since
            if waited > self.params.lockstep_silence and not np.isinf(self.logic.newest_joint_stamp):
                self._tick_since = self._steady_seconds()
                self._hold(f"no command for this tick in {waited:.0f} s of real time; holding")
            return
        self._look_at_clock()
        overdue = self.logic.overdue(self.now())
        if overdue:
            self.logic.rejected["watchdog"] += 1
            self._hold(overdue)

    # -- services and diagnostics ---------------------------------------------------------------------------------

    def _on_estop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.logic.latch("service gate/estop was called")
        if self.active and not self.params.lockstep:
            self._hold("emergency stop")
        response.success, response.message = True, "latched: nothing but holds until gate/reset"
        self.get_logger().warning("emergency stop latched: nothing but holds until gate/reset is called")
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refusal = self.logic.reset()
        response.success, response.message = not refusal, refusal or "released"
        if not refusal and self.active and not self.params.lockstep:
            self._hold("the emergency stop was released: motion begins from where the arm is")
        self.get_logger().warning(refusal or "emergency stop released")
        return response

    def _complain(self, reason: str, sentence: str) -> None:
        """Log a sentence, each reason at most once in `log_period`."""
        self._last_problem = sentence
        now = self._steady_seconds()
        if now - self._logged.get(reason, -np.inf) >= self.params.log_period:
            self._logged[reason] = now
            self.get_logger().warning(sentence)

    def _stream_values(self, stream: Stream) -> dict[str, str]:
        bunching = stream.bunching.at(self._steady_seconds())
        return {"stream": stream.zeroed or "moving", "messages_bunch_by_s": f"{bunching:.3f}"}

    def _steady_seconds(self) -> float:
        return float(self._steady.now().nanoseconds * 1e-9)

    def _report(self) -> None:
        logic, now = self.logic, self.now()
        stale = "" if self.params.lockstep else logic.joints_stale(now)
        stopped = f"emergency stop: {logic.estop}" if logic.estop else ""
        problem = stopped or logic.foreign or logic.following.problem or logic.joint_problem or logic.standing or stale
        level = DiagnosticStatus.OK
        if problem and self.active:
            severe = stopped or logic.foreign or logic.following.problem
            level = DiagnosticStatus.ERROR if severe else DiagnosticStatus.WARN
        joints_age = now - logic.measured.stamp if logic.measured else float("nan")
        command_age = now - logic.last_command if logic.last_command is not None else float("nan")
        values = {
            "active": self.active,
            "estop": logic.estop or "released",
            "holding": logic.held,
            "accepted": logic.accepted,
            "rejected": sum(logic.rejected.values()),
            **{f"rejected/{reason}": count for reason, count in sorted(logic.rejected.items())},
            "holds": logic.holds,
            "ignored": self._ignored,
            "errors": self.error_count,
            "command_age_s": f"{command_age:.3f}",
            "joint_states_age_s": f"{joints_age:.3f}",
            "way_to_the_controller_s": f"{logic.way.at(now):.3f}",
            "slowest_answer_s": f"{self._slowest:.3f}",
            "following_error_rad": f"{logic.following.error:.4f}",
            "foreign": logic.foreign,
            "clock_jumps": logic.clock_jumps,
            **({} if self._stream is None else self._stream_values(self._stream)),
            "last_problem": self._last_problem,
            **self.meters.all_values(),
        }
        status = DiagnosticStatus(
            level=level,
            name=f"{self.get_fully_qualified_name()}: gate",
            hardware_id=logic.profile.name,
            message=problem or ("forwarding" if self.active else "not active: nothing is sent"),
        )
        self._diagnostics.publish(array_of(status, values, Time(seconds=max(now, 0.0)).to_msg()))


def main() -> None:
    """Entry point of the executable `gate`."""
    run(Gate)


if __name__ == "__main__":
    main()

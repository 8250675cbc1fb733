"""Controllers as an arm's driver has them: joint_trajectory_controller, forward velocity, and MoveIt Servo's twist.

One of them drives the mock's joints. Each refuses what the real one refuses, with a reason, and comes to rest by
itself when nobody speaks to it any more. Commands may be made late (`delay`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crl_node.arm.felt import FELT
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile_types import RobotProfile
from crl_node.data import Array
from crl_node.simulator.controller import TrajectoryController, TrajectoryRejectedError

#: Damping of the twist's inverse, against singular arms.
_DAMPING = 1e-3


@dataclass(frozen=True)
class MockOptions:
    """How the hardware behaves."""

    delay: float = 0.0  # s from a command's arrival to its effect
    path_tolerance: float = 0.2  # rad, a joint further from the reference aborts the motion; 0: not looked at
    goal_tolerance: float = 0.05  # rad, at the end of a motion; 0: not looked at
    goal_time: float = 0.3  # s, patience with the goal
    timeout: float = 0.1  # s without a velocity or twist after which the joints brake


class MockController:
    """What one arm's joints are to follow. Times are s of the simulator; `problems` counts refusals and aborts."""

    def __init__(self, profile: RobotProfile, positions: Array, options: MockOptions) -> None:
        self.profile, self.options = profile, options
        self.type = profile.controller.type
        self.problems: Counter[str] = Counter()
        self.accepted = 0
        self.silences = 0  # times that moving joints were brought to rest because nobody spoke
        self.largest_acceleration = 0.0  # of what the joints were to follow, as a share of the profile's limits
        self._followed: deque[tuple[float, Array, Array]] = deque()  # s, [J] rad, [J] rad/s: the last of it
        self._arm = Arm(profile) if self.type == "servo_twist" else None
        limits = np.array([profile.urdf_limits[name] for name in profile.joint_names])
        self._lower, self._upper, self._fastest = limits.T
        self._trajectory = TrajectoryController(profile.joint_names, positions)
        self._late: deque[tuple[float, Callable[[], None]]] = deque()
        self._judged = True  # the motion in progress has met its goal or was given up
        # velocity and twist
        self._position = np.array(positions, float)
        self._velocity = np.zeros(len(positions))
        self._at = 0.0
        self._heard = -np.inf
        self._silent = True  # nobody speaks: the joints brake by themselves

    # -- commands ---------------------------------------------------------------------------------------------------

    def trajectory(
        self,
        names: Sequence[str],
        times: Array,
        positions: Array,
        velocities: Array | None,
        *,
        start: float,
        now: float,
    ) -> None:
        """As joint_trajectory_controller: TrajectoryRejectedError when refused; the motion in progress goes on."""
        if self.type != "joint_trajectory":
            raise self._refused("type", f"this arm has a {self.type} controller")
        # With a delay the refusal is told at once, and the motion changes later.
        try:
            _, wanted, speeds = self._trajectory.checked(names, times, positions, velocities, start=start, now=now)
        except TrajectoryRejectedError:
            self.problems["form"] += 1
            raise
        beyond = np.maximum(self._lower - wanted, wanted - self._upper).max(axis=0)
        if beyond.max() > 1e-6:
            joint = int(np.argmax(beyond))
            name = self.profile.joint_names[joint]
            raise self._refused("position", f"joint '{name}' would leave the URDF's limits by {beyond[joint]:.4f} rad")
        self._check_speeds(speeds)
        if np.abs(speeds[-1]).max() > 1e-6:
            raise self._refused("rest", f"its last point moves at {np.abs(speeds[-1]).max():.4f} rad/s")

        def begin() -> None:
            self._trajectory.command(names, times, positions, velocities, start=start, now=self._at)
            self._judged = False

        self.accepted += 1
        self._later(now, begin)

    def velocities(self, values: Sequence[float], label: str, now: float) -> None:
        """As JointGroupVelocityController, rad/s in the profile's order; names in `label` are checked when given."""
        if self.type != "forward_velocity":
            raise self._refused("type", f"this arm has a {self.type} controller")
        names = self.profile.joint_names
        if len(values) != len(names):
            raise self._refused("form", f"it has {len(values)} velocities for {len(names)} joints")
        if label and tuple(label.split(",")) != names:
            raise self._refused("form", f"it names {label}, the controller has {','.join(names)}")
        self._set_velocity(np.array(values, float), now)

    def twist(self, twist: Array, frame: str, now: float) -> None:
        """As MoveIt Servo: tip twist [6] m/s, rad/s in the base frame's axes."""
        if self._arm is None:
            raise self._refused("type", f"this arm has a {self.type} controller")
        if frame != self.profile.base_frame:
            raise self._refused("frame", f"its frame is '{frame}', wanted '{self.profile.base_frame}'")
        if not np.isfinite(twist).all():
            raise self._refused("form", "it is not finite")
        jacobian = self._arm.tip_jacobian_at(self._position)
        if self.profile.orientation != "hold":
            jacobian, twist = jacobian[:3], twist[:3]
        square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(len(jacobian))
        speeds = jacobian.T @ np.linalg.solve(square, twist)
        self._set_velocity(speeds / max(1.0, float((np.abs(speeds) / self._fastest).max())), now)

    def _set_velocity(self, velocity: Array, now: float) -> None:
        if not np.isfinite(velocity).all():
            raise self._refused("form", "it is not finite")
        self._check_speeds(velocity[None])
        self.accepted += 1

        def begin() -> None:
            self._velocity, self._heard, self._silent = velocity, self._at, False

        self._later(now, begin)

    def _check_speeds(self, speeds: Array) -> None:
        """None of `speeds` [n, J] rad/s is beyond the URDF's."""
        fast = (np.abs(speeds) / self._fastest).max(axis=0)
        if fast.max() > 1 + 1e-6:
            joint = int(np.argmax(fast))
            name = self.profile.joint_names[joint]
            raise self._refused("velocity", f"joint '{name}' would be {fast[joint]:.2f} times too fast")

    def _refused(self, reason: str, sentence: str) -> TrajectoryRejectedError:
        self.problems[reason] += 1
        return TrajectoryRejectedError(f"command rejected: {sentence}; the motion in progress goes on")

    def _later(self, now: float, begin: Callable[[], None]) -> None:
        # Never at once: the physics may be behind `now`, and until there it goes on with what it has.
        self._late.append((now + self.options.delay, begin))

    # -- motion -----------------------------------------------------------------------------------------------------

    def reference(self, time: float) -> tuple[Array, Array]:
        """Position [J] rad and velocity [J] rad/s wanted at `time` s; time must not go back by more than a step."""
        while self._late and self._late[0][0] <= time:
            at, begin = self._late.popleft()
            self._go_on(at)
            try:
                begin()
            except TrajectoryRejectedError:  # by now all of it is in the past
                self.problems["late"] += 1
        self._go_on(time)
        if self.type == "joint_trajectory":
            self._position, velocity = self._trajectory.reference(time)
        else:
            velocity = self._velocity.copy()
        self._measure(time, self._position.copy(), velocity)
        return self._position.copy(), velocity

    def _go_on(self, time: float) -> None:
        """Up to `time` s with what acts now."""
        if self.type == "joint_trajectory":
            self._at = max(self._at, time)
            return
        step = time - self._at
        if step > 0:
            if self._at - self._heard > self.options.timeout:
                self.silences += int(not self._silent and self._velocity.any())
                self._silent = True
                most = step * self.profile.limits.acceleration
                self._velocity = self._velocity - np.clip(self._velocity, -most, most)
            position = self._position + step * self._velocity
            self._position = np.clip(position, self._lower, self._upper)
            self._at = time

    def watch(self, time: float, measured: Array) -> str:
        """Abort a motion whose tolerances are violated at `measured` [J] rad; why, or nothing. Called evenly."""
        options = self.options
        wanted, _ = self.reference(time)
        if self.type != "joint_trajectory" or self._judged:
            return ""
        error = np.abs(wanted - measured)
        joint = int(np.argmax(error))
        name, size = self.profile.joint_names[joint], float(error[joint])
        if options.path_tolerance > 0 and size > options.path_tolerance:
            return self._abort("path", time, measured, f"joint '{name}' is {size:.3f} rad from its path")
        if time >= self._trajectory.ends:
            if options.goal_tolerance <= 0 or size <= options.goal_tolerance:
                self._judged = True
            elif time > self._trajectory.ends + options.goal_time:
                return self._abort("goal", time, measured, f"joint '{name}' is {size:.3f} rad from its goal")
        return ""

    def _measure(self, time: float, position: Array, velocity: Array) -> None:
        """Keep the largest acceleration over FELT of what is followed.

        Of its velocity; and of the way, in which a trajectory's jump from one place to another shows. A velocity's
        way has no jumps, and would count a step at the window's beginning twice.
        """
        if self._followed and time <= self._followed[-1][0]:
            return
        while len(self._followed) > 1 and time - self._followed[1][0] > FELT - 1e-6:
            self._followed.popleft()
        if self._followed and time - self._followed[0][0] > FELT - 1e-6:
            since, start, before = self._followed[0]
            elapsed = time - since
            steps = [(velocity - before) / elapsed]
            if self.type == "joint_trajectory":
                steps.append(2 * (position - start - elapsed * before) / elapsed**2)
            share = np.abs(steps) / self.profile.limits.acceleration
            self.largest_acceleration = max(self.largest_acceleration, float(share.max()))
        self._followed.append((time, position, velocity))

    def _abort(self, reason: str, time: float, measured: Array, sentence: str) -> str:
        self.problems[f"aborted_{reason}"] += 1
        self._judged = True
        self._trajectory = TrajectoryController(
            self.profile.joint_names, np.clip(measured, self._lower, self._upper)
        )
        return f"motion aborted: {sentence}; holding where the arm is"

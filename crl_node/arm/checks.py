"""What a command must satisfy before it may reach a motor, one function per rule.

Each raises RejectionError with a short reason (for counting) and a sentence (for people). They are called in the
order of `check_command`, the one choke point; everything after `check_finite` may compare numbers, because NaN
passes through comparisons, min, max and clip unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import RobotProfile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command
from crl_node.data import Array

#: Longest trajectory, s.
MAX_DURATION = 0.2
#: A command may be stamped this far ahead, s: simulated time reaches nodes in steps and by a way of its own.
MAX_EARLY = 0.2
#: Relative slack of the limits: what rounding of times to nanoseconds does to an acceleration.
_SLACK = 1.0 + 1e-6
#: How far the tip may stand outside the workspace, m: tracking errors.
WORKSPACE_SLACK = 1e-3
#: The tip's place is checked this often along a trajectory, s (2.5 mm at most between two places).
_SAMPLE_PERIOD = 0.01
#: A join may change a velocity by what the largest acceleration does in this time, s: jitter of start times.
_JOIN_TIME = 0.02
#: More points than this in 0.2 s are no command but an attack on the gate's time.
_MOST_POINTS = 64


class RejectionError(ValueError):
    """A command that must not be executed."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class JointState:
    """The measured state, in the order of the profile's joints."""

    stamp: float  # s
    position: Array  # [J] rad
    velocity: Array  # [J] rad/s


def check_command(
    command: Command,
    *,
    now: float,
    late: float,
    measured: JointState,
    executing: tuple[Array, Array],
    profile: RobotProfile,
    arm: Arm,
) -> JointTrajectory:
    """The command's trajectory in the profile's joint order, if it passes every rule; else raises RejectionError.

    `executing` is the reference (q [J] rad, dq [J] rad/s) that the command would replace, `late` s into it.
    """
    trajectory = check_finite(command)
    check_fresh(command, now, profile)
    trajectory = check_form(command, trajectory, profile)
    check_limits(trajectory, profile)
    check_join(trajectory, late, measured, executing, profile)
    check_workspace(trajectory, measured, arm)
    return trajectory


def check_finite(command: Command) -> JointTrajectory:
    """There is a trajectory, and every number of the command is finite."""
    if command.trajectory is None:
        raise RejectionError(
            "empty", f"command {command.sequence} has no trajectory and does not ask to hold"
        )
    numbers = (
        command.stamp,
        command.belief_stamp,
        command.duration,
        command.ramp,
        *np.ravel(command.velocity),
    )
    if not np.isfinite(np.asarray(numbers, float)).all():
        raise RejectionError(
            "not_finite", f"command {command.sequence} has a stamp, velocity or duration that is not finite"
        )
    if not command.trajectory.is_finite:
        trajectory = command.trajectory
        for field in ("times", "positions", "velocities"):
            bad = np.argwhere(~np.isfinite(getattr(trajectory, field)))
            if len(bad):
                joint = f" of joint '{trajectory.joint_names[bad[0][1]]}'" if len(bad[0]) > 1 else ""
                raise RejectionError(
                    "not_finite",
                    f"command {command.sequence}: trajectory.{field}{joint} at point {bad[0][0]} is not finite "
                    f"({len(bad)} such numbers)",
                )
    return command.trajectory


def check_fresh(command: Command, now: float, profile: RobotProfile) -> None:
    """The command was stamped a short while ago, and not in the future."""
    age = now - command.stamp
    if age > profile.watchdog.stamp:
        raise RejectionError(
            "stale",
            f"command {command.sequence} is {age:.3f} s old, at most {profile.watchdog.stamp:g} s is allowed",
        )
    if age < -MAX_EARLY:
        raise RejectionError(
            "future",
            f"command {command.sequence} starts {-age:.3f} s from now, at most {MAX_EARLY:g} s is allowed",
        )


def check_form(command: Command, trajectory: JointTrajectory, profile: RobotProfile) -> JointTrajectory:
    """All joints by name, growing times from 0, at most MAX_DURATION, at rest at the end."""
    try:
        trajectory = trajectory.reordered(profile.joint_names)
    except ValueError as error:
        raise RejectionError("names", f"command {command.sequence}: {error}") from error
    if len(trajectory.times) > _MOST_POINTS:
        raise RejectionError(
            "times", f"command {command.sequence} has {len(trajectory.times)} points, at most {_MOST_POINTS}"
        )
    if len(trajectory.times) < 2 or trajectory.times[0] != 0 or np.any(np.diff(trajectory.times) <= 0):
        raise RejectionError(
            "times",
            f"command {command.sequence} has times {trajectory.times.tolist()}, wanted growing ones from 0",
        )
    if trajectory.duration > MAX_DURATION + 1e-6:
        raise RejectionError(
            "duration",
            f"command {command.sequence} lasts {trajectory.duration:.4f} s, at most {MAX_DURATION} s",
        )
    if not 0 < command.duration <= trajectory.duration + 1e-6:
        raise RejectionError(
            "duration",
            f"command {command.sequence} moves for {command.duration:.4f} s, its trajectory lasts "
            f"{trajectory.duration:.4f} s",
        )
    if not trajectory.ends_at_rest:
        joint = int(np.argmax(np.abs(trajectory.velocities[-1])))
        raise RejectionError(
            "not_at_rest",
            f"command {command.sequence} ends with joint '{profile.joint_names[joint]}' moving at "
            f"{trajectory.velocities[-1, joint]:.4f} rad/s, wanted rest",
        )
    return trajectory


def check_limits(trajectory: JointTrajectory, profile: RobotProfile) -> None:
    """Position, velocity and acceleration of the cubic pieces, at their exact extrema."""
    limits = profile.limits
    low, high = trajectory.position_range()
    # The slack is that of rounding: a reference that rests exactly on its limit is inside.
    outside = np.maximum(limits.lower - low, high - limits.upper)
    if not np.all(outside <= 1e-9):
        joint = int(np.argmax(outside))
        raise RejectionError(
            "position",
            f"joint '{profile.joint_names[joint]}' would go from {low[joint]:.4f} to {high[joint]:.4f} rad, outside "
            f"[{limits.lower[joint]:.4f}, {limits.upper[joint]:.4f}]",
        )
    for reason, values, most, unit in (
        ("velocity", trajectory.max_velocity(), limits.velocity, "rad/s"),
        ("acceleration", trajectory.max_acceleration(), limits.acceleration, "rad/s^2"),
    ):
        # Written so that NaN, should there ever be one, is a violation.
        if not np.all(values <= most * _SLACK):
            joint = int(np.argmax(values / most))
            raise RejectionError(
                reason,
                f"joint '{profile.joint_names[joint]}' would reach {values[joint]:.3f} {unit}, at most {most[joint]:g}",
            )


def check_join(
    trajectory: JointTrajectory,
    late: float,
    measured: JointState,
    executing: tuple[Array, Array],
    profile: RobotProfile,
) -> None:
    """The switch, `late` s into the trajectory, is no jump.

    Its position and velocity lie between those being executed and those measured: the first are continued in
    normal operation, the second after the arm was blocked.
    """
    q, dq = trajectory.sample(late)
    away = np.abs(trajectory.positions[0] - measured.position)
    if not np.all(away <= profile.start_tolerance):
        joint = int(np.argmax(away))
        raise RejectionError(
            "start",
            f"joint '{profile.joint_names[joint]}' would start {away[joint]:.4f} rad from its measured position, "
            f"at most {profile.start_tolerance:g}",
        )
    for what, value, one, other, most, unit in (
        ("position", q, executing[0], measured.position, np.full_like(q, profile.join_tolerance), "rad"),
        ("velocity", dq, executing[1], measured.velocity, profile.limits.acceleration * _JOIN_TIME, "rad/s"),
    ):
        jump = np.maximum(np.minimum(one, other) - value, value - np.maximum(one, other))
        if not np.all(jump <= most):
            joint = int(np.argmax(jump - most))
            raise RejectionError(
                "join",
                f"the {what} of joint '{profile.joint_names[joint]}' would jump by {jump[joint]:.4f} {unit} where the "
                f"command begins, at most {most[joint]:.4f}",
            )


def outside_workspace(trajectory: JointTrajectory, arm: Arm) -> tuple[float, Array]:
    """Largest distance m of the tip from the workspace box along the trajectory (<= 0: inside), and where [3] m."""
    box = arm.profile.workspace
    steps = max(2, int(np.ceil(trajectory.duration / _SAMPLE_PERIOD)) + 1)
    worst, place = -np.inf, np.full(3, np.nan)
    for time in np.linspace(0.0, trajectory.duration, steps):
        tip = arm.tip_at(trajectory.sample(float(time))[0])
        outside = float(np.maximum(box.low - tip, tip - box.high).max())
        if not outside <= worst:
            worst, place = outside, tip
    return worst, place


def check_workspace(trajectory: JointTrajectory, measured: JointState, arm: Arm) -> None:
    """The tip stays in the workspace box; a tip that is outside already may not go further out."""
    box = arm.profile.workspace
    tip = arm.tip_at(measured.position)
    allowed = max(0.0, float(np.maximum(box.low - tip, tip - box.high).max())) + WORKSPACE_SLACK
    outside, place = outside_workspace(trajectory, arm)
    if not outside <= allowed:
        raise RejectionError(
            "workspace",
            f"the tip would be at [{', '.join(f'{value:.3f}' for value in place)}] m, {outside * 1e3:.1f} mm "
            f"outside the workspace x {list(box.x)}, y {list(box.y)}, z {list(box.z)}",
        )

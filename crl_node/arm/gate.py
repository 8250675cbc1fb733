"""The gate's logic: what of all that is asked for reaches the arm. No ROS, no clock of its own.

Feed it joint states with `observe` and commands with `judge`; whatever it returns may be sent. It always knows
what is being executed, so it can bring the arm to rest at any time without help from anyone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from crl_node.arm.checks import (
    MAX_EARLY,
    WORKSPACE_SLACK,
    JointState,
    RejectionError,
    check_command,
    check_limits,
    outside_workspace,
)
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import RobotProfile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command
from crl_node.data import Array

#: A stop is never planned shorter, s.
_SHORTEST_STOP = 0.02
#: A measured joint this far outside its limits is a broken sensor, rad; holding "there" would be a motion.
_IMPLAUSIBLE = 0.1


@dataclass(frozen=True)
class Verdict:
    """What becomes of a command."""

    accepted: bool
    reason: str  # "" when accepted, else one word for counting
    sentence: str  # "" when accepted
    executed: (
        Command  # what to send: the command itself, or a hold; no trajectory when there is nothing to hold
    )


class Gate:
    """Judges commands for one arm. Times are seconds on one clock, that of the stamps."""

    def __init__(self, profile: RobotProfile, arm: Arm | None = None) -> None:
        self.profile = profile
        self.arm = arm or Arm(profile)
        self.estop = ""  # why the emergency stop is latched; empty when it is not
        self.accepted = 0
        self.holds = 0
        self.rejected: Counter[str] = Counter()  # by reason
        self.measured: JointState | None = None  # the last good one
        self.joint_problem = "no joint states have arrived yet"  # empty while the newest one is good
        self.newest_joint_stamp = -np.inf  # s, good or not
        self.last_command: float | None = None  # s, when a command was last judged or the watch began
        self.held = False  # what is being executed is a hold
        self._executing: tuple[float, JointTrajectory] | None = None  # start s, trajectory

    # -- joint states ---------------------------------------------------------------------------------------------

    def observe(
        self, stamp: float, names: Sequence[str], positions: Sequence[float], velocities: Sequence[float]
    ) -> str:
        """Take a measured state; returns what is wrong with it, a sentence, or nothing.

        Joints are found by name; others are ignored. Absent velocities count as rest.
        """
        self.newest_joint_stamp = max(self.newest_joint_stamp, stamp)
        if self.measured is not None and stamp < self.measured.stamp:
            return (
                f"joint states stamped {stamp:.3f} s came after those of {self.measured.stamp:.3f} s; ignored"
            )
        try:
            position = self._by_name("positions", names, positions)
            self._check_plausible(position)
            self.measured = JointState(stamp, position, self._by_name("velocities", names, velocities))
        except ValueError as error:
            self.joint_problem = str(error)
        else:
            self.joint_problem = ""
        return self.joint_problem

    def _by_name(self, what: str, names: Sequence[str], values: Sequence[float]) -> Array:
        if what == "velocities" and not len(values):
            values = [0.0] * len(names)
        if len(values) != len(names):
            raise ValueError(f"joint states have {len(names)} names and {len(values)} {what}; holding")
        by_name = dict(zip(names, values, strict=True))
        vector = np.empty(len(self.profile.joint_names))
        for i, name in enumerate(self.profile.joint_names):
            if name not in by_name:
                raise ValueError(
                    f"joint '{name}' is absent from joint states (got {len(names)} names); holding"
                )
            vector[i] = by_name[name]
            if not np.isfinite(vector[i]):
                raise ValueError(f"{what} of joint '{name}' in joint states is {vector[i]}; holding")
        return vector

    def _check_plausible(self, position: Array) -> None:
        limits = self.profile.limits
        outside = np.maximum(limits.lower - position, position - limits.upper)
        if outside.max() > _IMPLAUSIBLE:
            joint = int(np.argmax(outside))
            raise ValueError(
                f"joint '{self.profile.joint_names[joint]}' in joint states is at {position[joint]:.3f} rad, outside "
                f"[{limits.lower[joint]:.3f}, {limits.upper[joint]:.3f}] by more than {_IMPLAUSIBLE:g}; holding"
            )

    def joints_stale(self, now: float) -> str:
        """Why the measured state cannot be relied on at `now` s, or nothing."""
        if self.joint_problem or self.measured is None:
            return self.joint_problem
        age = now - self.measured.stamp
        if age > self.profile.watchdog.joint_states:
            most = self.profile.watchdog.joint_states
            return f"joint states are {age:.3f} s old, at most {most:g} s is allowed; holding"
        return ""

    # -- commands -------------------------------------------------------------------------------------------------

    def judge(self, command: Command, now: float) -> Verdict:
        """What to send for `command`, arrived at `now` s: itself when it passes every rule, else a hold."""
        self.last_command = now
        try:
            executed = self._checked(command, now)
        except RejectionError as rejection:
            self.rejected[rejection.reason] += 1
            return Verdict(False, rejection.reason, f"{rejection}; holding", self._hold_for(command, now))
        self.accepted += 1
        return Verdict(True, "", "", executed)

    def refuse(self, reason: str, sentence: str, now: float, stamp: float | None = None) -> Verdict:
        """A hold in place of something that is not even a command (a message that cannot be read)."""
        self.last_command = now
        self.rejected[reason] += 1
        begin = now if stamp is None else stamp
        unreadable = Command(begin, 0, begin, 0, True, np.zeros(2), 0.0, 0.0, None)
        return Verdict(False, reason, f"{sentence}; holding", self._hold_for(unreadable, now))

    def _checked(self, command: Command, now: float) -> Command:
        if self.estop:
            raise RejectionError("estop", f"the emergency stop is latched ({self.estop})")
        stale = self.joints_stale(now).removesuffix("; holding")
        if stale or self.measured is None:
            raise RejectionError("joint_states", stale)
        if self._executing is not None and command.stamp < self._executing[0]:
            raise RejectionError(
                "order",
                f"command {command.sequence} is stamped {command.stamp:.3f} s, before the one being executed "
                f"({self._executing[0]:.3f} s)",
            )
        if command.hold and command.trajectory is None:
            return self._hold_for(command, now)
        trajectory = check_command(
            command,
            now=now,
            measured=self.measured,
            executing=self._reference(max(now, command.stamp))
            or (self.measured.position, self.measured.velocity),
            profile=self.profile,
            arm=self.arm,
        )
        self._executing, self.held = (command.stamp, trajectory), command.hold
        velocity = np.zeros(2) if command.hold else self._mean_velocity(trajectory, command.duration)
        return replace(command, trajectory=trajectory, velocity=velocity)

    def _mean_velocity(self, trajectory: JointTrajectory, duration: float) -> Array:
        """Mean planar tip velocity [2] m/s over the first `duration` s: what the learner must believe was done."""
        begin = self.arm.tip_at(trajectory.positions[0])
        end = self.arm.tip_at(trajectory.sample(duration)[0])
        return np.asarray((end - begin)[:2] / duration)

    # -- holding --------------------------------------------------------------------------------------------------

    def hold(self, now: float) -> Command:
        """A command that brings the arm to rest from `now` s on, within its limits."""
        return self._hold_for(Command(now, 0, now, 0, True, np.zeros(2), 0.0, 0.0, None), now)

    def _hold_for(self, command: Command, now: float) -> Command:
        """A hold that answers `command`: it starts at its stamp, or now where that stamp is no good."""
        in_time = 0.0 <= command.stamp - now <= MAX_EARLY  # False for NaN
        start = command.stamp if in_time else now
        trajectory = self._stop(start)
        self.holds += 1
        self.held = True
        if trajectory is not None:
            self._executing = (start, trajectory)
        return replace(
            command,
            stamp=start,
            belief_stamp=command.belief_stamp if np.isfinite(command.belief_stamp) else start,
            hold=True,
            velocity=np.zeros(2),
            duration=self.profile.command_duration,
            ramp=self.profile.command_ramp,
            trajectory=trajectory,
        )

    def _reference(self, time: float) -> tuple[Array, Array] | None:
        """What is being executed at `time` s: q [J] rad, dq [J] rad/s."""
        if self._executing is None:
            return None
        start, trajectory = self._executing
        return trajectory.sample(time - start)

    def _stop(self, time: float) -> JointTrajectory | None:
        """From the reference at `time` s to rest. None when nobody knows where the arm is."""
        profile, reference = self.profile, self._reference(time)
        known = not self.joints_stale(time) and self.measured is not None
        if known and self.measured is not None:
            far = (
                reference is None
                or np.abs(reference[0] - self.measured.position).max() > profile.resync_tolerance
            )
            if far:  # do not go on pushing against what is in the way
                return self._rest(self.measured.position)
        if reference is None or self._executing is None:
            return None
        q, dq = reference
        if not np.abs(dq).max() > 1e-9:
            return self._rest(q)
        seconds = max(float((np.abs(dq) / (0.99 * profile.limits.acceleration)).max()), _SHORTEST_STOP)
        stop = JointTrajectory.stopping(profile.joint_names, q, dq, seconds)
        try:
            check_limits(stop, profile)
            if (
                seconds <= self._executing[1].duration
                and outside_workspace(stop, self.arm)[0] <= WORKSPACE_SLACK
            ):
                return stop
        except RejectionError:
            pass
        # What is left of the accepted motion ends at rest too, and it was checked.
        return self._executing[1].after(time - self._executing[0])

    def _rest(self, position: Array) -> JointTrajectory:
        limits = self.profile.limits
        q = np.clip(position, limits.lower, limits.upper)
        return JointTrajectory.stopping(
            self.profile.joint_names, q, np.zeros_like(q), self.profile.command_duration
        )

    # -- watching -------------------------------------------------------------------------------------------------

    def begin_watch(self, now: float) -> None:
        """Commands are expected from `now` s on."""
        self.last_command = now

    def overdue(self, now: float) -> str:
        """Why the arm must be held now although nobody asked, a sentence; nothing while all is well or it is held."""
        if self.held or self.last_command is None:
            return ""
        stale = self.joints_stale(now)
        if stale:
            return stale
        age = now - self.last_command
        if age > self.profile.watchdog.command:
            return (
                f"no command for {age:.3f} s, at most {self.profile.watchdog.command:g} s is allowed; holding"
            )
        return ""

    def latch(self, why: str) -> None:
        """Emergency stop: only holds until `reset`."""
        self.estop = why or "asked for"

    def reset(self) -> str:
        """Release the emergency stop; returns why it cannot be, or nothing."""
        if self.joint_problem:
            return f"the emergency stop stays latched: {self.joint_problem}"
        self.estop = ""
        return ""

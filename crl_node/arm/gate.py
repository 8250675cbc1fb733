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
from crl_node.arm.following import Following
from crl_node.arm.joining import FOLLOWS, joined, spliced
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import RobotProfile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.arm.way import Way
from crl_node.command import Command
from crl_node.data import Array

#: A stop is never planned shorter, s.
_SHORTEST_STOP = 0.02
#: A measured joint this far outside its limits is a broken sensor, rad; holding "there" would be a motion.
_IMPLAUSIBLE = 0.1
#: Joint states stamped this much before or after the last ones: the clock has jumped, or the simulator was reset, s.
CLOCK_JUMP = 1.0
#: After a jump nothing but holds for this long, s: what was planned on the old clock must have gone by.
CLOCK_WINDOW = 0.3
#: After an emergency stop the first motion begins this close to where the arm is, rad.
RESUME_STEP = 0.01


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
    """Judges commands for one arm. Times are seconds on one clock, that of the stamps.

    What is sent takes up to `latency` s to the controller, or as long as the joint states on their way back
    (`way.observe`). Meanwhile the controller goes on with what it has. So nothing that is sent differs from what is
    being executed before that time is over.
    """

    def __init__(self, profile: RobotProfile, arm: Arm | None = None, *, latency: float = 0.0) -> None:
        self.profile = profile
        self.way = Way(latency)
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
        self.following = Following(profile.joint_names)
        self.foreign = ""  # who else speaks to the arm, a sentence; set by the node
        self.standing = ""  # that the clock stands still, a sentence; set by the node
        self.clock_jumps = 0
        self._clock_problem = ""  # a jump that was not yet held for
        self._quiet_until = -np.inf  # s, only holds until then
        self._resuming = False  # the emergency stop was released and nothing has moved since
        self._executing: tuple[float, JointTrajectory] | None = None  # start s, trajectory
        self._before: tuple[float, JointTrajectory] | None = None  # what the last verdict took over from
        self._newest_stamp = -np.inf  # s, of the last accepted command, as it came

    @property
    def outgoing(self) -> tuple[float, JointTrajectory] | None:
        """What the controller must be sent after a verdict or a hold: start s, trajectory.

        It begins with what was being executed, until the verdict's own trajectory takes over.
        """
        return self._executing

    # -- joint states ---------------------------------------------------------------------------------------------

    def observe(
        self, stamp: float, names: Sequence[str], positions: Sequence[float], velocities: Sequence[float]
    ) -> str:
        """Take a measured state; returns what is wrong with it, a sentence, or nothing.

        Joints are found by name; others are ignored. Absent velocities count as rest.
        """
        jump = stamp - self.newest_joint_stamp
        if np.isfinite(self.newest_joint_stamp) and abs(jump) > CLOCK_JUMP:
            self._jumped(stamp)
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
            self.following.observe(stamp, position)
        return self.joint_problem

    def _jumped(self, stamp: float) -> None:
        """Time goes on at `stamp` s: what was executed, measured and watched belongs to a clock that is no more."""
        self.clock_jumps += 1
        self._clock_problem = (
            f"the stamps of joint states jumped from {self.newest_joint_stamp:.3f} s to {stamp:.3f} s; "
            f"holding for {CLOCK_WINDOW:g} s"
        )
        self._quiet_until = stamp + CLOCK_WINDOW
        self.newest_joint_stamp, self.measured, self._executing = -np.inf, None, None
        self._before = None
        self._newest_stamp = -np.inf
        self.following.forget()
        self.joint_problem = "no joint states have arrived since the clock jumped"
        self.last_command, self.held = stamp, False

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
                    f"joint '{name}' is absent from joint states: they name [{', '.join(names)}], the arm has "
                    f"[{', '.join(self.profile.joint_names)}]; holding"
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
        if age < -CLOCK_JUMP:
            return f"joint states are stamped {-age:.3f} s from now: the clock jumped back; holding"
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

    def too_late(self, command: Command, verdict: Verdict, spent: float, now: float) -> Verdict:
        """A hold from `now` s on in place of the `verdict` on `command`, which could be sent only `spent` s later.

        Nothing of it was sent: the controller goes on with what it had, and may be past the instant at which the
        verdict departs from that.
        """
        self._executing = self._before
        self.following.untold()
        self.accepted -= verdict.accepted
        self.rejected["slow"] += 1
        sentence = (
            f"the answer to command {command.sequence} took {spent:.3f} s, its way to the controller is reckoned "
            f"{self.way.at(now):.3f} s"
        )
        return Verdict(False, "slow", f"{sentence}; holding", self._hold_for(command, now))

    def _checked(self, command: Command, now: float) -> Command:
        if self.estop:
            raise RejectionError("estop", f"the emergency stop is latched ({self.estop})")
        if self.standing:
            raise RejectionError("clock", self.standing)
        stale = self.joints_stale(now).removesuffix("; holding")
        if stale or self.measured is None:
            raise RejectionError("joint_states", stale)
        for reason, problem in (("foreign", self.foreign), ("following", self.following.problem)):
            if problem:
                raise RejectionError(reason, problem)
        if now < self._quiet_until:
            raise RejectionError("clock", f"the clock jumped less than {CLOCK_WINDOW:g} s ago")
        if command.stamp < self._newest_stamp:
            raise RejectionError(
                "order",
                f"command {command.sequence} is stamped {command.stamp:.3f} s, before the one being executed "
                f"({self._newest_stamp:.3f} s)",
            )
        if command.hold and command.trajectory is None:
            return self._hold_for(command, now)
        state = (self.measured.position, self.measured.velocity)
        begin = max(now + self.way.at(now), command.stamp)
        late = max(0.0, now - command.stamp)  # cut off; what the way takes only delays
        executing = self._reference(begin) or state
        trajectory = check_command(
            command,
            now=now,
            late=late,
            measured=self.measured,
            executing=executing,
            profile=self.profile,
            arm=self.arm,
        )
        if self._resuming:
            self._check_resume(command, trajectory, late, self.measured)
        then = self.following.reference(self.measured.stamp)
        follows = then is not None and float(np.abs(then - self.measured.position).max()) <= FOLLOWS
        trajectory = joined(trajectory, late, executing, self.measured, self.arm, follows=follows)
        self._newest_stamp = command.stamp
        if begin > command.stamp:
            command = replace(command, stamp=begin, duration=max(command.duration - late, 1e-3))
        self._execute(now, command.stamp, trajectory)
        self.held = command.hold
        self._resuming = self._resuming and command.hold
        velocity = np.zeros(2) if command.hold else self._mean_velocity(trajectory, command.duration)
        return replace(command, trajectory=trajectory, velocity=velocity)

    def _check_resume(self, command: Command, trajectory: JointTrajectory, late: float, measured: JointState) -> None:
        away = np.abs(trajectory.sample(late)[0] - measured.position)
        if not np.all(away <= RESUME_STEP):
            joint = int(np.argmax(away))
            raise RejectionError(
                "resume",
                f"command {command.sequence}, the first after the emergency stop, would begin with joint "
                f"'{self.profile.joint_names[joint]}' {away[joint]:.4f} rad from where it is, at most {RESUME_STEP:g}",
            )

    def _execute(self, now: float, start: float, trajectory: JointTrajectory) -> None:
        self._before = self._executing
        self._executing = spliced(self._executing, now, start, trajectory)
        self.following.told(*self._executing)

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
        start = max(command.stamp if in_time else now, now + self.way.at(now))
        trajectory = self._stop(start, now)
        self.holds += 1
        self.held = True
        if trajectory is not None:
            self._execute(now, start, trajectory)
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

    def _stop(self, time: float, now: float) -> JointTrajectory | None:
        """From the reference at `time` s to rest, decided at `now` s. None when nobody knows where the arm is.

        Nor while the clock stands still: what was sent ends at rest, and at whatever time the clock goes on, a
        trajectory with this stamp would be one of another clock.
        """
        if self.standing:
            return None
        profile, reference = self.profile, self._reference(time)
        known = not self.joints_stale(now) and self.measured is not None
        if known and self.measured is not None:
            then = self.following.reference(self.measured.stamp)
            then = reference[0] if then is None and reference is not None else then
            far = (
                then is None
                or bool(self.following.problem)
                or np.abs(then - self.measured.position).max() > profile.resync_tolerance
            )
            # While stopped, and where the arm resumes from, "here" is where it is, not where it was told to be.
            resting = reference is not None and not np.abs(reference[1]).max() > 1e-9
            if far or (resting and (self.estop or self._resuming)):  # do not go on pushing against what is in the way
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
        clock, self._clock_problem = self._clock_problem, ""
        if clock:
            return clock
        if self.held or self.last_command is None:
            return ""
        if self.standing:
            return f"{self.standing}; holding"
        if self.foreign or self.following.problem:
            return f"{self.foreign or self.following.problem}; holding"
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
        self._resuming = self._resuming or bool(self.estop)
        self.estop = ""
        return ""

"""Velocities for controllers that want a stream: what the gate lets through, sampled and made safe at every tick.

A stream never stops by itself: whatever was sent last goes on. So zero is what is sent unless an accepted trajectory is
under way, the joints are known, and commands are still coming. What leaves here is finite, within velocity and
acceleration limits, and slow enough near a joint's limit to stop before it.
"""

from __future__ import annotations

import numpy as np

from crl_node.arm.checks import WORKSPACE_SLACK, JointState
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile_types import RobotProfile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.data import Array

#: Share of the acceleration limit that braking before a joint's limit counts on.
_BRAKE_SHARE = 0.8
#: A tip further outside the workspace than a trajectory may be, m: it lags or overshoots a little.
_OUTSIDE = WORKSPACE_SLACK + 0.005
#: Longest time one message is taken to act for, in periods of the stream.
_LATE = 3.0


class Stream:
    """Joint velocities of one arm, tick by tick. Times are seconds on the gate's clock."""

    def __init__(self, profile: RobotProfile, arm: Arm) -> None:
        self.profile = profile
        self.arm = arm
        self.zeroed = ""  # why the last target was zero; empty while the arm is meant to move
        self._trajectory: JointTrajectory | None = None
        self._start = 0.0
        self._fed = -np.inf  # s, when the last command was accepted
        self._sent = np.zeros(len(profile.joint_names))  # [J] rad/s
        self._sent_at: float | None = None

    def follow(self, trajectory: JointTrajectory, start: float, now: float, *, hold: bool) -> None:
        """Execute `trajectory`, which begins at `start` s. A hold does not count as a command."""
        self._trajectory, self._start = trajectory.reordered(self.profile.joint_names), start
        if not hold:
            self._fed = now

    def stop(self) -> None:
        """Come to rest whatever was accepted."""
        self._trajectory = None

    @property
    def at_rest(self) -> bool:
        """The last velocities sent were zero."""
        return not self._sent.any()

    def velocity(self, now: float, measured: JointState | None, problem: str = "") -> Array:
        """Joint velocities [J] rad/s to send at `now` s; remembers them. `problem`: why the joints are not known."""
        target = self._target(now, measured, problem)
        period = 1.0 / self.profile.controller.rate
        elapsed = period if self._sent_at is None else min(max(now - self._sent_at, 0.0), _LATE * period)
        limits = self.profile.limits
        change = limits.acceleration * elapsed
        sent = np.clip(target, self._sent - change, self._sent + change)
        if measured is not None and not problem:
            sent = self._before_limits(sent, measured.position, period)
        if not np.isfinite(sent).all():  # NaN passes through clip
            sent, self.zeroed = np.zeros_like(sent), "a velocity was not finite"
        self._sent, self._sent_at = sent, now
        return sent.copy()

    def twist(self, velocities: Array, measured: JointState | None) -> Array:
        """Twist of the tip [6] (m/s, rad/s; base frame's axes) of joint velocities [J] rad/s; zero without joints."""
        if measured is None:
            return np.zeros(6)
        return self.arm.tip_twist_at(measured.position, velocities)

    def _target(self, now: float, measured: JointState | None, problem: str) -> Array:
        zero = np.zeros_like(self._sent)
        controller = self.profile.controller
        silence = now - self._fed
        if self._trajectory is None:
            self.zeroed = "nothing is to be executed"
        elif problem or measured is None:
            self.zeroed = problem or "no joint states have arrived yet"
        elif not silence <= controller.timeout:
            self.zeroed = f"no command for {silence:.3f} s, at most {controller.timeout:g} s is allowed"
        else:
            q, dq = self._trajectory.sample(now - self._start)
            target = dq + controller.gain * (q - measured.position)
            excess = float((np.abs(target) / self.profile.limits.velocity).max())
            target = target / max(1.0, excess)  # all joints alike: the direction stays
            if not np.isfinite(target).all():
                self.zeroed = "a velocity was not finite"
                return zero
            if self._leaves_workspace(measured.position, target):
                self.zeroed = "the tip is outside the workspace and would go further out"
                return zero
            self.zeroed = ""
            return np.asarray(target)
        return zero

    def _leaves_workspace(self, q: Array, velocity: Array) -> bool:
        box, tip = self.profile.workspace, self.arm.tip_at(q)
        outside = np.maximum(box.low - tip, tip - box.high)
        if outside.max() <= _OUTSIDE:
            return False
        later = tip + 0.1 * self.arm.tip_velocity_at(q, velocity)
        return bool(np.maximum(box.low - later, later - box.high).max() > outside.max())

    def _before_limits(self, velocity: Array, q: Array, period: float) -> Array:
        """No faster towards a joint's limit than it can brake before it: v^2 = 2 a d."""
        limits = self.profile.limits
        brake = 2 * _BRAKE_SHARE * limits.acceleration
        up, down = np.maximum(limits.upper - q, 0.0), np.maximum(q - limits.lower, 0.0)
        highest = np.minimum(np.sqrt(brake * up), up / period)
        lowest = -np.minimum(np.sqrt(brake * down), down / period)
        return np.clip(velocity, lowest, highest)

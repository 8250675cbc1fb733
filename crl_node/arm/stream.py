"""Velocities for controllers that want a stream: what the gate lets through, sampled and made safe at every tick.

A stream never stops by itself: whatever was sent last goes on. So zero is what is sent unless an accepted trajectory is
under way, the joints are known, and commands are still coming. What leaves here is finite, within velocity and
acceleration limits, and slow enough near a joint's limit to stop before it.

A stream is a staircase: a controller takes each message up at once. Its acceleration is what the steps within `FELT` s
come to, whenever the ticks really come. A step is at most a share of what the limit a allows in the time since the
message before, and never more than in one nominal period T; the steps sent within any W s then add up to at most
share * a * (W + T), and those that arrive within W s, when messages bunch by B s on their way, to
share * a * (W + T + B). So a share of FELT / (FELT + T + B) keeps a * FELT. B is at least a period, and more while
joint states come unevenly (`way.Bunching`). After a late tick the stream is behind, and catches up within that: a late
tick is no jump.
"""

from __future__ import annotations

import numpy as np

from crl_node.arm.checks import WORKSPACE_SLACK, JointState
from crl_node.arm.felt import FELT
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile_types import RobotProfile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.arm.way import Bunching
from crl_node.data import Array

#: Share of the stream's own acceleration that braking before a joint's limit counts on.
_BRAKE_SHARE = 0.85
#: A tip further outside the workspace than a trajectory may be, m: it lags or overshoots a little.
_OUTSIDE = WORKSPACE_SLACK + 0.005


class Stream:
    """Joint velocities of one arm, tick by tick.

    Times are seconds on the gate's clock, but for a `tick`: that is steady time, which goes on when a simulated clock
    stands still and does not jump when a machine's clock is set.
    """

    def __init__(self, profile: RobotProfile, arm: Arm) -> None:
        self.profile = profile
        self.arm = arm
        self.zeroed = ""  # why the last target was zero; empty while the arm is meant to move
        self._trajectory: JointTrajectory | None = None
        self._start = 0.0
        self._fed = -np.inf  # s, when the last command was accepted
        self._sent = np.zeros(len(profile.joint_names))  # [J] rad/s
        self._sent_at: float | None = None  # tick
        self._fed_tick = np.inf  # tick of the first message after the last command was accepted
        self._period = 1.0 / profile.controller.rate
        self.bunching = Bunching(self._period)  # its times are ticks

    def follow(self, trajectory: JointTrajectory, start: float, now: float, *, hold: bool) -> None:
        """Execute `trajectory`, which begins at `start` s. A hold does not count as a command."""
        self._trajectory, self._start = trajectory.reordered(self.profile.joint_names), start
        if not hold:
            self._fed, self._fed_tick = now, np.inf

    def stop(self) -> None:
        """Come to rest whatever was accepted."""
        self._trajectory = None

    @property
    def at_rest(self) -> bool:
        """The last velocities sent were zero."""
        return not self._sent.any()

    def velocity(
        self, now: float, measured: JointState | None, problem: str = "", *, tick: float | None = None
    ) -> Array:
        """Joint velocities [J] rad/s to send at `now` s; remembers them. `problem`: why the joints are not known.

        `tick` s is when they are sent; without it the gate's clock counts as steady.
        """
        tick = now if tick is None else tick
        share = FELT / (FELT + self._period + self.bunching.at(tick))
        acceleration = share * self.profile.limits.acceleration  # [J] rad/s^2
        self._fed_tick = min(self._fed_tick, tick)
        target = self._target(now, measured, problem, tick - self._fed_tick)
        if measured is not None and not problem:
            target = self._before_limits(target, self._now_at(measured, now), _BRAKE_SHARE * acceleration)
        if not np.isfinite(target).all():  # NaN passes through clip
            target, self.zeroed = np.zeros_like(target), "a velocity was not finite"
        elapsed = self._period if self._sent_at is None else min(max(tick - self._sent_at, 0.0), self._period)
        if self._sent_at is not None and tick - self._sent_at > self.profile.controller.timeout:
            self._sent = self._left(None if problem else measured)
        # Last of all: whatever is wanted, the change is one that the arm can make.
        sent = np.clip(target, self._sent - acceleration * elapsed, self._sent + acceleration * elapsed)
        self._sent, self._sent_at = sent, tick
        return sent.copy()

    def twist(self, velocities: Array, measured: JointState | None, now: float) -> Array:
        """Twist of the tip [6] (m/s, rad/s; base frame's axes) at `now` s of the joint velocities [J] rad/s sent last.

        Zero without joints.
        """
        if measured is None:
            return np.zeros(6)
        return self.arm.tip_twist_at(self._now_at(measured, now), velocities)

    def _target(self, now: float, measured: JointState | None, problem: str, fed: float) -> Array:
        """What is wanted at `now` s, `fed` s of steady time after the first message for the last command."""
        zero = np.zeros_like(self._sent)
        controller = self.profile.controller
        silence = max(now - self._fed, fed)
        if self._trajectory is None:
            self.zeroed = "nothing is to be executed"
        elif problem or measured is None:
            self.zeroed = problem or "no joint states have arrived yet"
        elif not silence <= controller.timeout:
            self.zeroed = f"no command for {silence:.3f} s, at most {controller.timeout:g} s is allowed"
        else:
            q, dq = self._trajectory.sample(now - self._start)
            target = dq + controller.gain * (q - self._now_at(measured, now))
            excess = float((np.abs(target) / self.profile.limits.velocity).max())
            target = target / max(1.0, excess)  # all joints alike: the direction stays
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

    def _left(self, measured: JointState | None) -> Array:
        """What is left [J] rad/s of the velocity sent last, in a controller that stops by itself when nobody speaks."""
        if measured is None or not np.isfinite(measured.velocity).all():
            return np.zeros_like(self._sent)
        return np.clip(measured.velocity, np.minimum(self._sent, 0.0), np.maximum(self._sent, 0.0))

    def _now_at(self, measured: JointState, now: float) -> Array:
        """Where the joints [J] rad are, that were `measured` a while ago: they went on with what was sent last."""
        age = min(max(now - measured.stamp, 0.0), self.profile.watchdog.joint_states)
        return np.asarray(measured.position + age * self._sent)

    def _before_limits(self, velocity: Array, q: Array, braking: Array) -> Array:
        """No faster towards a joint's limit than it can brake before it, with A = `braking` [J] rad/s^2.

        Braking in steps of A T from v takes v^2 / (2 A) + v T / 2: at most the distance d that is left. The last step,
        from less than A T, takes v T: so v is at most d / T as well, which costs an eighth more than A.
        """
        limits, period = self.profile.limits, self._period
        step, way = 0.5 * braking * period, 2 * braking
        up, down = np.maximum(limits.upper - q, 0.0), np.maximum(q - limits.lower, 0.0)
        highest = np.minimum(np.sqrt(step**2 + way * up) - step, up / period)
        lowest = -np.minimum(np.sqrt(step**2 + way * down) - step, down / period)
        return np.clip(velocity, lowest, highest)

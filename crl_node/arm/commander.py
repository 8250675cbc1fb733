"""From tip velocities to joint trajectories: short chunks that join smoothly and end at rest."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import RobotProfile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.data import Array

#: A ramp is never shorter, s: two points closer than this would make the cubic between them stiff.
_SHORTEST_RAMP = 0.02
#: Largest corrections of one chunk, towards the working height and the posture that belongs to the tip's place.
_HEIGHT_CORRECTION = 0.005  # m
_POSTURE_CORRECTION = 0.01  # rad
#: Share of `max_tip_lag` that is ordinary: what a tip lags that moves freely.
_FREE_LAG = 2 / 3
#: Chunks kept to know where the arm was told to be when it was measured: more begin in a lead than one.
_REMEMBERED = 12
#: Share of the joints' limits the commander asks for: the gate checks against the whole.
_LIMIT_SHARE = 0.99


@dataclass(frozen=True)
class Chunk:
    """One command: at most 0.2 s of motion that ends at rest."""

    trajectory: JointTrajectory
    start: float  # s, when it starts to act
    velocity: Array  # [2] m/s, mean planar tip velocity over the first `command_duration`
    final_velocity: Array  # [2] m/s, planar tip velocity reached at `command_duration`
    resynchronised: bool  # the reference was far from the measured state and was given up for it


@dataclass(frozen=True)
class _Profile:
    """Planar tip velocity over a chunk: from `before` linearly to `target`, held, then linearly to zero."""

    before: Array  # [2] m/s
    target: Array  # [2] m/s
    ramp: float  # s from `before` to `target`
    duration: float  # s, until the ramp down begins
    end: float  # s

    def at(self, time: float) -> tuple[Array, Array]:
        """Displacement [2] m and velocity [2] m/s at `time` s."""
        t = min(time, self.ramp)
        velocity = self.before + (self.target - self.before) * (t / self.ramp)
        displacement = 0.5 * t * (self.before + velocity)
        if time > self.ramp:
            displacement = displacement + self.target * (min(time, self.duration) - self.ramp)
        if time > self.duration:
            left = (self.end - min(time, self.end)) / (self.end - self.duration)
            velocity = self.target * left
            displacement = displacement + 0.5 * (self.target + velocity) * (
                min(time, self.end) - self.duration
            )
        return displacement, velocity


class TipCommander:
    """Makes the chunks of one arm and remembers the last, so that the next continues it.

    Call `chunk` once per control period. The reference (not the measured state) is what is continued: it is
    smooth, and the controller follows it closely. In front of an obstacle it waits for the tip
    (`profile.max_tip_lag`). It is given up for the measured state when the two differ by more than
    `profile.resync_tolerance`, as after the arm was moved by something else.
    """

    def __init__(self, profile: RobotProfile, arm: Arm | None = None) -> None:
        self.profile = profile
        self.arm = arm or Arm(profile)
        self._trajectory: JointTrajectory | None = None
        self._start = 0.0
        self._previous: deque[tuple[JointTrajectory, float]] = deque(maxlen=_REMEMBERED)

    def reset(self, q: dict[str, float], start: float = 0.0) -> None:
        """Take `q` rad, at rest, as the reference from `start` s on."""
        self._previous.clear()
        self._trajectory = JointTrajectory.resting(self.profile.joint_names, self.profile.vector(q))
        self._start = start

    def adopt(self, trajectory: JointTrajectory, start: float) -> None:
        """Continue from `trajectory`, which is executed from `start` s on instead of the last chunk (a gate's hold)."""
        self._keep()
        self._trajectory, self._start = trajectory.reordered(self.profile.joint_names), start

    def _keep(self) -> None:
        """Remember the reference that a new one takes over from."""
        if self._trajectory is not None:
            self._previous.append((self._trajectory, self._start))

    def reference(self, time: float) -> tuple[Array, Array]:
        """Reference position [J] rad and velocity [J] rad/s at `time` s, on the clock of the chunks' starts."""
        if self._trajectory is None:
            raise RuntimeError("the commander has no reference yet: call reset() or chunk() first")
        return self._trajectory.sample(time - self._start)

    def _before(self, time: float) -> Array:
        """Reference position [J] rad at `time` s, also within the chunks before the last."""
        if time < self._start:
            for trajectory, start in reversed(self._previous):
                if start <= time:
                    return trajectory.sample(time - start)[0]
        return self.reference(time)[0]

    def hold(
        self, q: dict[str, float], start: float | None = None, *, measured_at: float | None = None
    ) -> Chunk:
        """A chunk that comes to rest: `chunk` with no velocity; the tip stays where it then is."""
        still = dict.fromkeys(self.profile.joint_names, 0.0)
        return self.chunk(q, still, np.zeros(2), start=start, measured_at=measured_at)

    def chunk(
        self,
        q: dict[str, float],
        dq: dict[str, float],
        velocity: Array,
        *,
        start: float | None = None,
        measured_at: float | None = None,
    ) -> Chunk:
        """The next command: move the tip at `velocity` [2] m/s, as far as limits and workspace allow.

        `q` rad and `dq` rad/s are the measured state at `start` s, when the chunk starts to act. Without
        `start` it is the end of the last chunk's first `command_duration`, which is exact in lockstep.
        `measured_at` s is when the state was measured, where that is not `start`: an arm that moves is behind where it
        will be. ValueError when `velocity` or the state is not finite.
        """
        measured, speed = self.profile.vector(q), self.profile.vector(dq)
        speed = np.where(np.isfinite(speed), speed, 0.0)
        wanted = np.asarray(velocity, float)
        if wanted.shape != (2,) or not (np.isfinite(wanted).all() and np.isfinite(measured).all()):
            raise ValueError(
                f"tip velocity {wanted.tolist()} with joints {measured.tolist()} is not finite and planar"
            )
        begin = self._start + self.profile.command_duration if start is None else start
        resync = self._trajectory is None
        if self._trajectory is None:
            q0, dq0 = measured, np.zeros_like(measured)
        else:
            q0, dq0 = self.reference(begin)
            then = q0 if measured_at is None or measured_at > begin else self._before(measured_at)
            if float(np.abs(then - measured).max()) > self.profile.resync_tolerance:
                resync = True
                q0 = measured
                # An arm that stands still stands still whatever its reference did; one that moves is taken as it moves.
                dq0 = np.clip(speed, -np.abs(dq0), np.abs(dq0))
            else:
                measured = measured + (q0 - then)  # where it will be when the chunk starts
        q0 = np.clip(q0, self.profile.limits.lower, self.profile.limits.upper)
        trajectory, plan = self._build_within_limits(q0, dq0, self._leashed(q0, measured, speed, wanted))
        self._keep()
        self._trajectory, self._start = trajectory, begin
        displacement, final = plan.at(plan.duration)
        return Chunk(trajectory, begin, displacement / plan.duration, final, resync)

    def _leashed(self, q0: Array, measured: Array, speed: Array, wanted: Array) -> Array:
        """`wanted` [2] m/s, less what would take the reference further ahead of a tip that does not follow.

        One that runs on into an obstacle winds the arm up; given up for the measured state it takes on the tilt of
        a tool that is blocked. So it is kept, always a posture of its own, a short way ahead of the tip.
        """
        lag = self.arm.tip_at(q0)[:2] - self.arm.tip_at(measured)[:2]
        size, most = float(np.linalg.norm(lag)), self.profile.max_tip_lag
        if size <= _FREE_LAG * most:
            return wanted
        ahead = lag / size
        follows = max(0.0, float(self.arm.tip_velocity_at(measured, speed)[:2] @ ahead))
        allowed = follows + (most - size) / self.profile.command_duration
        excess = float(wanted @ ahead) - allowed
        return wanted - max(0.0, excess) * ahead

    # -- construction ---------------------------------------------------------------------------------------------

    def _build_within_limits(self, q0: Array, dq0: Array, wanted: Array) -> tuple[JointTrajectory, _Profile]:
        """`_build`, with as much of the change of velocity as the joints can take."""
        before = self.arm.tip_velocity_at(q0, dq0)[:2]
        for share in (1.0, 0.75, 0.5, 0.25, 0.1):
            trajectory, plan = self._build(q0, dq0, before + share * (wanted - before))
            limits = self.profile.limits
            if np.all(trajectory.max_velocity() <= _LIMIT_SHARE * limits.velocity) and np.all(
                trajectory.max_acceleration() <= _LIMIT_SHARE * limits.acceleration
            ):
                return trajectory, plan
        return self._build(q0, dq0, np.zeros(2))

    def _build(self, q0: Array, dq0: Array, wanted: Array) -> tuple[JointTrajectory, _Profile]:
        """Points from the state q0 [J] rad, dq0 [J] rad/s to rest, at `wanted` [2] m/s as far as possible."""
        tip = self.arm.tip_at(q0)
        plan = self._plan(tip[:2], self.arm.tip_velocity_at(q0, dq0)[:2], wanted)
        lift = self.profile.tip_height - tip[2]
        lift = min(max(lift, -_HEIGHT_CORRECTION), _HEIGHT_CORRECTION)
        # The tip's place has one configuration; after a resynchronisation the arm has another: it comes home slowly.
        offset = q0 - self.arm.solve(tip, q0)
        size = float(np.abs(offset).max())
        kept = 1.0 - min(1.0, _POSTURE_CORRECTION / size) if size > 0 else 0.0

        middle = plan.duration + 0.5 * (plan.end - plan.duration)
        times = [plan.ramp, plan.duration, middle, plan.end]
        if plan.duration - plan.ramp < _SHORTEST_RAMP:
            times.remove(plan.ramp)
            if plan.ramp >= 2 * _SHORTEST_RAMP:
                times.insert(0, 0.5 * plan.ramp)
        positions, velocities = [q0], [dq0]
        q = q0 - offset
        for time in times:
            share, rate = _smoothstep(min(1.0, time / plan.duration), plan.duration)
            moved, planar = plan.at(time)
            place = np.array([tip[0] + moved[0], tip[1] + moved[1], tip[2] + share * lift])
            q = self.arm.solve(place, q)
            left = 1.0 - share * (1.0 - kept)
            positions.append(q + left * offset)
            rest = time == plan.end
            dq = (
                np.zeros_like(q)
                if rest
                else self.arm.joint_velocity(q, place, np.array([*planar, rate * lift]))
            )
            velocities.append(dq if rest else dq - rate * (1.0 - kept) * offset)
        points = np.stack(positions)
        limits = self.profile.limits
        return JointTrajectory(
            self.profile.joint_names,
            np.array([0.0, *times]),
            np.clip(points, limits.lower, limits.upper),
            np.stack(velocities),
        ), plan

    def _plan(self, place: Array, before: Array, wanted: Array) -> _Profile:
        """A velocity profile from `place` [2] m and `before` [2] m/s that stays in the workspace.

        Each axis is clipped by itself, so that the tip slides along the border instead of stopping at it.
        """
        profile = self.profile
        duration, down = profile.command_duration, profile.command_ramp
        speed = float(np.linalg.norm(wanted))
        target = wanted * min(1.0, profile.max_tip_speed / speed) if speed > 0 else wanted
        change = target - before
        most = profile.max_tip_acceleration * duration
        size = float(np.linalg.norm(change))
        if size > most:
            target = before + change * (most / size)
        box = profile.workspace
        low, high = box.low[:2] - place, box.high[:2] - place
        ramp = _SHORTEST_RAMP
        for _ in range(6):
            ramp = min(
                max(float(np.linalg.norm(target - before)) / profile.max_tip_acceleration, ramp), duration
            )
            # Where the tip rests is place + before * ramp / 2 + target * seconds.
            seconds = duration - 0.5 * ramp + 0.5 * down
            fits = np.clip(
                target, (low - 0.5 * ramp * before) / seconds, (high - 0.5 * ramp * before) / seconds
            )
            fits *= min(1.0, profile.max_tip_speed / max(float(np.linalg.norm(fits)), 1e-9))
            if float(np.linalg.norm(fits - before)) <= profile.max_tip_acceleration * ramp + 1e-9:
                return _Profile(before, fits, ramp, duration, duration + down)
            target = fits
        # Braking along the ramp of the chunk before this one: it ends inside because that one did.
        return _Profile(before, np.zeros(2), min(down, duration), duration, duration + down)


def _smoothstep(share: float, duration: float) -> tuple[float, float]:
    """3 s^2 - 2 s^3 and its rate per second, for the share s of `duration` s that has passed."""
    return share * share * (3 - 2 * share), 6 * share * (1 - share) / duration

"""The semantics of ros2_control's joint_trajectory_controller, without the manager around it.

Joint names in any order; partial goals, unknown joints, non-growing times and non-finite numbers are
rejected with a sentence and the motion in progress goes on; a new trajectory replaces the old one and is
joined from the current reference; the last point is held.

Stricter than the original in one thing: what is stamped more than MAX_AHEAD from now is refused. The original would
spend all that time on one cubic to the first point; with a speed at its end that cubic leaves the table. Such a stamp
comes from another clock, as when a simulator was started anew while its last command was on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crl_node.arm.trajectory import JointTrajectory
from crl_node.data import Array

#: How far ahead of now a trajectory may be stamped, s.
MAX_AHEAD = 1.0


class TrajectoryRejectedError(ValueError):
    """A trajectory the controller does not execute; says why. The motion in progress goes on."""


@dataclass(frozen=True)
class _Motion:
    start: float  # s
    trajectory: JointTrajectory


class TrajectoryController:
    """Reference position and velocity of J joints over time."""

    def __init__(self, joint_names: Sequence[str], positions: Array) -> None:
        """Rests at `positions` [J] rad."""
        self.joint_names = tuple(joint_names)
        self._motion = _Motion(0.0, JointTrajectory.resting(self.joint_names, positions))

    def reference(self, time: float) -> tuple[Array, Array]:
        """Position [J] rad and velocity [J] rad/s wanted at `time` s."""
        return self._motion.trajectory.sample(time - self._motion.start)

    @property
    def ends(self) -> float:
        """When the motion in progress ends, s."""
        return self._motion.start + self._motion.trajectory.duration

    def command(
        self,
        joint_names: Sequence[str],
        times: Array,
        positions: Array,
        velocities: Array | None,
        *,
        start: float,
        now: float,
    ) -> None:
        """Replace the motion in progress.

        times [n] s from `start` s (on the clock of `now`), positions [n, J] rad, velocities [n, J] rad/s or
        None (at rest in every point). Points that lie before `now` are passed over. TrajectoryRejectedError
        when it cannot be executed.
        """
        times, positions, velocities = self.checked(joint_names, times, positions, velocities, start=start, now=now)
        times = times + (start - now)
        if times[0] > 0:
            # As the controller does: reach the first point from where the reference is now.
            q, dq = self.reference(now)
            times = np.concatenate([[0.0], times])
            positions, velocities = np.vstack([q, positions]), np.vstack([dq, velocities])
            self._motion = _Motion(now, JointTrajectory(self.joint_names, times, positions, velocities))
        else:
            trajectory = JointTrajectory(self.joint_names, times - times[0], positions, velocities)
            self._motion = _Motion(now + float(times[0]), trajectory)

    def checked(
        self,
        joint_names: Sequence[str],
        times: Array,
        positions: Array,
        velocities: Array | None,
        *,
        start: float,
        now: float,
    ) -> tuple[Array, Array, Array]:
        """What `command` would execute: times [n] s from `start`, positions [n, J] rad, velocities [n, J] rad/s.

        Joints in this controller's order. TrajectoryRejectedError as there; the motion in progress is not touched.
        """
        order = self._order(joint_names)
        times = np.asarray(times, float)
        positions = np.asarray(positions, float)
        velocities = np.zeros_like(positions) if velocities is None else np.asarray(velocities, float)
        self._check(times, positions, velocities, len(joint_names), start, now)
        return times, positions[:, order], velocities[:, order]

    def hold(self, now: float) -> None:
        """Stop where the reference is now."""
        q, _ = self.reference(now)
        self._motion = _Motion(now, JointTrajectory.resting(self.joint_names, q))

    def _order(self, joint_names: Sequence[str]) -> list[int]:
        names = list(joint_names)
        missing = [name for name in self.joint_names if name not in names]
        unknown = [name for name in names if name not in self.joint_names]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if missing or unknown or repeated:
            problems = [
                f"{what}: {', '.join(those)}"
                for what, those in (("missing", missing), ("unknown", unknown), ("given twice", repeated))
                if those
            ]
            raise TrajectoryRejectedError(
                f"trajectory rejected: its joints do not fit ({'; '.join(problems)}); it names "
                f"[{', '.join(names)}], the controller has [{', '.join(self.joint_names)}]; "
                "the motion in progress goes on"
            )
        return [names.index(name) for name in self.joint_names]

    @staticmethod
    def _check(
        times: Array, positions: Array, velocities: Array, joints: int, start: float, now: float
    ) -> None:
        def rejected(why: str) -> TrajectoryRejectedError:
            return TrajectoryRejectedError(f"trajectory rejected: {why}; the motion in progress goes on")

        if times.ndim != 1 or not len(times):
            raise rejected("it has no points")
        for what, values in (("positions", positions), ("velocities", velocities)):
            if values.shape != (len(times), joints):
                raise rejected(f"{what} have shape {list(values.shape)}, wanted [{len(times)}, {joints}]")
            if not np.isfinite(values).all():
                point = int(np.argwhere(~np.isfinite(values))[0][0])
                raise rejected(f"{what} of point {point} are not finite")
        if not np.isfinite(times).all() or times[0] < 0:
            raise rejected(f"times are {times.tolist()} s, wanted finite and not negative")
        steps = np.diff(times)
        if (steps <= 0).any():
            point = int(np.flatnonzero(steps <= 0)[0]) + 1
            raise rejected(
                f"the time of point {point} is {times[point]:g} s, not after the {times[point - 1]:g} s before it"
            )
        if start > now + MAX_AHEAD:
            raise rejected(
                f"it would begin at {start:g} s and it is {now:g} s, at most {MAX_AHEAD:g} s ahead is allowed: its "
                "stamp is of another clock"
            )
        if start + times[-1] < now:
            raise rejected(
                f"it ended at {start + times[-1]:g} s and it is {now:g} s: all of it is in the past"
            )

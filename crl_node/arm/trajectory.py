"""Joint trajectories as cubic Hermite pieces: sampled, and bounded exactly.

This is the interpolation of ros2_control's joint_trajectory_controller for points with positions and
velocities, so that what the gate checks is what the controller executes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.data import Array


@dataclass(frozen=True)
class JointTrajectory:
    """Cubic Hermite pieces between points; it starts at its first point and rests at its last.

    The constructor checks shapes only (ValueError, a sentence). Values may be anything, NaN included: the
    gate is what judges them.
    """

    joint_names: tuple[str, ...]  # J names
    times: Array  # [n] s from the start, first one 0, strictly growing
    positions: Array  # [n, J] rad
    velocities: Array  # [n, J] rad/s

    def __post_init__(self) -> None:
        object.__setattr__(self, "joint_names", tuple(self.joint_names))
        for field in ("times", "positions", "velocities"):
            object.__setattr__(self, field, np.array(getattr(self, field), dtype=float))  # a copy: frozen
        points = len(self.times) if self.times.ndim == 1 else 0
        shape = (points, len(self.joint_names))
        if points < 1:
            raise ValueError(f"trajectory has no points: times have shape {self.times.shape}, wanted [n]")
        for field in ("positions", "velocities"):
            received = getattr(self, field).shape
            if received != shape:
                raise ValueError(
                    f"trajectory.{field} has shape {list(received)}, wanted {list(shape)} "
                    f"({shape[0]} points x {shape[1]} joints)"
                )

    @classmethod
    def resting(cls, joint_names: tuple[str, ...], positions: Array) -> JointTrajectory:
        """A trajectory of one point that stays at `positions` [J] rad."""
        rest = np.asarray(positions, float)[None]
        return cls(joint_names, np.zeros(1), rest, np.zeros_like(rest))

    @classmethod
    def stopping(
        cls, joint_names: tuple[str, ...], position: Array, velocity: Array, seconds: float
    ) -> JointTrajectory:
        """From `position` [J] rad and `velocity` [J] rad/s to rest with constant acceleration in `seconds` s."""
        q, dq = np.asarray(position, float), np.asarray(velocity, float)
        points = np.stack([q, q + 0.5 * seconds * dq])
        return cls(joint_names, np.array([0.0, seconds]), points, np.stack([dq, np.zeros_like(dq)]))

    @property
    def duration(self) -> float:
        """Time of the last point, s."""
        return float(self.times[-1])

    @property
    def ends_at_rest(self) -> bool:
        """The last point's velocity is zero (to rounding: 1e-9 rad/s)."""
        return bool(np.all(np.abs(self.velocities[-1]) <= 1e-9))

    @property
    def is_finite(self) -> bool:
        """Every number is finite. Ask this before any comparison: NaN passes through min, max and clip."""
        return bool(
            np.isfinite(self.times).all()
            and np.isfinite(self.positions).all()
            and np.isfinite(self.velocities).all()
        )

    def sample(self, time: float) -> tuple[Array, Array]:
        """Position [J] rad and velocity [J] rad/s at `time` s: (q, dq).

        Before the first point: its position, at rest. From the last point on: its position, at rest.
        """
        if time >= self.times[-1]:
            return self.positions[-1].copy(), np.zeros(len(self.joint_names))
        if time < self.times[0]:
            return self.positions[0].copy(), np.zeros(len(self.joint_names))
        i = int(np.searchsorted(self.times, time, side="right")) - 1
        h = self.times[i + 1] - self.times[i]
        s = (time - self.times[i]) / h
        q0, q1, m0, m1 = (
            self.positions[i],
            self.positions[i + 1],
            self.velocities[i] * h,
            self.velocities[i + 1] * h,
        )
        d = q1 - q0
        q = q0 + s * (m0 + s * ((3 * d - 2 * m0 - m1) + s * (m0 + m1 - 2 * d)))
        dq = (m0 + s * (2 * (3 * d - 2 * m0 - m1) + 3 * s * (m0 + m1 - 2 * d))) / h
        return q, dq

    def sample_many(self, times: Array) -> tuple[Array, Array]:
        """`sample` at `times` [T] s: positions [T, J] rad, velocities [T, J] rad/s."""
        samples = [self.sample(float(t)) for t in np.asarray(times, float)]
        return np.stack([q for q, _ in samples]), np.stack([dq for _, dq in samples])

    def after(self, time: float) -> JointTrajectory:
        """What is left of it from `time` s on: the same motion, with times that start at 0."""
        q, dq = self.sample(time)
        later = self.times > time + 1e-9
        return JointTrajectory(
            self.joint_names,
            np.concatenate([[0.0], self.times[later] - time]),
            np.vstack([q[None], self.positions[later]]),
            np.vstack([dq[None], self.velocities[later]]),
        )

    def lasting(self, seconds: float) -> JointTrajectory:
        """The same motion; one that ends at rest before `seconds` s rests until then in a point of its own.

        A controller refuses what is over when it arrives, be it a stop, and goes on with what it has.
        """
        if self.duration >= seconds or not self.ends_at_rest:
            return self
        return JointTrajectory(
            self.joint_names,
            np.append(self.times, seconds),
            np.vstack([self.positions, self.positions[-1:]]),
            np.vstack([self.velocities, np.zeros_like(self.velocities[-1:])]),
        )

    def _pieces(self) -> tuple[Array, Array, Array, Array]:
        """Polynomial coefficients of q(tau) = q0 + b tau + c tau^2 + d tau^3 on each piece.

        Returns h [n-1] s and b, c, d [n-1, J].
        """
        h = np.diff(self.times)
        hj = h[:, None]
        slope = np.diff(self.positions, axis=0) / hj
        v0, v1 = self.velocities[:-1], self.velocities[1:]
        return h, v0, (3 * slope - 2 * v0 - v1) / hj, (v0 + v1 - 2 * slope) / hj**2

    def max_velocity(self) -> Array:
        """Largest |dq| [J] rad/s, exact: piece ends and the vertices of the quadratic velocities."""
        largest: Array = np.abs(self.velocities).max(axis=0)
        if len(self.times) < 2:
            return largest
        h, b, c, d = self._pieces()
        with np.errstate(divide="ignore", invalid="ignore"):
            vertex = -c / (3 * d)
        inside = np.isfinite(vertex) & (vertex > 0) & (vertex < h[:, None])
        tau = np.where(inside, vertex, 0.0)
        at_vertex = np.abs(b + 2 * c * tau + 3 * d * tau**2)
        return np.asarray(np.maximum(largest, np.where(inside, at_vertex, 0.0).max(axis=0)))

    def max_acceleration(self) -> Array:
        """Largest |ddq| [J] rad/s^2, exact: linear on each piece, so largest at piece ends.

        Steps of velocity at the first or last point are not in it (see `checks.check_join`).
        """
        if len(self.times) < 2:
            return np.zeros(len(self.joint_names))
        h, _, c, d = self._pieces()
        ends = np.maximum(np.abs(2 * c), np.abs(2 * c + 6 * d * h[:, None]))
        return np.asarray(ends.max(axis=0))

    def position_range(self) -> tuple[Array, Array]:
        """Smallest and largest position [J] rad reached, exact: points and the extrema of the cubics."""
        low, high = self.positions.min(axis=0), self.positions.max(axis=0)
        if len(self.times) < 2:
            return low, high
        h, b, c, d = self._pieces()
        q0 = self.positions[:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(c**2 - 3 * b * d)
            # Two roots of b + 2 c tau + 3 d tau^2, in the form that survives d -> 0.
            pivot = -(c + np.where(c >= 0, root, -root))
            candidates = [pivot / (3 * d), b / pivot]
        for tau in candidates:
            inside = np.isfinite(tau) & (tau > 0) & (tau < h[:, None])
            t = np.where(inside, tau, 0.0)
            q = q0 + t * (b + t * (c + t * d))
            low, high = np.minimum(low, q.min(axis=0)), np.maximum(high, q.max(axis=0))
        return low, high

    def reordered(self, joint_names: tuple[str, ...]) -> JointTrajectory:
        """The same trajectory with its joints in the order of `joint_names`.

        Raises ValueError when the two sets of names differ.
        """
        missing = [n for n in joint_names if n not in self.joint_names]
        unknown = [n for n in self.joint_names if n not in joint_names]
        if missing or unknown or len(self.joint_names) != len(joint_names):
            raise ValueError(
                f"trajectory names {len(self.joint_names)} joints, wanted {len(joint_names)}: "
                f"missing {missing or 'none'}, unknown {unknown or 'none'}"
            )
        order = [self.joint_names.index(n) for n in joint_names]
        return JointTrajectory(joint_names, self.times, self.positions[:, order], self.velocities[:, order])

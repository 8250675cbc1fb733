"""Kinematics of one arm: Pinocchio for the model, pink for inverse kinematics.

The tip's task is its position and the direction of the tool; turning about the tool is free. What the task
leaves free goes to the profile's posture, so that a tip position has exactly one configuration: nothing drifts.
"""

from __future__ import annotations

import numpy as np
import pink
import pinocchio
from pink.exceptions import PinkError
from pink.limits import ConfigurationLimit, VelocityLimit
from pink.tasks import FrameTask, PostureTask

from crl_node.arm.profile import RobotProfile
from crl_node.data import Array

#: One step of the solver, s. Velocities are differences over it; long steps would linearise too much.
_STEP = 4e-3
#: A posture pull that cannot compete with the tip's task.
_POSTURE_SCALE = 1e-3
#: Pull of the tool's direction by how the profile wants it. `prefer` cannot compete with the position: what an arm
#: with few joints cannot hold is given up.
_ORIENTATION_COST = {"hold": 1.0, "prefer": 2e-2, "free": 0.0}
_POSITION_TOLERANCE = 1e-7  # m
_DIRECTION_TOLERANCE = 1e-6  # rad
#: What is accepted when the posture task keeps the iteration from getting closer.
_POSITION_ACCEPTED = 1e-4  # m
_DIRECTION_ACCEPTED = 1e-3  # rad


class UnreachableError(ValueError):
    """No configuration within the joint limits puts the tip there; the message says what was asked."""


class Arm:
    """Forward and inverse kinematics of the arm in `profile`.

    Dictionaries are by joint name; vectors [J] are in the order of `profile.joint_names`.
    Not thread-safe: it works in buffers of its own.
    """

    def __init__(self, profile: RobotProfile) -> None:
        self.profile = profile
        self.model = pinocchio.buildModelFromXML(profile.description)
        self._data = self.model.createData()
        if self.model.nq != len(profile.joint_names):
            raise ValueError(
                f"{profile.urdf} has {self.model.nq} joint coordinates, profile '{profile.name}' names "
                f"{len(profile.joint_names)}: joints must be revolute with limits, or prismatic"
            )
        # Where each of the profile's joints stands in Pinocchio's vectors.
        self._index = np.array(
            [self.model.joints[self.model.getJointId(n)].idx_q for n in profile.joint_names]
        )
        limits = profile.limits
        for values, target in (
            (limits.lower, self.model.lowerPositionLimit),
            (limits.upper, self.model.upperPositionLimit),
            (limits.velocity, self.model.velocityLimit),
        ):
            target[self._index] = values
        self._tip_id = self._frame(profile.tip_frame)
        self._base_id = self._frame(profile.base_frame)
        self._plane = pinocchio.SE3(profile.table_plane.pose)  # base <- table
        self._capsule_ids = [self._frame(capsule.link) for capsule in profile.self_filter]
        self._capsule_ends = np.array([[c.start, c.end] for c in profile.self_filter]).reshape(-1, 2, 3)
        self.home = profile.vector(profile.home)
        self._configuration = pink.Configuration(
            self.model, self.model.createData(), self._to_model(self.home)
        )
        lean = _ORIENTATION_COST[profile.orientation]
        self._tip_task = FrameTask(profile.tip_frame, position_cost=10.0, orientation_cost=[lean, lean, 0.0])
        self._direction_tolerance, self._direction_accepted = (
            (_DIRECTION_TOLERANCE, _DIRECTION_ACCEPTED) if profile.orientation == "hold" else (np.inf, np.inf)
        )
        costs = np.zeros(self.model.nv)
        costs[self._index] = _POSTURE_SCALE * profile.posture_cost
        self._posture_task = PostureTask(cost=costs)
        self._posture_task.set_target(self._to_model(self.home))
        # Iterations on positions may jump; only velocities along a motion are held to the velocity limits.
        self._position_limits = [ConfigurationLimit(self.model, config_limit_gain=1.0)]
        self._motion_limits = [*self._position_limits, VelocityLimit(self.model)]

    def _frame(self, name: str) -> int:
        if not self.model.existFrame(name):
            raise ValueError(f"{self.profile.urdf} has no frame '{name}'")
        return int(self.model.getFrameId(name))

    def _to_model(self, vector: Array) -> Array:
        q = np.empty(self.model.nq)
        q[self._index] = vector
        return q

    def _table(self) -> pinocchio.SE3:
        """World <- table, after forward kinematics: the frame of all positions."""
        return self._data.oMf[self._base_id] * self._plane

    # -- forward --------------------------------------------------------------------------------------------------

    def tip_pose_at(self, vector: Array) -> tuple[Array, Array]:
        """Tip position [3] m and rotation [3, 3] in the table's frame, for joints [J] rad."""
        pinocchio.framesForwardKinematics(self.model, self._data, self._to_model(vector))
        pose = self._table().actInv(self._data.oMf[self._tip_id])
        return pose.translation.copy(), pose.rotation.copy()

    def tip_at(self, vector: Array) -> Array:
        """Tip position [3] m, for joints [J] rad."""
        return self.tip_pose_at(vector)[0]

    def tip(self, q: dict[str, float]) -> Array:
        """Tip position [3] m in the table's frame. ProfileError when a joint is absent."""
        return self.tip_at(self.profile.vector(q))

    def tip_pose(self, q: dict[str, float]) -> Array:
        """Tip pose [4, 4] in the table's frame."""
        pose = np.eye(4)
        pose[:3, 3], pose[:3, :3] = self.tip_pose_at(self.profile.vector(q))
        return pose

    def tip_velocity_at(self, vector: Array, velocity: Array) -> Array:
        """Linear velocity of the tip [3] m/s, base frame, for joints [J] rad moving at [J] rad/s."""
        q = self._to_model(vector)
        jacobian = pinocchio.computeFrameJacobian(
            self.model, self._data, q, self._tip_id, pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        pinocchio.framesForwardKinematics(self.model, self._data, q)
        base = self._table().rotation
        return np.asarray(base.T @ (jacobian[:3] @ self._to_model(velocity)))

    def tip_twist_at(self, vector: Array, velocity: Array) -> Array:
        """Linear [3] m/s and angular [3] rad/s velocity of the tip (base frame) of joints moving at [J] rad/s."""
        return np.asarray(self.tip_jacobian_at(vector) @ velocity)

    def tip_jacobian_at(self, vector: Array) -> Array:
        """Jacobian [6, J] of the tip (linear m, angular rad), in the base frame's axes."""
        q = self._to_model(vector)
        jacobian = pinocchio.computeFrameJacobian(
            self.model, self._data, q, self._tip_id, pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        pinocchio.framesForwardKinematics(self.model, self._data, q)
        turn = self._data.oMf[self._base_id].rotation.T
        return np.asarray(np.vstack([turn @ jacobian[:3], turn @ jacobian[3:]])[:, self._index])

    def capsules(self, q: dict[str, float]) -> list[tuple[Array, Array, float]]:
        """The capsules that cover the arm and its tool: ends [3] m, [3] m in the table's frame, and radius m."""
        pinocchio.framesForwardKinematics(self.model, self._data, self._to_model(self.profile.vector(q)))
        base = self._table()
        placed = []
        for frame, ends, capsule in zip(
            self._capsule_ids, self._capsule_ends, self.profile.self_filter, strict=True
        ):
            pose = base.actInv(self._data.oMf[frame])
            start, end = ends @ pose.rotation.T + pose.translation
            placed.append((start, end, capsule.radius))
        return placed

    # -- inverse --------------------------------------------------------------------------------------------------

    def tool_direction(self, position: Array) -> Array:
        """Unit vector [3] along which the tool points when its tip is at `position` [3] m."""
        radius = float(np.hypot(position[0], position[1]))
        lean, _ = self.profile.tool_lean.at(radius)
        outward = np.sin(lean) / max(radius, 1e-6)
        return np.array([outward * position[0], outward * position[1], -np.cos(lean)])

    def _aim(self, position: Array) -> tuple[float, float]:
        """Point the tip's task at `position` [3] m; returns what is left: m, rad."""
        base = self._configuration.get_transform_frame_to_world(self.profile.base_frame) * self._plane
        tip = base.actInv(self._configuration.get_transform_frame_to_world(self.profile.tip_frame))
        direction = self.tool_direction(position)
        # The shortest turn from the tool's direction to the wanted one: none about the tool itself.
        turn = pinocchio.Quaternion.FromTwoVectors(tip.rotation[:, 2], direction).toRotationMatrix()
        self._tip_task.set_target(base * pinocchio.SE3(turn @ tip.rotation, np.asarray(position, float)))
        tool = tip.rotation[:, 2]
        angle = np.arctan2(np.linalg.norm(np.cross(tool, direction)), tool @ direction)
        return float(np.linalg.norm(tip.translation - position)), float(angle)

    def solve(self, position: Array, seed: Array, *, iterations: int = 40) -> Array:
        """Joints [J] rad that put the tip at `position` [3] m with the tool leaning as the profile says.

        Starts from `seed` [J] rad; near it two or three iterations do. UnreachableError when none is found
        within the joint limits.
        """
        limits = self.profile.limits
        self._configuration.update(self._to_model(np.clip(seed, limits.lower, limits.upper)))
        tasks = [self._tip_task, self._posture_task]
        for iteration in range(iterations):
            distance, angle = self._aim(position)
            if iteration > 0 and distance < _POSITION_TOLERANCE and angle < self._direction_tolerance:
                break
            try:
                step = pink.solve_ik(
                    self._configuration, tasks, 1.0, solver="daqp", limits=self._position_limits
                )
            except PinkError as error:
                raise self._unreachable(position, str(error)) from error
            # Far from the answer the linearisation is worth little: no joint turns more than half a radian at once.
            step = step * min(1.0, 0.5 / max(float(np.abs(step).max()), 1e-12))
            self._configuration.integrate_inplace(step, 1.0)
        else:
            if distance > _POSITION_ACCEPTED or angle > self._direction_accepted:
                raise self._unreachable(position, f"{distance * 1e3:.2f} mm and {angle:.4f} rad are left")
        return np.asarray(np.clip(self._configuration.q[self._index], limits.lower, limits.upper))

    def joint_velocity(self, vector: Array, position: Array, velocity: Array) -> Array:
        """Joint velocity [J] rad/s that moves the tip from `position` [3] m at `velocity` [3] m/s.

        `vector` [J] rad is the configuration of `position` (from `solve`).
        """
        self._configuration.update(self._to_model(vector))
        place, ahead = np.asarray(position, float), _STEP * np.asarray(velocity, float)
        if self.profile.orientation == "hold":
            return self._rate(place + ahead)
        # A tool whose direction is not held exactly is not quite where it will settle: that is none of this motion.
        return self._rate(place + ahead) - self._rate(place)

    def _rate(self, target: Array) -> Array:
        """Joint velocity [J] rad/s that brings the tip to `target` [3] m within _STEP."""
        self._aim(target)
        tasks = [self._tip_task, self._posture_task]
        try:
            dq = pink.solve_ik(self._configuration, tasks, _STEP, solver="daqp", limits=self._motion_limits)
        except PinkError as error:
            raise self._unreachable(target, str(error)) from error
        return np.asarray(dq[self._index])

    def _unreachable(self, position: Array, reason: str) -> UnreachableError:
        place = ", ".join(f"{value:.3f}" for value in np.asarray(position, float))
        return UnreachableError(
            f"'{self.profile.name}' found no configuration for its tip at [{place}] m: {reason}"
        )

"""The arm as a PyBullet body with its joint controller.

No gravity acts on it: like a real iiwa's controller, ours compensates the arm's own weight exactly.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pybullet
import pybullet_data

from crl_node.arm.description import angles
from crl_node.arm.profile import RobotProfile, TablePlane
from crl_node.data import Array

#: Largest torque that presses towards the reference, N m: 20 to 40 N at the tip, which stalls on a post.
PUSH_TORQUE = 15.0
#: Inertia of each motor as its gears reflect it, kg m^2. PyBullet knows none, so the links get it about every
#: axis; without it the light wrist would be a soft one, and a blocked tool would tilt instead of stopping the arm.
ROTOR_INERTIA = 0.25
#: Natural frequency with which the joints follow their reference, rad/s.
STIFFNESS = 50.0

#: Position [J] rad and velocity [J] rad/s.
State = tuple[Array, Array]


class ArmBody:
    """The arm of `profile`; joints in the profile's order."""

    def __init__(
        self,
        profile: RobotProfile,
        client: int,
        description: str | None = None,
        plane: TablePlane | None = None,
        friction: float = 0.0,
        rotor_inertia: float = ROTOR_INERTIA,
    ) -> None:
        """`description` is a URDF to load instead of the profile's, with the same joints and links.

        `plane` is where the table really is, when not where the profile says; `friction` N m brakes every joint;
        `rotor_inertia` kg m^2 is what its motor adds to it.
        """
        self.profile = profile
        self._text = profile.description if description is None else description
        self._plane = profile.table_plane if plane is None else plane
        self._friction = friction
        self._rotor_inertia = rotor_inertia
        self.client = client
        self.body = self._load()
        self.effort = np.zeros(len(profile.joint_names))  # [J] N m, of the last step
        self.limp: int | None = None  # a joint whose motor gives nothing (a fault to be studied)

    def _load(self) -> int:
        """The URDF with its mesh addresses resolved, and motors of our own."""
        profile, client = self.profile, self.client
        text = self._text.replace("package://pybullet_data", pybullet_data.getDataPath())
        with tempfile.TemporaryDirectory(prefix="crl_sim_") as folder:
            file = Path(folder) / "arm.urdf"
            file.write_text(text, encoding="utf-8")
            # The world's frame is the table's, so the base stands where the table's plane is not.
            base: Array = np.asarray(np.linalg.inv(self._plane.pose), np.float64)
            arm = int(
                pybullet.loadURDF(
                    str(file),
                    base[:3, 3].tolist(),
                    pybullet.getQuaternionFromEuler(angles(base[:3, :3]).tolist()),
                    useFixedBase=True,
                    physicsClientId=client,
                )
            )
        joints, self._tip_link = {}, -1
        for index in range(pybullet.getNumJoints(arm, physicsClientId=client)):
            info = pybullet.getJointInfo(arm, index, physicsClientId=client)
            joints[info[1].decode()] = (index, float(info[10]), float(info[6]))
            if info[12].decode() == profile.tip_frame:
                self._tip_link = index
        missing = [f"joint '{name}'" for name in profile.joint_names if name not in joints]
        if self._tip_link < 0:
            missing.append(f"link '{profile.tip_frame}'")
        if missing:
            raise ValueError(
                f"{profile.urdf} lacks {', '.join(missing)}, which the profile '{profile.name}' names"
            )
        self._joints = [joints[name][0] for name in profile.joint_names]
        self._limits = np.array([joints[name][1] or np.inf for name in profile.joint_names])  # N m
        self._damping = np.array([joints[name][2] for name in profile.joint_names])  # N m s/rad
        for index in self._joints:
            inertia = np.array(pybullet.getDynamicsInfo(arm, index, physicsClientId=client)[2])
            inertia = inertia + self._rotor_inertia
            pybullet.changeDynamics(arm, index, localInertiaDiagonal=inertia.tolist(), physicsClientId=client)
        # PyBullet brakes every joint with a motor of its own until told otherwise.
        none = [0.0] * len(self._joints)
        pybullet.setJointMotorControlArray(
            arm, self._joints, pybullet.VELOCITY_CONTROL, forces=none, physicsClientId=client
        )
        return arm

    def ignore(self, bodies: Sequence[int]) -> None:
        """Pass through `bodies`."""
        for link in range(-1, pybullet.getNumJoints(self.body, physicsClientId=self.client)):
            for body in bodies:
                pybullet.setCollisionFilterPair(self.body, body, link, -1, 0, physicsClientId=self.client)

    def place(self, positions: Array) -> None:
        """Put the joints at `positions` [J] rad, at rest, in no time."""
        for joint, position in zip(self._joints, positions, strict=True):
            pybullet.resetJointState(self.body, joint, float(position), 0.0, physicsClientId=self.client)

    def state(self) -> State:
        """Positions [J] rad and velocities [J] rad/s."""
        states = pybullet.getJointStates(self.body, self._joints, physicsClientId=self.client)
        return np.array([state[0] for state in states]), np.array([state[1] for state in states])

    def tip(self) -> Array:
        """Position [3] m of the tip."""
        state = pybullet.getLinkState(
            self.body, self._tip_link, computeForwardKinematics=True, physicsClientId=self.client
        )
        return np.array(state[4])

    def drive(self, now: State, later: State, dt: float) -> None:
        """Torques for the next step of `dt` s; `now` and `later` are the reference at its begin and end.

        Computed torque: the joints follow like critically damped oscillators. What presses towards the reference
        is limited, so that the arm stalls on a post; the torques are scaled together, so that it then presses in
        the direction it was going: clipping them one by one would drive the tip into the table.
        """
        q, dq = self.state()
        mass = np.array(pybullet.calculateMassMatrix(self.body, q.tolist(), physicsClientId=self.client))
        feedback = mass @ (STIFFNESS**2 * (now[0] - q) + 2 * STIFFNESS * (now[1] - dq))
        feedback *= min(1.0, PUSH_TORQUE / max(float(np.abs(feedback).max()), 1e-9))
        torque = feedback + mass @ ((later[1] - now[1]) / dt) + self._damping * dq
        self.effort = np.clip(torque, -self._limits, self._limits)
        if self.limp is not None:
            self.effort[self.limp] = 0.0
        if self._friction > 0:  # of Coulomb, smooth around rest; the motors do not know of it
            self.effort = self.effort - self._friction * np.tanh(dq / 0.02)
        pybullet.setJointMotorControlArray(
            self.body,
            self._joints,
            pybullet.TORQUE_CONTROL,
            forces=self.effort.tolist(),
            physicsClientId=self.client,
        )

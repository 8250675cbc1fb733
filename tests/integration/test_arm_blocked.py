"""Commander, gate and a simulated arm in front of things that do not yield."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.gate import Gate
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.command import Command

pybullet = pytest.importorskip("pybullet")
PROFILE = load_profile("iiwa_sim")
ARM = Arm(PROFILE)


class Bench:
    """The arm over an empty table in PyBullet, moved by gate and commander at 10 Hz."""

    def __init__(self, folder: Path, client: int) -> None:
        import pybullet_data

        self.client = client
        urdf = folder / "arm.urdf"
        urdf.write_text(
            PROFILE.description.replace("package://pybullet_data", pybullet_data.getDataPath())
        )
        pybullet.setTimeStep(1 / 240, physicsClientId=client)
        self.body = pybullet.loadURDF(str(urdf), useFixedBase=True, physicsClientId=client)
        index = {
            pybullet.getJointInfo(self.body, i, physicsClientId=client)[1].decode(): i
            for i in range(pybullet.getNumJoints(self.body, physicsClientId=client))
        }
        self.joints = [index[name] for name in PROFILE.joint_names]
        for joint, angle in zip(self.joints, ARM.home, strict=True):
            pybullet.resetJointState(self.body, joint, angle, physicsClientId=client)
        self.gate, self.commander, self.time = Gate(PROFILE, ARM), TipCommander(PROFILE, ARM), 0.0

    def obstacle(self, x: float, y: float) -> None:
        shape = pybullet.createCollisionShape(
            pybullet.GEOM_BOX, halfExtents=[0.03] * 3, physicsClientId=self.client
        )
        pybullet.createMultiBody(0, shape, basePosition=[x, y, 0.03], physicsClientId=self.client)

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        states = pybullet.getJointStates(self.body, self.joints, physicsClientId=self.client)
        return np.array([s[0] for s in states]), np.array([s[1] for s in states])

    def step(self, velocity: np.ndarray) -> np.ndarray:
        """One control step; the mean velocity [2] m/s that the gate says was executed."""
        q, dq = self.state()
        self.gate.observe(self.time, PROFILE.joint_names, q, dq)
        chunk = self.commander.chunk(PROFILE.named(q), PROFILE.named(dq), velocity, start=self.time)
        command = Command(self.time, 1, self.time, 1, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)
        verdict = self.gate.judge(command, self.time)
        assert verdict.accepted, verdict.sentence
        for tick in range(24):
            q, dq = verdict.executed.trajectory.sample((tick + 1) / 240)
            pybullet.setJointMotorControlArray(
                self.body,
                self.joints,
                pybullet.POSITION_CONTROL,
                targetPositions=q,
                targetVelocities=dq,
                forces=[300.0] * 7,
                positionGains=[0.4] * 7,
                velocityGains=[1.0] * 7,
                physicsClientId=self.client,
            )
            pybullet.stepSimulation(physicsClientId=self.client)
        self.time += 0.1
        return verdict.executed.velocity

    @property
    def tip(self) -> np.ndarray:
        return ARM.tip_at(self.state()[0])

    @property
    def tilt(self) -> float:
        tip, rotation = ARM.tip_pose_at(self.state()[0])
        return float(np.linalg.norm(np.cross(rotation[:, 2], ARM.tool_direction(tip))))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    client = pybullet.connect(pybullet.DIRECT)
    yield Bench(tmp_path, client)
    pybullet.disconnect(physicsClientId=client)


def test_the_tip_really_moves_as_commanded_along_lines_all_over_the_workspace(bench: Bench) -> None:
    corners = [(0.40, -0.28), (0.80, 0.28), (0.80, -0.28), (0.40, 0.28), (0.60, 0.0), (0.80, 0.0)]
    for corner in corners:
        for _ in range(60):
            way = np.array(corner) - bench.tip[:2]
            distance = float(np.linalg.norm(way))
            if distance < 0.02:
                break
            before = bench.tip
            executed = bench.step(0.2 * way / distance if distance > 0.04 else 2.0 * way)
            moved = (bench.tip - before)[:2] / 0.1
            assert np.linalg.norm(moved - executed) < 0.02
            assert abs(bench.tip[2] - PROFILE.tip_height) < 1e-3
        assert np.linalg.norm(np.array(corner) - bench.tip[:2]) < 0.02, corner


def test_pushing_against_an_immovable_thing_jams_nothing(bench: Bench) -> None:
    """Past bug: the arm wound itself up in front of an obstacle and every further command was rejected."""
    for place in ((0.62, 0.0), (0.62, 0.06), (0.50, 0.20)):
        bench.obstacle(*place)
    rng, velocity = np.random.default_rng(0), np.array([0.25, 0.0])
    for step in range(150):
        if step >= 30 and step % 8 == 0:
            way = np.array([0.62, 0.03]) - bench.tip[:2]
            velocity = rng.normal(size=2) * 0.2 if rng.random() < 0.4 else 0.25 * way / np.linalg.norm(way)
        bench.step(velocity)  # asserts that the gate accepts
        assert bench.tilt < 0.1
        if step == 29:
            assert bench.tip[0] < 0.60  # it is in front of the thing
    for _ in range(20):
        bench.step(np.array([-0.2, 0.0]))
    assert bench.tip[0] < 0.45
    assert bench.tilt < 0.01

"""The self-filter's capsules cover what a camera sees of the arm, and not much more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.camera import Camera

pybullet = pytest.importorskip("pybullet")
SIZE, EYE, TARGET, FOV = 96, (1.25, 0.0, 1.05), (0.58, 0.0, 0.0), 34.0


def capsule_mask(camera: Camera, capsules: list[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    """Pixels [h, w] whose ray passes through a capsule."""
    column, row = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    pixels = np.column_stack([column.ravel(), row.ravel(), np.ones(SIZE * SIZE)])
    rays = pixels @ np.linalg.inv(camera.intrinsics).T @ camera.pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    covered = np.zeros(SIZE * SIZE, bool)
    for start, end, radius in capsules:
        for share in np.linspace(0, 1, 40):
            point = start + share * (end - start) - camera.pose[:3, 3]
            along = rays @ point
            covered |= (point @ point - along**2 < radius**2) & (along > 0)
    return covered.reshape(SIZE, SIZE)


def test_the_capsules_cover_the_rendered_arm_without_hiding_the_table(tmp_path: Path) -> None:
    data = pytest.importorskip("pybullet_data").getDataPath()
    arm = Arm(load_profile("iiwa_sim"))
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(arm.profile.description.replace("package://pybullet_data", data))
    client = pybullet.connect(pybullet.DIRECT)
    try:
        body = pybullet.loadURDF(str(urdf), useFixedBase=True, physicsClientId=client)
        joints = {
            pybullet.getJointInfo(body, i, physicsClientId=client)[1].decode(): i
            for i in range(pybullet.getNumJoints(body, physicsClientId=client))
        }
        camera = Camera.look_at(
            eye=np.array(EYE), target=np.array(TARGET), fov_y=np.radians(FOV), width=SIZE, height=SIZE
        )
        view = pybullet.computeViewMatrix(EYE, TARGET, [0, 0, 1])
        projection = pybullet.computeProjectionMatrixFOV(FOV, 1, 0.05, 5)
        for place in ((0.42, 0.0), (0.40, 0.28), (0.80, -0.28), (0.80, 0.0), (0.60, 0.15), (0.55, -0.2)):
            q = arm.profile.named(arm.solve(np.array([*place, 0.02]), arm.home))
            for name, angle in q.items():
                pybullet.resetJointState(body, joints[name], angle, physicsClientId=client)
            image = pybullet.getCameraImage(
                SIZE, SIZE, view, projection, renderer=pybullet.ER_TINY_RENDERER, physicsClientId=client
            )
            seen = np.reshape(image[4], (SIZE, SIZE)) == body
            mask = capsule_mask(camera, arm.capsules(q))
            assert (mask & seen).sum() >= 0.99 * seen.sum(), place
            assert mask.sum() <= 1.6 * seen.sum(), place
    finally:
        pybullet.disconnect(physicsClientId=client)

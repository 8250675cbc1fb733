"""Cameras as the matrices that PyBullet draws with."""

from __future__ import annotations

import numpy as np
import pybullet

from crl_node.camera import Camera
from crl_node.simulator.world_types import World


def camera_matrices(world: World) -> tuple[list[float], list[float]]:
    """OpenGL view and projection of the world's camera; the far plane clears table and arm."""
    spec = world.camera
    view = pybullet.computeViewMatrix(spec.eye, spec.target, [0, 0, 1])
    projection = pybullet.computeProjectionMatrixFOV(
        np.degrees(spec.fov_y), spec.width / spec.height, 0.05, 10.0
    )
    # TinyRenderer draws half a pixel right of and above where a pixel's centre lies at (.5, .5): shift it back
    shifted = list(projection)
    shifted[8] += 1 / spec.width
    shifted[9] += 1 / spec.height
    return list(view), shifted


def matrices_of(camera: Camera) -> tuple[list[float], list[float]]:
    """OpenGL view and projection of any pinhole camera, with the same half pixel as above."""
    to_camera = np.diag([1.0, -1.0, -1.0, 1.0]) @ np.linalg.inv(camera.pose)  # OpenGL looks along -z, y up
    (fx, _, cx), (_, fy, cy) = camera.intrinsics[0], camera.intrinsics[1]
    near, far, width, height = 0.02, 10.0, camera.width, camera.height
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1] = 2 * fx / width, 2 * fy / height
    projection[0, 2], projection[1, 2] = 1 - 2 * cx / width + 1 / width, 2 * cy / height - 1 + 1 / height
    projection[2, 2], projection[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = -1.0
    return to_camera.T.ravel().tolist(), projection.T.ravel().tolist()

"""Pinhole camera with a known pose: pixels to the table plane and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.data import Array


@dataclass(frozen=True)
class Camera:
    """Intrinsics and pose of a pinhole camera without distortion (ROS optical frame: z forward, y down)."""

    width: int  # px
    height: int  # px
    intrinsics: Array  # [3, 3] px
    pose: Array  # [4, 4] base frame <- optical frame, m

    @classmethod
    def look_at(cls, *, eye: Array, target: Array, fov_y: float, width: int, height: int) -> Camera:
        """Camera at `eye` [3] m looking at `target` [3] m, vertical field of view `fov_y` rad, z up.

        Raises ValueError when the view is straight up or down (the roll would be undefined): move the
        eye a little.
        """
        forward = np.asarray(target, float) - np.asarray(eye, float)
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        if np.linalg.norm(right) < 1e-6:
            raise ValueError(f"camera at {list(eye)} looks straight along z at {list(target)}: roll is undefined")
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, eye
        focal = 0.5 * height / np.tan(0.5 * fov_y)
        intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
        return cls(width, height, intrinsics, pose)

    def project(self, points: Array) -> Array:
        """Pixels [N, 2] (column, row; centre of the first pixel is .5, .5) of points [N, 3] m, base frame.

        Points behind the camera give NaN.
        """
        local = (np.asarray(points, float) - self.pose[:3, 3]) @ self.pose[:3, :3]
        homogeneous = local @ self.intrinsics.T
        depth = np.where(local[:, 2:] > 1e-6, homogeneous[:, 2:], np.nan)
        return np.asarray(homogeneous[:, :2] / depth)

    def to_plane(self, pixels: Array, height: float = 0.0) -> Array:
        """Points [N, 2] m where the rays through `pixels` [N, 2] meet the plane z = `height` m.

        NaN above the horizon.
        """
        pixels = np.asarray(pixels, float)
        rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(self.intrinsics).T @ self.pose[:3, :3].T
        origin = self.pose[:3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (height - origin[2]) / rays[:, 2]
        distance = np.where(distance > 0, distance, np.nan)
        return np.asarray(origin[:2] + distance[:, None] * rays[:, :2])

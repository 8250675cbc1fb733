"""Between pixels and the table: region of interest, scale, slant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crl_node.camera import Camera
from crl_node.data import Array


class Geometry:
    """A fixed camera over a table rectangle (x_min, x_max, y_min, y_max) m in the plane z = 0."""

    def __init__(
        self, camera: Camera, table: tuple[float, float, float, float], thing_height: float, margin: float
    ) -> None:
        self.camera = camera
        self.table = table
        columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        #: [h, w, 2] column, row of pixel centres
        self.pixels: Array = np.stack([columns, rows], axis=-1)
        self.focal = float(np.sqrt(abs(camera.intrinsics[0, 0] * camera.intrinsics[1, 1])))
        self.roi: NDArray[np.bool_] = self._region(thing_height, margin)
        flat = self.pixels.reshape(-1, 2)
        ground = np.nan_to_num(camera.to_plane(flat), nan=1e3)
        scale = self.scale(np.column_stack([ground, np.zeros(len(ground))]))
        #: [h, w] px per m at the table under each pixel, on the plane facing the camera
        self.pixel_scale: Array = scale.reshape(camera.height, camera.width)

    def _region(self, height: float, margin: float) -> NDArray[np.bool_]:
        """Pixels whose ray passes through the box of `height` m over the table, `margin` m wider on each side."""
        x_min, x_max, y_min, y_max = np.array(self.table) + margin * np.array([-1, 1, -1, 1])
        flat = self.pixels.reshape(-1, 2)
        inside = np.zeros(len(flat), bool)
        for z in np.linspace(0.0, height, 7):
            x, y = np.nan_to_num(self.camera.to_plane(flat, z), nan=1e3).T
            inside |= (x >= x_min) & (x <= x_max) & (y >= y_min) & (y <= y_max)
        return inside.reshape(self.pixels.shape[:2])

    def on_table(self, position: Array) -> bool:
        """Whether `position` [2] m is inside the table's rectangle."""
        x_min, x_max, y_min, y_max = self.table
        return bool(x_min <= position[0] <= x_max and y_min <= position[1] <= y_max)

    def scale(self, points: Array) -> Array:
        """Px per m [N] on the plane facing the camera at `points` [N, 3] m."""
        pose = self.camera.pose
        depth = (points - pose[:3, 3]) @ pose[:3, 2]
        return np.asarray(self.focal / np.maximum(depth, 1e-3))

    def distance(self, points: Array) -> Array:
        """Distance [N] m of `points` [N, 3] m from the camera."""
        return np.asarray(np.linalg.norm(points - self.camera.pose[:3, 3], axis=1))

    def slant(self, point: Array) -> tuple[float, float]:
        """Sine and cosine of the angle at which the ray to `point` [3] m meets the table."""
        ray = point - self.camera.pose[:3, 3]
        sine = float(abs(ray[2]) / np.linalg.norm(ray))
        return sine, float(np.sqrt(max(1.0 - sine**2, 1e-6)))

    def to_table(self, pixel: Array, height: float) -> tuple[Array, Array]:
        """Point [2] m where the ray of `pixel` [2] meets z = `height`, and its derivative [2, 2] m/px."""
        probes = np.array([pixel, pixel + [0.5, 0], pixel - [0.5, 0], pixel + [0, 0.5], pixel - [0, 0.5]])
        points = self.camera.to_plane(probes, height)
        return points[0], np.column_stack([points[1] - points[2], points[3] - points[4]])

    def to_pixels(self, positions: Array, heights: Array) -> tuple[Array, Array]:
        """Pixels [N, 2] of `positions` [N, 2] m at `heights` [N] m, and px/m derivatives [N, 2, 2]."""
        step = 1e-3
        base = np.column_stack([positions, heights])
        probes = np.concatenate([base, base + [step, 0, 0], base + [0, step, 0]])
        centre, right, up = np.split(self.camera.project(probes), 3)
        return centre, np.stack([right - centre, up - centre], axis=-1) / step

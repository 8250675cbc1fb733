"""Where the robot's own arm is in the picture: those pixels are missing data, not things."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crl_node.camera import Camera
from crl_node.data import Array
from crl_node.perception.encoder import Capsule


class SelfFilter:
    """Projects capsules into the picture of a fixed camera, widened by `margin_px`.

    Only pixels of `region` [height, width] are looked at (all by default): elsewhere the arm does not matter.
    """

    def __init__(self, camera: Camera, margin_px: float, region: NDArray[np.bool_] | None = None) -> None:
        columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        pixels = np.column_stack([columns.ravel(), rows.ravel(), np.ones(columns.size)])
        rays = pixels @ np.linalg.inv(camera.intrinsics).T @ camera.pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        self._region = np.ones((camera.height, camera.width), bool) if region is None else region
        self._rays: Array = rays[self._region.ravel()]  # [N, 3]
        self._eye: Array = np.array(camera.pose[:3, 3])
        # half-width in metres per metre of distance that `margin_px` pixels stand for
        self._margin = margin_px / float(camera.intrinsics[1, 1])

    def mask(self, capsules: Sequence[Capsule]) -> NDArray[np.bool_]:
        """True [height, width] where the arm may be.

        Per pixel the distance between its ray and a capsule's axis is minimised in closed form: with
        x(t) = a + t u, t in 0..1, f(t) = |x|^2 - (x.d)^2 is a parabola in t.
        """
        found = np.zeros(self._region.shape, bool)
        if not len(capsules):
            return found
        start = np.array([c[0] for c in capsules], float) - self._eye
        along = np.array([c[1] for c in capsules], float) - self._eye - start
        radius = np.array([c[2] for c in capsules], float)[:, None]
        a_d, u_d = start @ self._rays.T, along @ self._rays.T  # [C, N]
        a_a, a_u, u_u = ((p * q).sum(1)[:, None] for p, q in ((start, start), (start, along), (along, along)))
        t = a_d * u_d
        t -= a_u
        t /= np.maximum(u_u - u_d**2, 1e-9)
        np.clip(t, 0.0, 1.0, out=t)
        depth = a_d + t * u_d
        off = a_a + t * (2.0 * a_u + t * u_u) - depth**2
        hit = (off <= (radius + self._margin * depth) ** 2) & (depth > 0.0)
        found[self._region] = hit.any(axis=0)
        return found

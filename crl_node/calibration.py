"""Camera calibrations, config/cameras/*.yaml: where a fixed camera stands, how it sees, which table it sees.

A file gives either `camera_eye`, `camera_target` and `camera_fov` (typed in by hand, level horizon) or `camera_pose`
and `camera_intrinsics` (as `crl robot calibrate` writes them). Poses are in the frame of the robot's table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.camera import Camera
from crl_node.data import Array
from crl_node.paths import share
from crl_node.yaml_fields import CameraError, Fields, read_fields

#: Camera up to this far from the base, m.
_FAR = 10.0


@dataclass(frozen=True)
class Calibration:
    """One camera and its table."""

    path: Path
    camera: Camera
    table: tuple[float, float, float, float]  # m, x_min, x_max, y_min, y_max
    period: float  # s between two frames
    given: dict[str, Any]  # the parameters of the learner, as the file has them
    uncertainty: dict[str, float] = field(default_factory=dict)  # as the file has it; see robots.md

    @property
    def eye(self) -> list[float]:
        """Where the camera stands, m."""
        return [float(value) for value in self.camera.pose[:3, 3]]

    def parameters(self) -> dict[str, Any]:
        """Parameters of the learner node."""
        return {**self.given, "table": list(self.table), "period": self.period}

    def corners_outside(self) -> list[tuple[float, float]]:
        """Corners of the table that the camera does not see, m."""
        x0, x1, y0, y1 = self.table
        corners = np.array([[x, y, 0.0] for x in (x0, x1) for y in (y0, y1)])
        size = np.array([self.camera.width, self.camera.height])
        pixels = self.camera.project(corners)
        seen = np.all((pixels >= 0) & (pixels <= size), axis=1)  # NaN, behind the camera, counts as unseen
        return [(float(x), float(y)) for (x, y, _), ok in zip(corners, list(seen), strict=True) if not ok]


def calibration_names() -> tuple[str, ...]:
    """Names of the shipped calibrations."""
    return tuple(sorted(path.stem for path in (share() / "config" / "cameras").glob("*.yaml")))


def load_calibration(name_or_path: str | Path) -> Calibration:
    """The calibration of this name in config/cameras, or of this file. CameraError names file, line and field."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = share() / "config" / "cameras" / f"{name_or_path}.yaml"
        if not path.is_file():
            raise CameraError(
                f"there is no camera '{name_or_path}' in {path.parent}; there is {', '.join(calibration_names())}"
            )
    fields = read_fields(path, CameraError)
    width = fields.integer("camera_width", low=16, high=4096)
    height = fields.integer("camera_height", low=16, high=4096)
    given: dict[str, Any] = {"camera_width": width, "camera_height": height}
    if "camera_pose" in fields or "camera_intrinsics" in fields:
        pose = fields.vector("camera_pose", (7,), low=-_FAR, high=_FAR, unit="m and quaternion x, y, z, w")
        intrinsics = fields.vector("camera_intrinsics", (4,), low=1.0, high=1e5, unit="px: fx, fy, cx, cy")
        try:
            camera = posed_camera(width, height, pose, intrinsics)
        except ValueError as error:
            raise fields.error("camera_pose", str(error)) from error
        given |= {"camera_pose": list(pose), "camera_intrinsics": list(intrinsics)}
    else:
        fov = fields.number("camera_fov", low=0.05, high=2.8, unit="rad")
        eye = fields.vector("camera_eye", (3,), low=-_FAR, high=_FAR, unit="m")
        target = fields.vector("camera_target", (3,), low=-_FAR, high=_FAR, unit="m")
        try:
            camera = Camera.look_at(
                eye=np.array(eye), target=np.array(target), fov_y=fov, width=width, height=height
            )
        except ValueError as error:
            raise fields.error("camera_target", str(error)) from error
        given |= {"camera_fov": fov, "camera_eye": list(eye), "camera_target": list(target)}
    table = fields.vector("table", (4,), low=-5.0, high=5.0, unit="m")
    if not (table[0] < table[1] and table[2] < table[3]):
        raise fields.error("table", f"is {list(table)}; allowed: x_min < x_max, y_min < y_max")
    period = fields.number("period", low=0.01, high=1.0, unit="s")
    uncertainty = _uncertainty(fields.child("uncertainty", optional=True))
    fields.done()
    return Calibration(
        path, camera, (table[0], table[1], table[2], table[3]), period, given, uncertainty
    )


def _uncertainty(fields: Fields | None) -> dict[str, float]:
    if fields is None:
        return {}
    found = {key: fields.number(key, low=0.0, high=1e6) for key in fields.names()}
    fields.done()
    return found


def posed_camera(width: int, height: int, pose: Any, intrinsics: Any) -> Camera:
    """Camera at `pose` [7] (x, y, z m, quaternion x, y, z, w; table <- optical frame).

    `intrinsics` [4] are fx, fy, cx, cy in px.

    ValueError when the quaternion has no length.
    """
    x, y, z, *quaternion = (float(value) for value in pose)
    norm = float(np.linalg.norm(quaternion))
    if not norm > 1e-6:
        raise ValueError(f"holds the quaternion {quaternion}, which has no length")
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    matrix = np.eye(4)
    matrix[:3, :3] = _rotation(np.array(quaternion) / norm)
    matrix[:3, 3] = x, y, z
    return Camera(width, height, np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), matrix)


def _rotation(quaternion: Array) -> Array:
    """Unit quaternion [4] (x, y, z, w) -> rotation [3, 3]."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def camera_from_parameters(params: Any) -> Camera:
    """The camera of a learner's parameters. ValueError, a sentence, when they do not make one."""
    # Runs recorded before calibrated cameras have neither.
    if getattr(params, "camera_pose", None) or getattr(params, "camera_intrinsics", None):
        for name, count in (("camera_pose", 7), ("camera_intrinsics", 4)):
            if len(getattr(params, name)) != count:
                raise ValueError(
                    f"parameter '{name}' holds {len(getattr(params, name))} numbers, it must hold {count}"
                )
        try:
            return posed_camera(
                params.camera_width, params.camera_height, params.camera_pose, params.camera_intrinsics
            )
        except ValueError as error:
            raise ValueError(f"parameter 'camera_pose' {error}") from error
    return Camera.look_at(
        eye=np.array(params.camera_eye), target=np.array(params.camera_target), fov_y=params.camera_fov,
        width=params.camera_width, height=params.camera_height,
    )  # fmt: skip

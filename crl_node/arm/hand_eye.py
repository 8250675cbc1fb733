"""Camera and table from a moving arm: the camera by least squares on reprojection, the table's plane from touches.

scipy's `least_squares` does the solving (already needed, and it gives the Jacobian from which the uncertainty follows);
the start is the direct linear transform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from crl_node.arm.kinematics import Arm
from crl_node.arm.marker import visible_centre
from crl_node.arm.profile_types import Marker, TablePlane
from crl_node.camera import Camera
from crl_node.data import Array

#: Fewer places than this do not fix a camera.
LEAST_POSES = 8
#: Residuals beyond this are doubted, px.
_DOUBT = 1.5


class CalibrationFailedError(ValueError):
    """The measurements do not fix what was asked for; a sentence."""


@dataclass(frozen=True)
class CameraEstimate:
    """A camera and how sure it is."""

    camera: Camera
    position_sigma: float  # m, standard deviation of the camera's place (all axes together)
    angle_sigma: float  # rad, of its direction
    focal_sigma: float  # px; 0 when the focal length was given
    reprojection: float  # px, root mean square
    poses: int
    covariance: Array  # [6 or 7, ...] of rotation rad, position m (and log focal length)


@dataclass(frozen=True)
class PlaneEstimate:
    """A table's plane and how sure it is."""

    plane: TablePlane
    height_sigma: float  # m, at the middle of the touched places
    angle_sigma: float  # rad
    residual: float  # m, root mean square
    touches: int


def solve_camera(
    arm: Arm, marker: Marker, joints: Array, pixels: Array, guess: Camera, *, fit_focal: bool = False
) -> CameraEstimate:
    """The camera that sees the marker of the arm at joints [N, J] rad at `pixels` [N, 2].

    `guess` gives size and lens; its pose is not used. CalibrationFailedError for too few or too flat measurements.
    """
    count = len(joints)
    if count < LEAST_POSES:
        raise CalibrationFailedError(
            f"the marker was seen at {count} places, {LEAST_POSES} are needed: is it in view, its colour right?"
        )
    centres, tools = _places(arm, marker, joints)
    spread = np.linalg.svd(centres - centres.mean(axis=0), compute_uv=False) / np.sqrt(count)
    if spread[2] < 2e-3:
        raise CalibrationFailedError(
            f"the places lie within {spread[2] * 1e3:.1f} mm of a plane: the arm must also move up and down"
        )
    start = _direct(centres, pixels, guess.intrinsics)

    def camera_of(x: Array) -> Camera:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec(x[:3]).as_matrix(), x[3:6]
        intrinsics = guess.intrinsics.copy()
        if fit_focal:
            intrinsics[0, 0] *= np.exp(x[6])
            intrinsics[1, 1] *= np.exp(x[6])
        return Camera(guess.width, guess.height, intrinsics, pose)

    def residuals(x: Array, seen: Array) -> Array:
        off = camera_of(x).project(seen) - pixels
        return np.asarray(np.where(np.isfinite(off), off, 1e3).ravel())

    x = np.concatenate([Rotation.from_matrix(start[:3, :3]).as_rotvec(), start[:3, 3], [0.0] * fit_focal])
    seen = centres
    for _ in range(3):  # what is seen of the ball depends a little on where the camera is
        result = least_squares(residuals, x, args=(seen,), loss="soft_l1", f_scale=_DOUBT, x_scale="jac")
        x = result.x
        eye = x[3:6]
        seen = np.array(
            [visible_centre(c, marker.radius, tool, eye) for c, tool in zip(centres, tools, strict=True)]
        )
    result = least_squares(residuals, x, args=(seen,), loss="soft_l1", f_scale=_DOUBT, x_scale="jac")
    off = residuals(result.x, seen)
    free = max(2 * count - len(result.x), 1)
    covariance = np.linalg.inv(result.jac.T @ result.jac) * float(off @ off) / free
    focal = float(guess.intrinsics[1, 1])
    return CameraEstimate(
        camera=camera_of(result.x),
        position_sigma=float(np.sqrt(np.trace(covariance[3:6, 3:6]))),
        angle_sigma=float(np.sqrt(np.trace(covariance[:3, :3]))),
        focal_sigma=float(np.sqrt(covariance[6, 6]) * focal) if fit_focal else 0.0,
        reprojection=float(np.sqrt(off @ off / count)),
        poses=count,
        covariance=covariance,
    )


def _places(arm: Arm, marker: Marker, joints: Array) -> tuple[Array, list[tuple[Array, Array, float]]]:
    """Of the marker's centre [N, 3] m, and the tool above it (capsules) that may hide it."""
    centres, tools = [], []
    for q in joints:
        tip, turn = arm.tip_pose_at(q)
        centres.append(tip + turn @ np.asarray(marker.offset))
        back = -turn[:, 2]
        length = 0.12
        # From the ball's middle up the tool: what is below it, the ball hides.
        beside = np.hypot(*marker.offset[:2]) > marker.radius
        thickness = 0.0 if beside else min(arm.profile.tool_radius, 0.9 * marker.radius)
        tools.append((centres[-1], centres[-1] + length * back, thickness))
    return np.array(centres), tools


def _direct(points: Array, pixels: Array, intrinsics: Array) -> Array:
    """Camera pose [4, 4] (frame of `points` <- optical frame): direct linear transform (Hartley & Zisserman, 7.1)."""
    middle, scale = points.mean(axis=0), points.std()
    world = np.column_stack([(points - middle) / scale, np.ones(len(points))])
    image = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(intrinsics).T
    rows = []
    for w, (u, v, _) in zip(world, image, strict=True):
        rows.append(np.concatenate([w, np.zeros(4), -u * w]))
        rows.append(np.concatenate([np.zeros(4), w, -v * w]))
    solution = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 4)
    u_, s, vt = np.linalg.svd(solution[:, :3])
    sign = np.sign(np.linalg.det(u_ @ vt))
    turn = sign * u_ @ vt
    shift = sign * solution[:, 3] / s.mean()
    pose = np.eye(4)
    pose[:3, :3] = turn.T
    pose[:3, 3] = middle - scale * (turn.T @ shift)
    return pose


def solve_plane(touches: Array, believed: TablePlane) -> PlaneEstimate:
    """The plane through the places [M, 3] m (frame of the believed table) where the tip met the table.

    The result is in the base frame, as a profile's `table_plane`. CalibrationFailedError for fewer than 4 touches.
    """
    if len(touches) < 4:
        raise CalibrationFailedError(f"the table was touched at {len(touches)} places, at least 4 are needed")
    middle = touches[:, :2].mean(axis=0)
    design = np.column_stack([touches[:, :2] - middle, np.ones(len(touches))])
    (slope_x, slope_y, height), *_ = np.linalg.lstsq(design, touches[:, 2], rcond=None)
    off = touches[:, 2] - design @ [slope_x, slope_y, height]
    free = max(len(touches) - 3, 1)
    covariance = np.linalg.inv(design.T @ design) * float(off @ off) / free
    # As a pose: z along the plane's normal, origin above the believed frame's origin.
    roll, pitch = float(np.arctan(slope_y)), float(-np.arctan(slope_x))
    origin = float(height - slope_x * middle[0] - slope_y * middle[1])
    change = TablePlane(origin, roll, pitch).pose
    total = believed.pose @ change
    normal = total[:3, 2]
    plane = TablePlane(
        height=float(total[2, 3] + (normal[0] * total[0, 3] + normal[1] * total[1, 3]) / normal[2]),
        roll=float(np.arctan2(-normal[1], normal[2])),
        pitch=float(np.arcsin(normal[0])),
    )
    return PlaneEstimate(
        plane=plane,
        height_sigma=float(np.sqrt(covariance[2, 2])),
        angle_sigma=float(np.sqrt(covariance[0, 0] + covariance[1, 1])),
        residual=float(np.sqrt(off @ off / len(touches))),
        touches=len(touches),
    )


def compare(estimate: Camera, truth: Camera) -> tuple[float, float]:
    """Distance m and angle rad between two cameras' poses."""
    turn = Rotation.from_matrix(estimate.pose[:3, :3].T @ truth.pose[:3, :3])
    return float(np.linalg.norm(estimate.pose[:3, 3] - truth.pose[:3, 3])), float(turn.magnitude())

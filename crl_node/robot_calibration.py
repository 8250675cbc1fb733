"""`crl robot calibrate`: move the arm through the gate, measure, solve, write the camera's file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from crl_node.arm.hand_eye import CameraEstimate, PlaneEstimate, solve_camera, solve_plane
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile, profile_path
from crl_node.arm.profile_types import RobotProfile
from crl_node.calibration import Calibration
from crl_node.camera import Camera
from crl_node.parameter_spec import ParameterError
from crl_node.robot_session import RobotSession
from crl_node.session import Outcome
from crl_node.status import Status
from crl_node.supervisor import NodeFailedError
from crl_node.system import NodeSpec, RobotOptions, calibration_nodes, robot_source

MEASUREMENTS = "measurements.json"


@dataclass
class CalibrationSession(RobotSession):
    """Gate and calibrator, until the measurements are there."""

    options: RobotOptions
    touch: float = 0.0  # m
    columns: int = 4
    most: float = 1200.0  # s
    _seen: bool = field(default=False, repr=False)

    def _specs(self) -> list[NodeSpec]:
        return calibration_nodes(self.options, self.out / MEASUREMENTS, self.touch, self.columns)

    def _time(self, status: Status) -> float:
        seconds = super()._time(status)
        if (self.out / MEASUREMENTS).exists():
            return self.options.seconds
        if seconds > self.most:
            raise NodeFailedError(f"the arm did not visit all places within {self.most:g} s; logs: {self.out / 'logs'}")
        return self.options.seconds * (1.0 - 1.0 / (1.0 + seconds))  # it goes on, and ends with the measurements


@dataclass(frozen=True)
class Result:
    """What came out of a calibration."""

    camera: CameraEstimate  # in the frame of `plane`, when that was measured
    plane: PlaneEstimate | None
    missed: list[str]
    written: Path


def probing_profile(profile: str, depth: float, folder: Path) -> Path:
    """A copy of the profile whose workspace reaches `depth` m below the table, for feeling for it."""
    source = profile_path(profile)
    loaded = load_profile(profile)
    low, high = loaded.workspace.z
    text, count = re.subn(
        r"(?m)^(\s+z:\s*)\[[^\]]*\]", rf"\g<1>[{min(low, -depth - 0.005):g}, {high:g}]", source.read_text()
    )
    if count != 1:
        raise ParameterError(f"{source}: workspace.z is not written as 'z: [low, high]' on a line of its own")
    for key, target in (("urdf", str(loaded.urdf)),):
        text = re.sub(rf"(?m)^{key}:.*$", f"{key}: {target}", text)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "probing.yaml"
    path.write_text(text)
    load_profile(path)
    return path


def measure(session: CalibrationSession, on_event: Callable[[str], None]) -> dict[str, Any]:
    """Visit all places; what was measured. NodeFailedError, ParameterError: a sentence."""
    session.prepare()
    outcome = session.run(lambda status: None, on_event)
    path = session.out / MEASUREMENTS
    if outcome is not Outcome.FINISHED or not path.exists():
        raise ParameterError(f"the calibration was {outcome.value}; nothing was written")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def solve(
    profile: RobotProfile, calibration: Calibration, measured: dict[str, Any], *, fit_focal: bool
) -> tuple[CameraEstimate, PlaneEstimate | None]:
    """Camera and plane of the measurements; the camera in the frame of the measured plane, else of the profile's."""
    if profile.marker is None:
        raise ParameterError(f"the profile '{profile.name}' has no marker")
    width, height = measured["image_size"]
    guess = calibration.camera
    if (width, height) != (guess.width, guess.height) and width:
        scale = height / guess.height
        intrinsics = guess.intrinsics * np.array([[scale, 1, width / guess.width], [1, scale, scale], [1, 1, 1]])
        guess = Camera(width, height, intrinsics, guess.pose)
    joints = np.array(measured["joints"], float).reshape(-1, len(profile.joint_names))
    pixels = np.array(measured["pixels"], float).reshape(-1, 2)
    touches = np.array(measured["touches"], float).reshape(-1, 3)
    plane = solve_plane(touches, profile.table_plane) if len(touches) else None
    flat = profile if plane is None else replace(profile, table_plane=plane.plane)
    return solve_camera(Arm(flat), profile.marker, joints, pixels, guess, fit_focal=fit_focal), plane


def write_camera(
    path: Path, estimate: CameraEstimate, plane: PlaneEstimate | None, calibration: Calibration, robot: str
) -> None:
    """The camera's file, with how sure it is. FileExistsError is not raised: the caller asks before."""
    camera = estimate.camera
    quaternion = Rotation.from_matrix(camera.pose[:3, :3]).as_quat()
    pose = ", ".join(f"{value:.6f}" for value in [*camera.pose[:3, 3], *quaternion])
    k = camera.intrinsics
    lens = ", ".join(f"{value:.4f}" for value in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
    lines = [
        f"# Measured by `crl robot calibrate {robot}` from {estimate.poses} places of the arm.",
        f"camera_width: {camera.width}",
        f"camera_height: {camera.height}",
        f"camera_pose: [{pose}]   # m and quaternion x, y, z, w; table frame <- optical frame",
        f"camera_intrinsics: [{lens}]   # px: fx, fy, cx, cy",
        f"table: [{', '.join(f'{value:g}' for value in calibration.table)}]",
        f"period: {calibration.period:g}",
        "uncertainty:   # standard deviations; reprojection: root mean square",
        f"  position_m: {estimate.position_sigma:.6f}",
        f"  angle_rad: {estimate.angle_sigma:.6f}",
        f"  focal_px: {estimate.focal_sigma:.4f}",
        f"  reprojection_px: {estimate.reprojection:.4f}",
    ]
    if plane is not None:
        lines += [
            f"  table_height_m: {plane.height_sigma:.6f}",
            f"  table_angle_rad: {plane.angle_sigma:.6f}",
            "# The poses above hold with this in the robot's profile:",
            f"# {plane_line(plane)}",
        ]
    path.write_text("\n".join(lines) + "\n")


def plane_line(plane: PlaneEstimate) -> str:
    """The profile's field for this plane."""
    p = plane.plane
    return f"table_plane: {{height: {p.height:.5f}, roll: {p.roll:.5f}, pitch: {p.pitch:.5f}}}"


def calibrate(
    session: CalibrationSession, robot: str, written: Path, *, fit_focal: bool, on_event: Callable[[str], None]
) -> Result:
    """The whole of it."""
    measured = measure(session, on_event)
    profile = load_profile(robot)
    calibration = robot_source(replace(session.options, robot=robot)).calibration
    camera, plane = solve(profile, calibration, measured, fit_focal=fit_focal)
    write_camera(written, camera, plane, calibration, robot)
    return Result(camera, plane, list(measured["missed"]), written)

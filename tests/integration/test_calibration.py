"""Hand-eye and table calibration in simulation, against the true camera and table. Every command passes the gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crl_node.arm.gate import Gate
from crl_node.arm.hand_eye import CalibrationFailedError, compare, solve_camera, solve_plane
from crl_node.arm.kinematics import Arm
from crl_node.arm.marker import find_marker, visible_centre
from crl_node.arm.profile import Box, TablePlane, load_profile
from crl_node.arm.visiting import Measurements, Visitor, places
from crl_node.calibration import Calibration, load_calibration
from crl_node.camera import Camera
from crl_node.command import Command
from crl_node.robot_calibration import solve, write_camera
from crl_node.simulator.engine import Simulator
from crl_node.simulator.mock_arm import drawn, mock_world, rotor_inertia

#: Where the table really is, while the profile says z = 0.
TRUE_PLANE = TablePlane(0.006, 0.008, -0.005)
DEPTH = 0.03


def true_camera(calibration: Calibration, size: int = 200) -> Camera:
    """A camera that stands a few centimetres and degrees from where the calibration's file has it."""
    pose = calibration.camera.pose
    x0, x1, y0, y1 = calibration.table
    eye = pose[:3, 3] + [0.03, -0.05, 0.02]
    return Camera.look_at(
        eye=eye, target=np.array([0.5 * (x0 + x1), 0.02, 0.0]), fov_y=0.72, width=size, height=size
    )


def visit(name: str, *, touch: bool, columns: int = 2) -> tuple[Measurements, Camera, list[str]]:
    """Drive the simulated arm through all places; what was measured, the true camera, and refused commands."""
    profile, calibration = load_profile(name), load_calibration(load_profile(name).camera.calibration)
    if touch:
        box = profile.workspace
        profile = replace(profile, workspace=Box(box.x, box.y, (-DEPTH - 0.005, box.z[1])))
    camera, refused = true_camera(calibration), []
    options = {"description": drawn(profile, marker=True), "rotor_inertia": rotor_inertia(profile), "plane": TRUE_PLANE}
    world = mock_world(profile, calibration, 0)
    with Simulator(world, profile, 0, camera=camera, over_fence=True, arm_options=options) as simulator:
        visitor = Visitor(profile, places(profile, columns, touch), DEPTH, patience=30.0)
        gate = Gate(profile, visitor.arm)
        for k in range(20_000):
            if visitor.place is None:
                break
            now = simulator.time
            names, q, dq, _ = simulator.joint_state()
            gate.observe(now, names, q.tolist(), dq.tolist())
            if visitor.resting(now, 0.2):
                assert profile.marker is not None
                blob = find_marker(simulator.render(), profile.marker.colour)
                visitor.record(q, None if blob is None else blob.centre)
            chunk = visitor.chunk(now, now, now, q, dq)
            command = Command(now, k, now, 0, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)
            verdict = gate.judge(command, now)
            if not verdict.accepted:
                refused.append(verdict.sentence)
            executed = verdict.executed.trajectory
            assert executed is not None
            if not verdict.accepted:
                visitor.commander.adopt(executed, now)
            simulator.set_trajectory(executed, now)
            simulator.advance(0.1)
    return visitor.measurements, camera, refused


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ur5e"])
def test_camera_and_table_are_found_within_millimetres(name: str, tmp_path: Path) -> None:
    found, camera, refused = visit(name, touch=True)
    assert found.missed == []
    profile = load_profile(name)
    calibration = load_calibration(name)
    measured = {
        "joints": found.joints, "pixels": found.pixels, "touches": found.touches,
        "image_size": [camera.width, camera.height],
    }  # fmt: skip
    lens = replace(calibration, camera=camera)  # the lens is known, as from CameraInfo; the pose is not used
    estimate, plane = solve(profile, lens, measured, fit_focal=False)
    assert plane is not None
    distance, angle = compare(estimate.camera, camera)
    middle = [np.mean(profile.workspace.x), 0.0]
    errors = [
        abs(_height(plane.plane, x, y) - _height(TRUE_PLANE, x, y))
        for x in profile.workspace.x for y in profile.workspace.y
    ] + [abs(_height(plane.plane, *middle) - _height(TRUE_PLANE, *middle))]  # fmt: skip
    print(
        f"{name}: camera {distance * 1e3:.2f} mm, {np.degrees(angle):.3f} degrees (sigma "
        f"{estimate.position_sigma * 1e3:.2f} mm, {np.degrees(estimate.angle_sigma):.3f}), reprojection "
        f"{estimate.reprojection:.2f} px, table {max(errors) * 1e3:.2f} mm (residual {plane.residual * 1e3:.2f}), "
        f"{len(refused)} commands refused"
    )
    assert distance < 0.010 and angle < np.radians(0.5)
    assert distance < 5 * estimate.position_sigma + 0.003
    assert max(errors) < 0.003
    path = tmp_path / "camera.yaml"
    write_camera(path, estimate, plane, calibration, name)
    again = load_calibration(path)
    np.testing.assert_allclose(again.camera.pose, estimate.camera.pose, atol=1e-5)
    assert again.uncertainty["reprojection_px"] == pytest.approx(estimate.reprojection, abs=1e-3)


def _height(plane: TablePlane, x: float, y: float) -> float:
    """Of the plane above (x, y) of the base frame, m."""
    normal = plane.pose[:3, 2]
    return plane.height - (normal[0] * x + normal[1] * y) / normal[2]


def synthetic(name: str, noise: float = 0.1, count: int = 30) -> tuple:
    """Arm, marker, joints, pixels and camera of noisy views; flat ones have no spread in height."""
    profile = load_profile(name)
    arm, camera = Arm(profile), true_camera(load_calibration(name))
    rng, box, q = np.random.default_rng(0), profile.workspace, arm.home
    joints, pixels = [], []
    assert profile.marker is not None
    for _ in range(count):
        q = arm.solve(rng.uniform(box.low, box.high), q, iterations=200)
        tip, turn = arm.tip_pose_at(q)
        centre = tip + turn @ profile.marker.offset
        tool = (centre, centre - 0.12 * turn[:, 2], min(profile.tool_radius, 0.9 * profile.marker.radius))
        if np.hypot(*profile.marker.offset[:2]) > profile.marker.radius:
            tool = (*tool[:2], 0.0)
        seen = visible_centre(centre, profile.marker.radius, tool, camera.pose[:3, 3])
        joints.append(q)
        pixels.append(camera.project(seen[None])[0] + rng.normal(0, noise, 2))
    return arm, profile.marker, np.array(joints), np.array(pixels), camera


@pytest.mark.parametrize("name", ["ur5e", "so101"])
def test_the_camera_is_within_its_own_uncertainty(name: str) -> None:
    arm, marker, joints, pixels, camera = synthetic(name)
    estimate = solve_camera(arm, marker, joints, pixels, camera)
    distance, angle = compare(estimate.camera, camera)
    assert distance < 4 * estimate.position_sigma
    assert angle < 4 * estimate.angle_sigma
    assert estimate.reprojection == pytest.approx(0.14, abs=0.05)


def test_one_wrong_picture_does_not_move_the_camera() -> None:
    arm, marker, joints, pixels, camera = synthetic("ur5e")
    good, _ = compare(solve_camera(arm, marker, joints, pixels, camera).camera, camera)
    pixels[3] += [40.0, -25.0]
    bad, _ = compare(solve_camera(arm, marker, joints, pixels, camera).camera, camera)
    assert bad < good + 0.01


def test_too_few_and_flat_measurements_are_refused() -> None:
    arm, marker, joints, pixels, camera = synthetic("ur5e")
    with pytest.raises(CalibrationFailedError, match="seen at 5 places, 8 are needed"):
        solve_camera(arm, marker, joints[:5], pixels[:5], camera)
    flat, q = [], arm.home
    for x in np.linspace(0.4, 0.6, 4):
        for y in np.linspace(-0.2, 0.2, 4):
            q = arm.solve(np.array([x, y, 0.03]), q, iterations=200)
            flat.append(q)
    with pytest.raises(CalibrationFailedError, match="of a plane: the arm must also move up and down"):
        solve_camera(arm, marker, np.array(flat), np.zeros((16, 2)), camera)
    with pytest.raises(CalibrationFailedError, match="touched at 3 places, at least 4"):
        solve_plane(np.zeros((3, 3)), TablePlane())


def test_a_plane_found_above_a_believed_one_is_told_in_the_base_frame() -> None:
    believed, change = TablePlane(0.02, 0.01, 0.0), 0.004
    touches = np.array([[x, y, change] for x in (0.4, 0.6) for y in (-0.2, 0.2)])
    found = solve_plane(touches, believed).plane
    for x, y in ((0.0, 0.0), (0.5, 0.1)):
        assert _height(found, x, y) == pytest.approx(_height(believed, x, y) + change, abs=1e-6)


def test_a_marker_is_found_by_its_colour_or_not_at_all() -> None:
    image = np.full((60, 80, 3), 170, np.uint8)
    assert find_marker(image, (0.0, 0.35, 1.0)) is None
    rows, columns = np.mgrid[:60, :80]
    image[(rows - 30) ** 2 + (columns - 20) ** 2 <= 25] = (0, 50, 143)
    blob = find_marker(image, (0.0, 0.35, 1.0))
    assert blob is not None
    np.testing.assert_allclose(blob.centre, [20.5, 30.5])
    image[(rows - 30) ** 2 + (columns - 60) ** 2 <= 25] = (0, 70, 200)  # a second one: which is it?
    assert find_marker(image, (0.0, 0.35, 1.0)) is None
    image[:, 40:] = 170
    image[:, :24] = image[:, 16:40].copy()  # cut off by the edge
    assert find_marker(image, (0.0, 0.35, 1.0)) is None

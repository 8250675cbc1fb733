"""`crl robot check`: each kind of mistake is found, and told with both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crl_node.arm.live_check import Info, Joints, Observation, Picture, check_live
from crl_node.arm.profile import load_profile
from crl_node.arm.robot_check import Findings, check_profile
from crl_node.calibration import load_calibration
from crl_node.paths import share

PROFILE = load_profile("so101")
CALIBRATION = load_calibration("so101")
HOME = tuple(PROFILE.home.values())
NAMES = PROFILE.joint_names


def healthy() -> Observation:
    """What a robot that fits its profile says in 3 s."""
    camera = CALIBRATION.camera
    joints = [Joints(k / 30, k / 30 + 0.002, (*NAMES, "gripper"), (*HOME, 0.0), (0.0,) * 6) for k in range(90)]
    pictures = [Picture(k / 10, k / 10 + 0.01, camera.width, camera.height, "rgb8", "cam") for k in range(30)]
    info = Info(camera.width, camera.height, camera.intrinsics, (0.0,) * 5, "cam")
    return Observation(
        3.0, joints=joints, pictures=pictures, infos=[info],
        joint_publishers=[("driver", "sensor_msgs/msg/JointState")],
        image_publishers=[("camera", "sensor_msgs/msg/Image")],
        subscribers=[("arm_controller", "trajectory_msgs/msg/JointTrajectory")], description=PROFILE.description,
    )  # fmt: skip


def problems(findings: Findings) -> list[str]:
    return [f"{entry.subject}: {entry.sentence}" for entry in findings.entries if not entry.ok]


def test_a_robot_that_fits_has_nothing_to_mend() -> None:
    assert problems(check_live(PROFILE, CALIBRATION, healthy())) == []


def with_joints(**changes: object) -> Callable[[Observation], None]:
    def spoil(seen: Observation) -> None:
        seen.joints = [replace(m, **changes) for m in seen.joints]  # type: ignore[arg-type]

    return spoil


def with_pictures(**changes: object) -> Callable[[Observation], None]:
    def spoil(seen: Observation) -> None:
        seen.pictures = [replace(m, **changes) for m in seen.pictures]  # type: ignore[arg-type]

    return spoil


def with_info(**changes: object) -> Callable[[Observation], None]:
    def spoil(seen: Observation) -> None:
        seen.infos = [replace(m, **changes) for m in seen.infos]  # type: ignore[arg-type]

    return spoil


def with_(**changes: object) -> Callable[[Observation], None]:
    def spoil(seen: Observation) -> None:
        for name, value in changes.items():
            setattr(seen, name, value)

    return spoil


def shifted(seen: Observation) -> None:
    seen.joints = [replace(m, stamp=m.stamp - 40.0) for m in seen.joints]


def slow(seen: Observation) -> None:
    seen.joints = seen.joints[::3]


def slow_camera(seen: Observation) -> None:
    seen.pictures = seen.pictures[::3]


DEGREES = tuple(float(v) for v in np.degrees(HOME))
TIGHT = PROFILE.description.replace('lower="-1.69" upper="1.69"', 'lower="-0.5" upper="0.5"')
K = CALIBRATION.camera.intrinsics
MISTAKES = {
    "no joint states": (with_(joints=[]), ("joints: nothing came on joint_states in 3 s", "driver (sensor_msgs")),
    "renamed joints": (
        with_joints(names=tuple(f"arm_{n}" for n in (*NAMES, "gripper"))),
        ("joints: joint_states lacks shoulder_pan,", "the profile has [shoulder_pan", "has [arm_shoulder_pan"),
    ),
    "ragged": (with_joints(positions=HOME[:3]), ("joints: a message has 6 names and 3 positions",)),
    "nan": (with_joints(positions=(float("nan"), *HOME)), ("the position of 'shoulder_pan' is not finite",)),
    "degrees": (with_joints(positions=(*DEGREES, 0.0)), ("units: ", "like degrees (62.1946 degrees are 1.085 rad)")),
    "outside": (with_joints(positions=(2.5, *HOME[1:], 0.0)), ("limits: 'shoulder_pan' is at 2.5, outside", "by hand")),
    "slow": (slow, ("rates: joint states come at 10", "expects 30 Hz")),
    "clock": (shifted, ("clocks: joint states are stamped 40.002 s before they arrive",)),
    "no velocities": (with_joints(velocities=()), ("hold no velocities",)),
    "no controller": (with_(subscribers=[]), ("controller: nobody reads arm_controller/joint_trajectory",)),
    "wrong controller": (
        with_(subscribers=[("vel", "std_msgs/msg/Float64MultiArray")]),
        ("is read by vel (std_msgs/msg/Float64MultiArray)", "sends trajectory_msgs/msg/JointTrajectory"),
    ),
    "two masters": (with_(commanders=[("moveit", "x")]), ("also written by moveit (x): two would move the arm",)),
    "no pictures": (with_(pictures=[]), ("camera: no picture came on camera/image_raw",)),
    "size": (with_pictures(width=640, height=480), ("camera: pictures are 640x480, ", "so101.yaml is for 96x96")),
    "encoding": (with_pictures(encoding="yuv422"), ("pictures are 'yuv422', readable are rgb8",)),
    "camera rate": (slow_camera, ("rates: pictures come at 3", "says 10 Hz")),
    "lens": (with_info(k=K * 1.3), ("camera: CameraInfo says fx, fy, cx, cy",)),
    "distortion": (with_info(distortion=(0.1, 0.0)), ("distorted lens (d = [0.1, 0.0])", "image_rect")),
    "info frame": (with_info(frame="other"), ("frames: CameraInfo is in the frame 'other', the pictures",)),
    "looser": (with_(description=TIGHT), ("limits: looser than the robot's own URDF: elbow_flex [-1.660, 1.660]",)),
    "another robot": (
        with_(description=load_profile("ur5e").description),
        ("urdf: the robot's own URDF lacks shoulder_pan", "it has [shoulder_pan_joint"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_robot_that_does_not_fit_is_told_with_both_sides(kind: str) -> None:
    spoil, parts = MISTAKES[kind]
    seen = healthy()
    spoil(seen)
    found = problems(check_live(PROFILE, CALIBRATION, seen))
    assert found, kind
    text = " | ".join(found)
    for part in parts:
        assert part in text, text


def test_a_frame_that_the_profile_names_is_compared() -> None:
    profile = replace(PROFILE, camera=replace(PROFILE.camera, frame="camera_color_optical_frame"))
    assert "frames: pictures are in the frame 'cam', the profile's camera is 'camera_color" in " ".join(
        problems(check_live(profile, CALIBRATION, healthy()))
    )


STATIC = [
    ("shoulder_pan: {home: -0.0001", "shoulder_pan: {home: -30.0", "looks like degrees; -30 degrees are -0.5236 rad"),
    ("velocity: 2.5}\n  wrist_flex", "velocity: 143.0}\n  wrist_flex", "elbow_flex.velocity is 143, which looks"),
    ("x: [0.17, 0.31]", "x: [170, 310]", "workspace.x is 170, which looks like millimetres; 170 mm are 0.17 m"),
    ("x: [0.17, 0.31]", "x: [0.17, 0.55]", "places cannot be reached; the first: 'so101' found no configuration"),
    ("x: [0.17, 0.31]", "x: [0.50, 0.60]", "have no place in common"),
    ("calibration: so101", "calibration: nowhere", "there is no camera 'nowhere'"),
    ("joint_states: 0.25, stamp", "joint_states: 0.03, stamp", "the gate would hold"),
    ("acceleration: 25.0, velocity: 2.5}\n  wrist_f", "acceleration: 3.0, velocity: 2.5}\n  wrist_f", "be refused"),
    ("velocity: 2.0}\n  shoulder_lift", "velocity: 20.0}\n  shoulder_lift", "a profile can only tighten"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), STATIC)
def test_a_mistake_in_the_profile_is_found_without_the_robot(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    text = (share() / "config" / "robots" / "so101.yaml").read_text()
    assert text.count(old) == 1
    path = tmp_path / "arm.yaml"
    path.write_text(text.replace(old, new))
    _, findings = check_profile(str(path))
    assert sentence in " | ".join(problems(findings))


def test_a_camera_that_does_not_see_the_table_is_found(tmp_path: Path) -> None:
    camera = (share() / "config" / "cameras" / "so101.yaml").read_text()
    (tmp_path / "camera.yaml").write_text(camera.replace("camera_fov: 0.5760", "camera_fov: 0.2"))
    text = (share() / "config" / "robots" / "so101.yaml").read_text()
    (tmp_path / "arm.yaml").write_text(text.replace("calibration: so101", "calibration: camera.yaml"))
    _, findings = check_profile(str(tmp_path / "arm.yaml"))
    assert "the camera does not see the table's corners" in " | ".join(problems(findings))


def test_a_profile_that_must_be_mended_is_not_run_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from crl_node.cli.app import app
    from crl_node.parameter_spec import ParameterError

    ran: list[object] = []
    monkeypatch.setattr("crl_node.cli.run.run_robot", lambda session, console, errors: ran.append(session) or 0)
    text = (share() / "config" / "robots" / "so101.yaml").read_text()
    assert text.count("calibration: so101") == 1
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("calibration: so101", "calibration: ur5e"))  # another arm's table
    command = ["robot", "run", str(wrong), "--mock", "--out", str(tmp_path / "run")]
    with pytest.raises(ParameterError, match="wrong.yaml' is not run: camera: .*or give --force"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not ran and not (tmp_path / "run").exists()
    forced = CliRunner().invoke(app, [*command, "--force"], catch_exceptions=False)
    assert forced.exit_code == 0 and len(ran) == 1
    assert "run by --force although: camera:" in forced.output

"""A robot that was listened to, against its profile: the rules of `crl robot check --live`. No ROS here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crl_node.arm import description as urdf_text
from crl_node.arm.profile_types import RobotProfile
from crl_node.arm.robot_check import Findings
from crl_node.arm.schema import CONTROLLERS
from crl_node.calibration import Calibration
from crl_node.data import Array

#: Encodings that the learner reads.
ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
#: A rate may be this share lower than asked for; intrinsics may differ by this share.
_SLOW, _DIFFERENT = 0.8, 0.02


@dataclass(frozen=True)
class Joints:
    """One JointState. Velocities may be empty."""

    stamp: float  # s
    arrival: float  # s, same clock
    names: tuple[str, ...]
    positions: tuple[float, ...]
    velocities: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """One Image without its pixels."""

    stamp: float  # s
    arrival: float  # s
    width: int  # px
    height: int  # px
    encoding: str
    frame: str


@dataclass(frozen=True)
class Info:
    """One CameraInfo."""

    width: int  # px
    height: int  # px
    k: Array  # [3, 3] px
    distortion: tuple[float, ...]
    frame: str


@dataclass
class Observation:
    """What was heard in `seconds` s. Endpoints are (node, message type)."""

    seconds: float
    joint_topic: str = "joint_states"
    image_topic: str = "camera/image_raw"
    info_topic: str = "camera/camera_info"
    command_topic: str = "arm_controller/joint_trajectory"
    joints: list[Joints] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    infos: list[Info] = field(default_factory=list)
    joint_publishers: list[tuple[str, str]] = field(default_factory=list)
    image_publishers: list[tuple[str, str]] = field(default_factory=list)
    subscribers: list[tuple[str, str]] = field(default_factory=list)  # of the command topic
    commanders: list[tuple[str, str]] = field(default_factory=list)  # publishers on the command topic
    description: str | None = None  # of the topic robot_description


def check_live(profile: RobotProfile, calibration: Calibration, seen: Observation) -> Findings:
    """Compare what was heard with what profile and calibration say."""
    findings = Findings()
    _joints(profile, seen, findings)
    _controller(profile, seen, findings)
    _camera(profile, calibration, seen, findings)
    _description(profile, seen, findings)
    return findings


def _who(endpoints: list[tuple[str, str]]) -> str:
    return ", ".join(f"{node} ({kind})" for node, kind in endpoints) or "nobody"


def _rate(arrivals: list[float]) -> float:
    return (len(arrivals) - 1) / max(arrivals[-1] - arrivals[0], 1e-9) if len(arrivals) > 1 else 0.0


def _joints(profile: RobotProfile, seen: Observation, findings: Findings) -> None:
    if not seen.joints:
        findings.bad(
            "joints",
            f"nothing came on {seen.joint_topic} in {seen.seconds:g} s (published by {_who(seen.joint_publishers)})",
        )
        return
    # Several publishers may share the topic (a gripper's): judge the messages that have most of our joints.
    wanted = set(profile.joint_names)
    best = max(seen.joints, key=lambda m: len(wanted & set(m.names)))
    missing = [name for name in profile.joint_names if name not in best.names]
    unknown = [name for name in best.names if name not in wanted and name not in profile.locked]
    if missing:
        findings.bad(
            "joints",
            f"{seen.joint_topic} lacks {', '.join(missing)}; the profile has [{', '.join(profile.joint_names)}], the "
            f"robot has [{', '.join(best.names)}]" + (f"; not in the profile: {', '.join(unknown)}" if unknown else ""),
        )
        return
    whole = [m for m in seen.joints if wanted <= set(m.names)]
    findings.good("joints", f"all {len(wanted)} joints are on {seen.joint_topic}, by name")
    ragged = next((m for m in whole if len(m.positions) != len(m.names)), None)
    if ragged is not None:
        findings.bad("joints", f"a message has {len(ragged.names)} names and {len(ragged.positions)} positions")
        return
    positions = np.array([[m.positions[m.names.index(name)] for name in profile.joint_names] for m in whole])
    if not np.isfinite(positions).all():
        joint = profile.joint_names[int(np.argwhere(~np.isfinite(positions))[0][1])]
        findings.bad("joints", f"the position of '{joint}' is not finite")
        return
    _units(profile, positions[-1], findings)
    rate = _rate([m.arrival for m in whole])
    if rate < _SLOW * profile.joint_states.rate:
        expected = profile.joint_states.rate
        findings.bad("rates", f"joint states come at {rate:.1f} Hz, the profile expects {expected:g} Hz")
    else:
        findings.good("rates", f"joint states come at {rate:.0f} Hz")
    ages = np.array([m.arrival - m.stamp for m in whole])
    most = profile.watchdog.joint_states
    if not abs(float(np.median(ages))) <= most:
        findings.bad(
            "clocks",
            f"joint states are stamped {float(np.median(ages)):.3f} s before they arrive, allowed are {most:g} s: "
            "the robot's clock and ours differ, or its stamps are empty",
        )
    if not any(m.velocities for m in whole):
        findings.warn("joints", "joint states hold no velocities; the arm is taken to be at rest when it is joined")


def _units(profile: RobotProfile, position: Array, findings: Findings) -> None:
    limits = profile.limits
    outside = np.maximum(limits.lower - position, position - limits.upper)
    joint = int(np.argmax(outside))
    if outside[joint] <= 0:
        findings.good("units", "every joint is inside its limits, in rad")
        return
    name, value = profile.joint_names[joint], position[joint]
    turned = np.radians(position)
    inside = np.maximum(limits.lower - turned, turned - limits.upper).max() <= 0
    place = f"'{name}' is at {value:g}, outside [{limits.lower[joint]:.3f}, {limits.upper[joint]:.3f}] rad"
    if inside and outside[joint] > 1.0:
        degrees = f"{value:g} degrees are {turned[joint]:.3f} rad"
        findings.bad("units", f"{place}: joint states look like degrees ({degrees})")
    else:
        findings.bad("limits", f"{place}: move the arm by hand or with its own software first, or mend the profile")


def _controller(profile: RobotProfile, seen: Observation, findings: Findings) -> None:
    wanted, topic = CONTROLLERS[profile.controller.type], seen.command_topic
    right = [node for node, kind in seen.subscribers if kind == wanted]
    wrong = [(node, kind) for node, kind in seen.subscribers if kind != wanted]
    if wrong:
        findings.bad(
            "controller",
            f"{topic} is read by {_who(wrong)}, but the profile's {profile.controller.type} sends {wanted}: set "
            "controller.type to what runs there",
        )
    if not right and not wrong:
        hint = "is the controller there and active (ros2 control list_controllers)?"
        findings.bad("controller", f"nobody reads {topic}: {hint}")
    elif right:
        findings.good("controller", f"{', '.join(right)} reads {topic} ({wanted})")
    if seen.commanders:
        others = _who(seen.commanders)
        findings.bad("controller", f"{topic} is also written by {others}: two would move the arm at once")


def _camera(profile: RobotProfile, calibration: Calibration, seen: Observation, findings: Findings) -> None:
    if not seen.pictures:
        findings.bad(
            "camera",
            f"no picture came on {seen.image_topic} in {seen.seconds:g} s (published by {_who(seen.image_publishers)})",
        )
        return
    picture, camera = seen.pictures[-1], calibration.camera
    if (picture.width, picture.height) != (camera.width, camera.height):
        findings.bad(
            "camera",
            f"pictures are {picture.width}x{picture.height}, {calibration.path} is for {camera.width}x{camera.height}",
        )
    if picture.encoding not in ENCODINGS:
        findings.bad("camera", f"pictures are '{picture.encoding}', readable are {', '.join(ENCODINGS)}")
    if profile.camera.frame and picture.frame != profile.camera.frame:
        findings.bad(
            "frames", f"pictures are in the frame '{picture.frame}', the profile's camera is '{profile.camera.frame}'"
        )
    rate, wanted = _rate([p.arrival for p in seen.pictures]), 1.0 / calibration.period
    if not _SLOW * wanted <= rate <= wanted / _SLOW:
        findings.bad("rates", f"pictures come at {rate:.1f} Hz, {calibration.path} says {wanted:g} Hz (1 / period)")
    else:
        findings.good("camera", f"{picture.width}x{picture.height} {picture.encoding} at {rate:.1f} Hz")
    if not seen.infos:
        findings.warn("camera", f"no CameraInfo came on {seen.info_topic}: the calibration's lens is not checked")
        return
    info = seen.infos[-1]
    if info.frame != picture.frame:
        findings.bad("frames", f"CameraInfo is in the frame '{info.frame}', the pictures are in '{picture.frame}'")
    if any(abs(value) > 1e-9 for value in info.distortion):
        findings.bad(
            "camera",
            f"CameraInfo tells of a distorted lens (d = {[round(v, 4) for v in info.distortion]}): take the rectified "
            "topic (image_proc's image_rect_color)",
        )
    given = np.array([info.k[0, 0], info.k[1, 1], info.k[0, 2], info.k[1, 2]])
    ours = camera.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
    apart = float(np.abs(given - ours).max() / camera.width)
    if not apart <= _DIFFERENT:
        findings.bad(
            "camera",
            f"CameraInfo says fx, fy, cx, cy = {np.round(given, 1).tolist()} px, {calibration.path} says "
            f"{np.round(ours, 1).tolist()} px",
        )
    else:
        findings.good("camera", "CameraInfo agrees with the calibration's lens")


def _description(profile: RobotProfile, seen: Observation, findings: Findings) -> None:
    if seen.description is None:
        return
    try:
        limits = urdf_text.joint_limits(urdf_text.parse(seen.description, "robot_description"), "robot_description")
    except urdf_text.DescriptionError as error:
        findings.bad("urdf", str(error))
        return
    missing = [name for name in profile.joint_names if name not in limits]
    if missing:
        findings.bad(
            "urdf",
            f"the robot's own URDF lacks {', '.join(missing)}; it has [{', '.join(limits)}], the profile "
            f"[{', '.join(profile.joint_names)}]",
        )
        return
    looser = []
    for i, name in enumerate(profile.joint_names):
        lower, upper, velocity = limits[name]
        ours = profile.limits
        if ours.lower[i] < lower - 1e-6 or ours.upper[i] > upper + 1e-6:
            looser.append(f"{name} [{ours.lower[i]:.3f}, {ours.upper[i]:.3f}] rad against [{lower:.3f}, {upper:.3f}]")
        if ours.velocity[i] > velocity + 1e-6:
            looser.append(f"{name} {ours.velocity[i]:g} rad/s against {velocity:g}")
    if looser:
        findings.bad("limits", f"looser than the robot's own URDF: {'; '.join(looser)}")
    else:
        findings.good("urdf", "the robot's own URDF has the profile's joints and no tighter limits")

"""Robot profiles, read from config/robots/*.yaml. Every field is declared in `schema.py`.

The URDF says what the arm can do; a profile can only ask for less.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from crl_node.arm import description as urdf_text
from crl_node.arm.description import DescriptionError, find_data
from crl_node.arm.profile_types import (
    Box,
    CameraSource,
    Capsule,
    Controller,
    JointLimits,
    JointStatesSource,
    Marker,
    RobotProfile,
    TablePlane,
    Tool,
    ToolLean,
    Watchdog,
)
from crl_node.arm.schema import Section
from crl_node.data import Array
from crl_node.paths import share
from crl_node.yaml_fields import ProfileError, read_fields

__all__ = [
    "Box",
    "Capsule",
    "Controller",
    "DescriptionNeededError",
    "JointLimits",
    "Marker",
    "ProfileError",
    "RobotProfile",
    "TablePlane",
    "Tool",
    "ToolLean",
    "Watchdog",
    "load_profile",
    "profile_names",
]

#: Shipped without `tool_lean`: a tool that never leans.
_UPRIGHT = ToolLean((-1.0, 0.0), (0.0, 10.0), (11.0, 0.0))
#: Spare room of the capsule that covers the tool, m.
_TOOL_SPARE = 0.006


class DescriptionNeededError(ProfileError):
    """The profile's URDF comes from a topic, and nobody has listened to it yet."""

    def __init__(self, sentence: str, topic: str) -> None:
        super().__init__(sentence)
        self.topic = topic


def profile_names() -> tuple[str, ...]:
    """Names of the shipped profiles."""
    return tuple(sorted(file.stem for file in (share() / "config" / "robots").glob("*.yaml")))


def profile_path(name_or_path: str | Path) -> Path:
    """The file of the shipped profile of this name, or the file named. ProfileError when the name is unknown."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    found = find_data(f"config/robots/{name_or_path}.yaml")
    if found is None:
        folder = share() / "config" / "robots"
        known = ", ".join(profile_names()) or "none"
        raise ProfileError(f"robot profile '{name_or_path}' is not in {folder} (there: {known})")
    return found


def load_profile(name_or_path: str | Path, description: str | None = None) -> RobotProfile:
    """The profile of this name in config/robots/, or of this file. Raises ProfileError, a sentence.

    `description` is the URDF's text for a profile that takes it from a topic: without it DescriptionNeededError.
    """
    root = Section(read_fields(profile_path(name_or_path), ProfileError))
    urdf, robot = _urdf(root, description)
    try:
        known = urdf_text.joint_limits(robot, urdf.name)
    except DescriptionError as error:
        raise root.fields.error("urdf", f"names {urdf}: {error}") from error
    locked = _locked(root, known)
    urdf_text.lock(robot, locked)
    limits_of = {name: limits for name, limits in known.items() if name not in locked}
    tip_frame = root.text("tip_frame")
    tool = _tool(root, robot, tip_frame)
    if tool is not None:
        urdf_text.add_frame(robot, tip_frame, tool.parent, tool.xyz, tool.rpy)
    marker = _marker(root)
    joint_names, home, posture, limits = _joints(root.required("joints"), limits_of)
    profile = RobotProfile(
        name=root.text("name"),
        source=root.fields.file,
        urdf=urdf,
        description=urdf_text.to_text(robot),
        urdf_limits=limits_of,
        base_frame=_link(root, "base_frame", robot),
        tip_frame=_link(root, "tip_frame", robot),
        joint_names=joint_names,
        home=home,
        posture_cost=posture,
        limits=limits,
        workspace=_box(root.required("workspace")),
        tool_radius=root.number("tool_radius"),
        tip_height=root.number("tip_height"),
        tool_lean=_lean(root.section("tool_lean", optional=True)),
        max_tip_speed=root.number("max_tip_speed"),
        max_tip_acceleration=root.number("max_tip_acceleration"),
        command_duration=root.number("command_duration"),
        command_ramp=root.number("command_ramp"),
        max_tip_lag=root.number("max_tip_lag"),
        join_tolerance=root.number("join_tolerance"),
        start_tolerance=root.number("start_tolerance"),
        resync_tolerance=root.number("resync_tolerance"),
        watchdog=_watchdog(root.required("watchdog")),
        self_filter=_capsules(root, robot) + _tool_capsules(root, tool, marker, tip_frame),
        orientation=root.choice("orientation"),
        locked=locked,
        tool=tool,
        table_plane=_plane(root.section("table_plane", optional=True)),
        controller=_controller(root.section("controller", optional=True)),
        joint_states=_joint_states(root.section("joint_states", optional=True)),
        camera=_camera(root.section("camera", optional=True), root.fields.file),
        marker=marker,
    )
    root.fields.done()
    _check(root, profile)
    return profile


def _check(root: Section, profile: RobotProfile) -> None:
    """Fields that must agree with one another."""
    low, high = profile.workspace.z
    if not low < profile.tip_height < high:
        raise root.fields.error(
            "tip_height", f"is {profile.tip_height:g}, outside workspace.z [{low:g}, {high:g}]"
        )
    total = profile.command_duration + profile.command_ramp
    if total > 0.2 + 1e-9:
        raise root.fields.error(
            "command_ramp",
            f"is {profile.command_ramp:g}: with command_duration a command lasts {total:g} s, at most 0.2 s is allowed",
        )
    if profile.resync_tolerance > profile.start_tolerance:
        raise root.fields.error(
            "resync_tolerance",
            f"is {profile.resync_tolerance:g}, larger than start_tolerance {profile.start_tolerance:g}: "
            "the gate would reject what the commander makes",
        )
    if profile.max_tip_speed / profile.command_ramp > profile.max_tip_acceleration:
        raise root.fields.error(
            "max_tip_acceleration",
            f"is {profile.max_tip_acceleration:g} m/s^2, too little to stop from max_tip_speed within command_ramp "
            f"({profile.max_tip_speed / profile.command_ramp:g} m/s^2)",
        )
    controller = profile.controller
    if controller.streams and controller.timeout < 2.0 / controller.rate:
        raise root.required("controller").fields.error(
            "timeout",
            f"is {controller.timeout:g} s, less than two periods of its {controller.rate:g} Hz: the arm would stutter",
        )


def _urdf(root: Section, description: str | None) -> tuple[Path, ElementTree.Element]:
    """Where the URDF is from, and its root element."""
    given = root.fields.raw("urdf") if "urdf" in root.fields else None
    if not isinstance(given, dict):
        path = _file(root, "urdf", root.text("urdf"))
    else:
        section = root.required("urdf")
        package, file, topic = (section.text(key) for key in ("package", "file", "topic"))
        section.fields.done()
        if bool(topic) == bool(file) or (package and not file):
            raise root.fields.error("urdf", "wants either `topic`, or `file` (with or without `package`)")
        if topic and description is None:
            raise DescriptionNeededError(
                f"{root.fields.file}: this profile's URDF comes from the topic '{topic}', which has not been heard; "
                "is robot_state_publisher running?",
                topic,
            )
        if topic:
            assert description is not None
            try:
                return Path(topic), urdf_text.parse(description, f"topic {topic}")
            except DescriptionError as error:
                raise root.fields.error("urdf", f"comes from a topic: {error}") from error
        if package:
            try:
                path = urdf_text.find_in_package(package, file)
            except DescriptionError as error:
                raise root.fields.error("urdf", f"cannot be found: {error}") from error
        else:
            path = _file(section, "file", file)
    try:
        return path, urdf_text.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, DescriptionError) as error:
        raise root.fields.error("urdf", f"cannot be read: {error}") from error


def _file(section: Section, key: str, text: str) -> Path:
    beside = section.fields.file.parent / text
    found = beside if beside.is_file() else find_data(text)
    if found is None:
        raise section.fields.error(
            key, f"is '{text}': no such file beside the profile nor in the package's data folders"
        )
    return found


def _link(section: Section, key: str, robot: ElementTree.Element) -> str:
    name, links = section.text(key), urdf_text.links(robot)
    if name not in links:
        raise section.fields.error(key, f"is '{name}', which is no link of the URDF (links: {', '.join(links)})")
    return name


def _locked(root: Section, known: dict[str, tuple[float, float, float]]) -> dict[str, float]:
    section = root.section("locked", optional=True)
    found: dict[str, float] = {}
    for name in () if section is None else section.fields.names():
        assert section is not None
        if name not in known:
            raise section.fields.error(name, f"is no movable joint of the URDF (it has {', '.join(known)})")
        found[name] = Section(section.fields, "locked.").fields.number(name, low=-6.3, high=6.3, unit="rad or m")
    return found


def _tool(root: Section, robot: ElementTree.Element, tip_frame: str) -> Tool | None:
    section = root.section("tool", optional=True)
    if section is None:
        return None
    if tip_frame in urdf_text.links(robot):
        raise root.fields.error(
            "tip_frame", f"is '{tip_frame}', a link of the URDF, but `tool` adds a frame: give it a new name"
        )
    parent, xyz, rpy = _link(section, "parent", robot), section.vector("xyz"), section.vector("rpy")
    section.fields.done()
    return Tool(parent, (xyz[0], xyz[1], xyz[2]), (rpy[0], rpy[1], rpy[2]))


def _joints(
    section: Section, urdf_limits: dict[str, tuple[float, float, float]]
) -> tuple[tuple[str, ...], dict[str, float], Array, JointLimits]:
    names, home, posture, rows = [], {}, [], []
    margin = section.number("position_margin")
    for name in section.fields.names():
        if name == "position_margin":
            continue
        if name not in urdf_limits:
            raise section.fields.error(
                name, f"is no movable joint of the URDF (it has {', '.join(urdf_limits)})"
            )
        joint = section.named(name)
        lower, upper, velocity = urdf_limits[name]
        low, high = lower + margin, upper - margin
        if "position" in joint.fields:
            low, high = joint.interval("position")
        if low < lower or high > upper:
            raise joint.fields.error(
                "position",
                f"is [{low:g}, {high:g}], wider than the URDF's [{lower:g}, {upper:g}]: a profile can only tighten",
            )
        speed = joint.number("velocity", velocity)
        if speed > velocity:
            raise joint.fields.error(
                "velocity",
                f"is {speed:g} rad/s, more than the URDF's {velocity:g}: a profile can only tighten",
            )
        home[name] = joint.number("home")
        if not low <= home[name] <= high:
            raise joint.fields.error("home", f"is {home[name]:g}, outside the limits [{low:g}, {high:g}]")
        posture.append(joint.number("posture_cost"))
        rows.append((low, high, speed, joint.number("acceleration")))
        names.append(name)
        joint.fields.done()
    absent = [name for name in urdf_limits if name not in names]
    if absent:
        raise section.fields.error(
            None,
            f"lacks joint '{absent[0]}' of the URDF (it has {len(names)} of {len(urdf_limits)}); a joint that never "
            "moves belongs under 'locked'",
        )
    lower_, upper_, velocity_, acceleration_ = np.array(rows).T
    return tuple(names), home, np.array(posture), JointLimits(lower_, upper_, velocity_, acceleration_)


def _box(section: Section) -> Box:
    box = Box(section.interval("x"), section.interval("y"), section.interval("z"))
    section.fields.done()
    return box


def _lean(section: Section | None) -> ToolLean:
    if section is None:
        return _UPRIGHT
    near, vertical, far = section.vector("near"), section.interval("vertical"), section.vector("far")
    section.fields.done()
    if not near[0] < vertical[0]:
        raise section.fields.error(
            "near", f"begins at {near[0]:g} m, not nearer than vertical {list(vertical)}"
        )
    if not vertical[1] < far[0]:
        raise section.fields.error(
            "far", f"begins at {far[0]:g} m, not further than vertical {list(vertical)}"
        )
    if max(abs(near[1]), abs(far[1])) > math.radians(60):
        raise section.fields.error(None, "leans more than 1.05 rad (60 degrees), wanted less")
    return ToolLean((near[0], near[1]), vertical, (far[0], far[1]))


def _watchdog(section: Section) -> Watchdog:
    watchdog = Watchdog(*(section.number(key) for key in ("command", "joint_states", "stamp")))
    section.fields.done()
    return watchdog


def _plane(section: Section | None) -> TablePlane:
    if section is None:
        return TablePlane()
    plane = TablePlane(*(section.number(key) for key in ("height", "roll", "pitch")))
    section.fields.done()
    return plane


def _controller(section: Section | None) -> Controller:
    if section is None:
        return Controller()
    numbers = [section.number(key) for key in ("rate", "timeout", "gain", "latency")]
    controller = Controller(section.text("topic"), section.choice("type"), *numbers)
    section.fields.done()
    return controller


def _joint_states(section: Section | None) -> JointStatesSource:
    if section is None:
        return JointStatesSource()
    source = JointStatesSource(section.text("topic"), section.number("rate"))
    section.fields.done()
    return source


def _camera(section: Section | None, profile: Path) -> CameraSource:
    if section is None:
        return CameraSource()
    calibration, *rest = (section.text(key) for key in ("calibration", "image_topic", "info_topic", "frame"))
    section.fields.done()
    if calibration.endswith((".yaml", ".yml")):
        beside = profile.absolute().parent / calibration
        calibration = str(beside if beside.is_file() else Path(calibration))
    return CameraSource(calibration, *rest)


def _marker(root: Section) -> Marker | None:
    section = root.section("marker", optional=True)
    if section is None:
        return None
    red, green, blue = section.vector("colour")
    x, y, z = section.vector("offset")
    marker = Marker((red, green, blue), section.number("radius"), (x, y, z))
    section.fields.done()
    return marker


def _capsules(root: Section, robot: ElementTree.Element) -> tuple[Capsule, ...]:
    found = []
    for fields in root.fields.children("self_filter", optional=True, most=100):
        section = Section(fields, "self_filter[].")
        start, end = section.vector("from"), section.vector("to")
        found.append(
            Capsule(
                _link(section, "link", robot),
                (start[0], start[1], start[2]),
                (end[0], end[1], end[2]),
                section.number("radius"),
            )
        )
        fields.done()
    return tuple(found)


def _tool_capsules(root: Section, tool: Tool | None, marker: Marker | None, tip_frame: str) -> tuple[Capsule, ...]:
    """What covers the tool and the marker that the profile adds to the URDF."""
    found = []
    if tool is not None:
        radius = root.number("tool_radius") + _TOOL_SPARE
        back = urdf_text.rotation(tool.rpy) @ np.array([0.0, 0.0, root.number("tool_radius")])
        x, y, z = np.asarray(tool.xyz) - back
        found.append(Capsule(tool.parent, (0.0, 0.0, 0.0), (float(x), float(y), float(z)), radius))
    if marker is not None:
        found.append(Capsule(tip_frame, marker.offset, marker.offset, marker.radius + _TOOL_SPARE))
    return tuple(found)

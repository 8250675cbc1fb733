"""Every field of a robot profile, once: the parser reads by this table, and docs/robots.md is written from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crl_node.yaml_fields import Fields

#: Kinds of controllers the gate can speak to, with the message each takes.
CONTROLLERS = {
    "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "forward_velocity": "std_msgs/msg/Float64MultiArray",
    "servo_twist": "geometry_msgs/msg/TwistStamped",
}
ORIENTATIONS = ("hold", "prefer", "free")
_REQUIRED = object()


@dataclass(frozen=True)
class FieldSpec:
    """One field: how it is read and what the documentation says."""

    kind: str  # number, integer, text, choice, vector, mapping, list
    text: str
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    size: int = 0  # of a vector
    default: Any = _REQUIRED
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """It has no default."""
        return self.default is _REQUIRED


def _number(text: str, unit: str, low: float, high: float, default: Any = _REQUIRED) -> FieldSpec:
    return FieldSpec("number", text, unit, low, high, default=default)


def _vector(text: str, unit: str, size: int, low: float, high: float, default: Any = _REQUIRED) -> FieldSpec:
    return FieldSpec("vector", text, unit, low, high, size, default)


def _text(text: str, default: Any = _REQUIRED) -> FieldSpec:
    return FieldSpec("text", text, default=default)


def _group(text: str, *, optional: bool = True, kind: str = "mapping") -> FieldSpec:
    return FieldSpec(kind, text, default=None if optional else _REQUIRED)


#: By path; `*` stands for a joint's name, `[]` for each element of a list.
SPECS: dict[str, FieldSpec] = {
    "name": _text("What the robot is called."),
    "urdf": FieldSpec(
        "text or mapping",
        "Kinematics, position and velocity limits: a file beside the profile or in the package's data folders, or a "
        "mapping with one of `package` and `file`, or `topic`.",
    ),
    "urdf.package": _text("A ROS package (share folder) or an installed Python package.", ""),
    "urdf.file": _text("The URDF's path inside `package`; without `package` a path as above.", ""),
    "urdf.topic": _text("A std_msgs/String topic with the URDF, latched, as robot_state_publisher's.", ""),
    "base_frame": _text("Link of the URDF in whose frame everything below is given. The table's plane is z = 0."),
    "tip_frame": _text("The point that is commanded: a link of the URDF, or the frame that `tool` adds."),
    "tool": _group("A tool the URDF does not know; it adds `tip_frame`."),
    "tool.parent": _text("Link the tool is mounted on."),
    "tool.xyz": _vector("The tip in the parent's frame.", "m", 3, -2.0, 2.0),
    "tool.rpy": _vector("Turn of the tip's frame; its z is the tool's direction.", "rad", 3, -6.3, 6.3, (0.0,) * 3),
    "locked": _group("Joints that never move, such as a gripper's fingers, each with the position it stays at."),
    "locked.*": _number("Position at which the joint stays.", "rad or m", -6.3, 6.3),
    "table_plane": _group("Where the table's plane is in `base_frame` when that is not z = 0 (`crl robot calibrate`)."),
    "table_plane.height": _number("Of the plane above the base's origin.", "m", -1.5, 1.5, 0.0),
    "table_plane.roll": _number("Turn of the plane about x.", "rad", -0.3, 0.3, 0.0),
    "table_plane.pitch": _number("Turn of the plane about y.", "rad", -0.3, 0.3, 0.0),
    "joints": _group("Every movable joint of the URDF that is not locked, by name.", optional=False),
    "joints.position_margin": _number("Kept from both of the URDF's position limits.", "rad", 0.0, 1.0),
    "joints.*.home": _number("Where the arm starts and holds.", "rad", -6.3, 6.3),
    "joints.*.acceleration": _number("Largest acceleration (the URDF knows none).", "rad/s^2", 0.01, 1000.0),
    "joints.*.position": _vector(
        "[lower, upper], inside the URDF's; default: the URDF's less `position_margin`.", "rad", 2, -6.3, 6.3, None
    ),
    "joints.*.velocity": _number("At most the URDF's, which is the default.", "rad/s", 1e-3, 50.0, None),
    "joints.*.posture_cost": _number("Pull towards home where the tip leaves the joint free.", "", 0.0, 1e3, 0.0),
    "workspace": _group("Where the tip may be.", optional=False),
    "workspace.x": _vector("[low, high].", "m", 2, -3.0, 3.0),
    "workspace.y": _vector("[low, high].", "m", 2, -3.0, 3.0),
    "workspace.z": _vector("[low, high] above the table's plane.", "m", 2, -1.0, 3.0),
    "tool_radius": _number("Of the tool near its tip.", "m", 1e-3, 0.2),
    "tip_height": _number("Of the tip above the table while it works.", "m", -1.0, 3.0),
    "orientation": FieldSpec(
        "choice",
        "`hold`: the tool's direction is kept exactly; `prefer`: as well as the arm can, for arms with few joints; "
        "`free`: only the tip's position counts.",
        default="hold",
        choices=ORIENTATIONS,
    ),
    "tool_lean": _group("How the tool leans from vertical, by the tip's distance from the base's axis."),
    "tool_lean.near": _vector("Distance, and lean there (negative: the tip leans inwards).", "m, rad", 2, -3.0, 3.0),
    "tool_lean.vertical": _vector("Between these distances the tool is vertical.", "m", 2, 0.0, 3.0),
    "tool_lean.far": _vector("Distance, and lean there (positive: the tip leans outwards).", "m, rad", 2, -3.0, 3.0),
    "max_tip_speed": _number("Planar.", "m/s", 1e-3, 2.0),
    "max_tip_acceleration": _number("Planar.", "m/s^2", 0.01, 50.0),
    "command_duration": _number("How long a command moves the tip at its velocity.", "s", 1e-3, 0.2),
    "command_ramp": _number("From there to rest; with `command_duration` at most 0.2 s.", "s", 1e-3, 0.2),
    "max_tip_lag": _number("The reference waits for a tip that is this far behind it.", "m", 1e-3, 0.1),
    "join_tolerance": _number("Largest jump of the reference from one command to the next.", "rad", 1e-4, 1.0),
    "resync_tolerance": _number("A reference further than this from the joints is given up.", "rad", 1e-4, 1.0),
    "start_tolerance": _number("A command must start this close to where the joints are.", "rad", 1e-4, 1.0),
    "watchdog": _group("Ages after which the gate holds.", optional=False),
    "watchdog.command": _number("Without a command.", "s", 1e-3, 10.0),
    "watchdog.joint_states": _number("Of the newest joint states.", "s", 1e-3, 10.0),
    "watchdog.stamp": _number("Of a command's stamp.", "s", 1e-3, 10.0),
    "controller": _group("What takes the gate's commands."),
    "controller.topic": _text("Its command topic.", "arm_controller/joint_trajectory"),
    "controller.type": FieldSpec(
        "choice",
        "`joint_trajectory`: chunks of at most 0.2 s for a joint_trajectory_controller; `forward_velocity`: joint "
        "velocities for a JointGroupVelocityController; `servo_twist`: tip velocities for MoveIt Servo.",
        default="joint_trajectory",
        choices=tuple(CONTROLLERS),
    ),
    "controller.rate": _number("Of the messages of a velocity or twist stream.", "Hz", 10.0, 500.0, 200.0),
    "controller.timeout": _number(
        "Velocity and twist: with no accepted command for this long the gate sends zero; the controller's own timeout "
        "should be no longer.", "s", 0.02, 1.0, 0.25,
    ),
    "controller.latency": _number(
        "joint_trajectory: a trajectory may take so long from the gate into the controller. New motion departs from "
        "the one under way so much later than the gate sends it; one that takes longer jumps.", "s", 0.0, 0.1, 0.05,
    ),
    "controller.gain": _number("Velocity and twist: correction of what the arm lags.", "1/s", 0.0, 20.0, 4.0),
    "joint_states": _group("Where the joints are told."),
    "joint_states.topic": _text("sensor_msgs/JointState.", "joint_states"),
    "joint_states.rate": _number("Expected at least.", "Hz", 5.0, 2000.0, 20.0),
    "camera": _group("The camera that sees the table."),
    "camera.calibration": _text("A name in config/cameras, or a file beside the profile.", "front"),
    "camera.image_topic": _text("Rectified rgb8 images.", "camera/image_raw"),
    "camera.info_topic": _text("Their CameraInfo.", "camera/camera_info"),
    "camera.frame": _text("frame_id of the images; empty: any.", ""),
    "marker": _group("A ball of one colour on the tool, for `crl robot calibrate`."),
    "marker.colour": _vector("Red, green, blue, 0 to 1; nothing else in view may have it.", "", 3, 0.0, 1.0),
    "marker.radius": _number("Of the ball.", "m", 2e-3, 0.1),
    "marker.offset": _vector("Its centre in the tip's frame (z points out of the tool).", "m", 3, -0.5, 0.5),
    "self_filter": _group("Capsules that cover the arm, for taking it out of the picture.", kind="list"),
    "self_filter[].link": _text("Link the capsule is fixed to."),
    "self_filter[].from": _vector("One end of its axis, in the link's frame.", "m", 3, -3.0, 3.0),
    "self_filter[].to": _vector("The other end.", "m", 3, -3.0, 3.0),
    "self_filter[].radius": _number("With a few mm to spare.", "m", 1e-3, 1.0),
}  # fmt: skip


class Section:
    """A mapping of a profile, read field by field as SPECS says."""

    def __init__(self, fields: Fields, prefix: str = "") -> None:
        self.fields = fields
        self._prefix = prefix

    def _spec(self, key: str) -> FieldSpec:
        return SPECS[f"{self._prefix}{key}"]

    def number(self, key: str, default: float | None = None) -> float:
        """The number at `key`, in range. `default` replaces the table's."""
        spec = self._spec(key)
        value = default if default is not None else (None if spec.required else spec.default)
        return self.fields.number(key, value, low=spec.low, high=spec.high, unit=spec.unit)

    def vector(self, key: str, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        """The list at `key`."""
        spec = self._spec(key)
        value = default if default is not None else (None if spec.required else spec.default)
        return self.fields.vector(key, (spec.size,), value, low=spec.low, high=spec.high, unit=spec.unit)

    def interval(self, key: str, default: tuple[float, float] | None = None) -> tuple[float, float]:
        """The list of two at `key`, the smaller first."""
        low, high = self.vector(key, default)
        if not low < high:
            raise self.fields.error(key, f"is [{low:g}, {high:g}]; allowed: the smaller number first")
        return low, high

    def text(self, key: str) -> str:
        """The text at `key`."""
        spec = self._spec(key)
        return self.fields.text(key, None if spec.required else spec.default)

    def choice(self, key: str) -> str:
        """The word at `key`, one of the allowed."""
        spec = self._spec(key)
        return self.fields.choice(key, spec.choices, spec.default)

    def section(self, key: str, *, optional: bool = False) -> Section | None:
        """The mapping at `key`."""
        child = self.fields.child(key, optional=optional)
        return None if child is None else Section(child, f"{self._prefix}{key}.")

    def required(self, key: str) -> Section:
        """The mapping at `key`, which must be there."""
        return Section(self.fields.required(key), f"{self._prefix}{key}.")

    def named(self, key: str) -> Section:
        """The mapping at `key`, a name of the user's own (`*` in the table)."""
        return Section(self.fields.required(key), f"{self._prefix}*.")


def markdown() -> str:
    """The table of docs/robots.md."""
    lines = ["| field | unit | range | default | what it is |", "|---|---|---|---|---|"]
    for path, spec in SPECS.items():
        span = ""
        if spec.kind in ("number", "vector"):
            span = f"{spec.low:g} … {spec.high:g}" + (f", {spec.size} numbers" if spec.size else "")
        elif spec.choices:
            span = ", ".join(spec.choices)
        elif spec.kind in ("mapping", "list"):
            span = spec.kind
        default = "**required**" if spec.required else _shown(spec.default)
        lines.append(f"| `{path}` | {spec.unit} | {span} | {default} | {spec.text} |")
    return "\n".join(lines)


def _shown(default: Any) -> str:
    if default is None or default == "":
        return "–"
    if isinstance(default, float):
        return f"{default:g}"
    return str(list(default) if isinstance(default, tuple) else default)


if __name__ == "__main__":
    print(markdown())

"""Robot profiles: what the nodes must know about one arm, read from config/robots/*.yaml.

The URDF says what the arm can do; a profile can only ask for less.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crl_node.arm.fields import Field, ProfileError
from crl_node.data import Array
from crl_node.paths import share

__all__ = [
    "Box",
    "Capsule",
    "JointLimits",
    "ProfileError",
    "RobotProfile",
    "ToolLean",
    "Watchdog",
    "load_profile",
]


@dataclass(frozen=True)
class JointLimits:
    """Limits of J joints in the profile's order."""

    lower: Array  # [J] rad
    upper: Array  # [J] rad
    velocity: Array  # [J] rad/s
    acceleration: Array  # [J] rad/s^2


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in the base frame, m."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]

    @property
    def low(self) -> Array:
        """Lower corner [3] m."""
        return np.array([self.x[0], self.y[0], self.z[0]])

    @property
    def high(self) -> Array:
        """Upper corner [3] m."""
        return np.array([self.x[1], self.y[1], self.z[1]])


@dataclass(frozen=True)
class ToolLean:
    """How far the tool leans from vertical, by the tip's distance from the base's axis.

    A vertical rod cannot reach the far corners (the arm is too short) nor the near edge (the elbow bends too
    far): there the tool leans, quadratically, so that the lean and its rate are continuous.
    """

    near: tuple[float, float]  # m from the axis, rad there (negative: the tip leans towards the base)
    vertical: tuple[float, float]  # m from the axis, between these the tool is vertical
    far: tuple[float, float]  # m from the axis, rad there

    def at(self, radius: float) -> tuple[float, float]:
        """Lean rad, and its slope rad/m, of a tip `radius` m from the base's axis."""
        if radius < self.vertical[0]:
            edge, (reach, angle) = self.vertical[0], self.near
        elif radius > self.vertical[1]:
            edge, (reach, angle) = self.vertical[1], self.far
        else:
            return 0.0, 0.0
        share = (radius - edge) / (reach - edge)
        return angle * share * share, 2 * angle * share / (reach - edge)


@dataclass(frozen=True)
class Watchdog:
    """Ages after which the gate holds, s."""

    command: float  # no command for this long while active: hold and report
    joint_states: float  # joint states older than this: hold
    stamp: float  # commands stamped longer ago than this are stale


@dataclass(frozen=True)
class Capsule:
    """A capsule fixed to a link: all points within `radius` of a segment."""

    link: str
    start: tuple[float, float, float]  # m, link frame
    end: tuple[float, float, float]  # m, link frame
    radius: float  # m


@dataclass(frozen=True)
class RobotProfile:
    """One arm, its limits and the way it works on the table. Arrays are in the order of `joint_names`."""

    name: str
    source: Path  # the file this came from
    urdf: Path
    base_frame: str
    tip_frame: str
    joint_names: tuple[str, ...]  # J names
    home: dict[str, float]  # rad
    posture_cost: Array  # [J] how much each joint is pulled to its home angle where the task leaves it free
    limits: JointLimits
    workspace: Box  # of the tip
    tool_radius: float  # m
    tip_height: float  # m, of the tip while working
    tool_lean: ToolLean
    max_tip_speed: float  # m/s
    max_tip_acceleration: float  # m/s^2
    command_duration: float  # s at the commanded velocity
    command_ramp: float  # s from there to rest
    max_tip_lag: float  # m, the reference waits when the tip is this far behind it: it is blocked
    join_tolerance: float  # rad, largest jump of the reference where one command takes over from another
    start_tolerance: float  # rad, a command must start this close to the measured position
    resync_tolerance: float  # rad, a reference this far from the measured position is given up
    watchdog: Watchdog
    self_filter: tuple[Capsule, ...]

    def vector(self, positions: dict[str, float]) -> Array:
        """Positions by name -> [J] rad in this profile's order. ProfileError when a joint is absent."""
        missing = [name for name in self.joint_names if name not in positions]
        if missing:
            raise ProfileError(
                f"joint '{missing[0]}' is absent (got {len(positions)} names: {', '.join(positions) or 'none'})"
            )
        return np.array([positions[name] for name in self.joint_names], dtype=float)

    def named(self, vector: Array) -> dict[str, float]:
        """[J] rad in this profile's order -> positions by name."""
        return {name: float(value) for name, value in zip(self.joint_names, vector, strict=True)}


def find_data(relative: str) -> Path | None:
    """The file `relative` in the package's data folder, None when it is not there."""
    path = share() / relative
    return path if path.is_file() else None


def load_profile(name_or_path: str | Path) -> RobotProfile:
    """The profile of this name in config/robots/, or of this file. Raises ProfileError, a sentence."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        found = find_data(f"config/robots/{name_or_path}.yaml")
        if found is None:
            folder = share() / "config" / "robots"
            known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
            raise ProfileError(f"robot profile '{name_or_path}' is not in {folder} (there: {known})")
        path = found
    root = Field.load(path)
    urdf = _urdf_path(root.get("urdf"))
    urdf_limits = _urdf_limits(root.get("urdf"), urdf)
    joint_names, home, posture, limits = _joints(root.get("joints"), urdf_limits)
    profile = RobotProfile(
        name=root.get("name").text(),
        source=path,
        urdf=urdf,
        base_frame=_link(root.get("base_frame"), urdf),
        tip_frame=_link(root.get("tip_frame"), urdf),
        joint_names=joint_names,
        home=home,
        posture_cost=posture,
        limits=limits,
        workspace=_box(root.get("workspace")),
        tool_radius=root.get("tool_radius").number(1e-3, 0.2),
        tip_height=root.get("tip_height").number(),
        tool_lean=_lean(root.get("tool_lean")),
        max_tip_speed=root.get("max_tip_speed").number(1e-3, 2.0),
        max_tip_acceleration=root.get("max_tip_acceleration").number(1e-2, 50.0),
        command_duration=root.get("command_duration").number(1e-3, 0.2),
        command_ramp=root.get("command_ramp").number(1e-3, 0.2),
        max_tip_lag=root.get("max_tip_lag").number(1e-3, 0.1),
        join_tolerance=root.get("join_tolerance").number(1e-4, 1.0),
        start_tolerance=root.get("start_tolerance").number(1e-4, 1.0),
        resync_tolerance=root.get("resync_tolerance").number(1e-4, 1.0),
        watchdog=_watchdog(root.get("watchdog")),
        self_filter=tuple(_capsule(element, urdf) for element in root.get("self_filter").elements()),
    )
    root.done()
    _check(root, profile)
    return profile


def _check(root: Field, profile: RobotProfile) -> None:
    """Fields that must agree with one another."""
    low, high = profile.workspace.z
    if not low < profile.tip_height < high:
        raise root.get("tip_height").error(
            f"is {profile.tip_height:g}, outside workspace.z [{low:g}, {high:g}]"
        )
    total = profile.command_duration + profile.command_ramp
    if total > 0.2 + 1e-9:
        raise root.get("command_ramp").error(
            f"is {profile.command_ramp:g}: with command_duration a command lasts {total:g} s, at most 0.2 s is allowed"
        )
    if profile.resync_tolerance > profile.start_tolerance:
        raise root.get("resync_tolerance").error(
            f"is {profile.resync_tolerance:g}, larger than start_tolerance {profile.start_tolerance:g}: "
            "the gate would reject what the commander makes"
        )
    if profile.max_tip_speed / profile.command_ramp > profile.max_tip_acceleration:
        raise root.get("max_tip_acceleration").error(
            f"is {profile.max_tip_acceleration:g} m/s^2, too little to stop from max_tip_speed within command_ramp "
            f"({profile.max_tip_speed / profile.command_ramp:g} m/s^2)"
        )


def _urdf_path(field: Field) -> Path:
    text = field.text()
    beside = field.path.parent / text
    found = beside if beside.is_file() else find_data(text)
    if found is None:
        raise field.error(f"is '{text}': no such file beside the profile nor in the package's data folders")
    return found


def _urdf_tree(urdf: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(urdf).getroot()
    except ElementTree.ParseError as error:
        raise ProfileError(f"{urdf}:{error.position[0]}: not valid XML: {error}") from error


def _urdf_limits(field: Field, urdf: Path) -> dict[str, tuple[float, float, float]]:
    """Lower rad, upper rad, velocity rad/s of every movable joint of the URDF, in its order."""
    limits = {}
    for joint in _urdf_tree(urdf).iter("joint"):
        if joint.get("type") not in ("revolute", "prismatic"):
            continue
        limit = joint.find("limit")
        if limit is None:
            raise field.error(f"names {urdf}, whose joint '{joint.get('name')}' has no limits")
        try:
            values = (
                float(limit.attrib["lower"]),
                float(limit.attrib["upper"]),
                float(limit.attrib["velocity"]),
            )
        except (KeyError, ValueError) as error:
            raise field.error(
                f"names {urdf}, whose joint '{joint.get('name')}' has unusable limits: {error}"
            ) from None
        limits[str(joint.get("name"))] = values
    return limits


def _link(field: Field, urdf: Path) -> str:
    name = field.text()
    links = [str(link.get("name")) for link in _urdf_tree(urdf).iter("link")]
    if name not in links:
        raise field.error(f"is '{name}', which is no link of {urdf.name} (links: {', '.join(links)})")
    return name


def _joints(
    field: Field, urdf_limits: dict[str, tuple[float, float, float]]
) -> tuple[tuple[str, ...], dict[str, float], Array, JointLimits]:
    names, home, posture, rows = [], {}, [], []
    margin = field.get("position_margin").number(0.0, 1.0)
    for name, joint in field.items():
        if name == "position_margin":
            continue
        if name not in urdf_limits:
            raise joint.error(f"is no movable joint of the URDF (it has {', '.join(urdf_limits)})")
        lower, upper, velocity = urdf_limits[name]
        low, high = joint.optional("position", Field.interval, (lower + margin, upper - margin))
        if low < lower or high > upper:
            raise joint.get("position").error(
                f"is [{low:g}, {high:g}], wider than the URDF's [{lower:g}, {upper:g}]: a profile can only tighten"
            )
        speed = joint.optional("velocity", lambda f: f.number(1e-3), velocity)
        if speed > velocity:
            raise joint.get("velocity").error(
                f"is {speed:g} rad/s, more than the URDF's {velocity:g}: a profile can only tighten"
            )
        home[name] = joint.get("home").number()
        if not low <= home[name] <= high:
            raise joint.get("home").error(f"is {home[name]:g}, outside the limits [{low:g}, {high:g}]")
        posture.append(joint.optional("posture_cost", lambda f: f.number(0.0), 0.0))
        rows.append((low, high, speed, joint.get("acceleration").number(1e-2, 1e3)))
        names.append(name)
        joint.done()
    absent = [name for name in urdf_limits if name not in names]
    if absent:
        raise field.error(
            f"lacks joint '{absent[0]}' of the URDF (it has {len(names)} of {len(urdf_limits)})"
        )
    lower_, upper_, velocity_, acceleration_ = np.array(rows).T
    return tuple(names), home, np.array(posture), JointLimits(lower_, upper_, velocity_, acceleration_)


def _box(field: Field) -> Box:
    box = Box(field.get("x").interval(), field.get("y").interval(), field.get("z").interval())
    field.done()
    return box


def _lean(field: Field) -> ToolLean:
    near, vertical, far = (
        field.get("near").numbers(2),
        field.get("vertical").interval(),
        field.get("far").numbers(2),
    )
    field.done()
    if not near[0] < vertical[0]:
        raise field.get("near").error(f"begins at {near[0]:g} m, not nearer than vertical {list(vertical)}")
    if not vertical[1] < far[0]:
        raise field.get("far").error(f"begins at {far[0]:g} m, not further than vertical {list(vertical)}")
    if max(abs(near[1]), abs(far[1])) > math.radians(30):
        raise field.error("leans more than 0.52 rad (30 degrees), wanted less")
    return ToolLean((near[0], near[1]), vertical, (far[0], far[1]))


def _watchdog(field: Field) -> Watchdog:
    keys = ("command", "joint_states", "stamp")
    watchdog = Watchdog(*(field.get(key).number(1e-3, 10.0) for key in keys))
    field.done()
    return watchdog


def _capsule(field: Field, urdf: Path) -> Capsule:
    start, end = field.get("from").numbers(3), field.get("to").numbers(3)
    capsule = Capsule(
        _link(field.get("link"), urdf),
        (start[0], start[1], start[2]),
        (end[0], end[1], end[2]),
        field.get("radius").number(1e-3, 1.0),
    )
    field.done()
    return capsule

"""What the nodes must know about one arm, as frozen dataclasses. `profile.py` reads them from config/robots/*.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crl_node.arm.description import rotation
from crl_node.data import Array
from crl_node.yaml_fields import ProfileError


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
class Tool:
    """A tool the URDF does not know."""

    parent: str  # link
    xyz: tuple[float, float, float]  # m, the tip in the parent's frame
    rpy: tuple[float, float, float]  # rad


@dataclass(frozen=True)
class TablePlane:
    """Where the table's plane is in the base frame."""

    height: float = 0.0  # m
    roll: float = 0.0  # rad
    pitch: float = 0.0  # rad

    @property
    def pose(self) -> Array:
        """[4, 4] base frame <- table frame, m."""
        pose = np.eye(4)
        pose[:3, :3], pose[2, 3] = rotation((self.roll, self.pitch, 0.0)), self.height
        return pose


@dataclass(frozen=True)
class Controller:
    """What takes the gate's commands."""

    topic: str = "arm_controller/joint_trajectory"
    type: str = "joint_trajectory"  # one of schema.CONTROLLERS
    rate: float = 200.0  # Hz, of a velocity or twist stream
    timeout: float = 0.25  # s, of a velocity or twist stream
    gain: float = 4.0  # 1/s, of a velocity or twist stream
    latency: float = 0.05  # s, a trajectory may take to the controller without a jump

    @property
    def streams(self) -> bool:
        """It wants velocities again and again, instead of trajectories."""
        return self.type != "joint_trajectory"


@dataclass(frozen=True)
class JointStatesSource:
    """Where the joints are told."""

    topic: str = "joint_states"
    rate: float = 20.0  # Hz, expected at least


@dataclass(frozen=True)
class CameraSource:
    """The camera that sees the table."""

    calibration: str = "front"  # a name in config/cameras, or a file
    image_topic: str = "camera/image_raw"
    info_topic: str = "camera/camera_info"
    frame: str = ""  # frame_id of the images; empty: any


@dataclass(frozen=True)
class Marker:
    """A ball of one colour on the tool."""

    colour: tuple[float, float, float]  # rgb 0..1
    radius: float  # m
    offset: tuple[float, float, float]  # m, tip frame


@dataclass(frozen=True)
class RobotProfile:
    """One arm, its limits and the way it works on the table. Arrays are in the order of `joint_names`."""

    name: str
    source: Path  # the file this came from
    urdf: Path  # where the URDF came from, or the topic's name
    description: str  # the URDF as it is loaded: locked joints fixed, the tool added
    urdf_limits: dict[str, tuple[float, float, float]]  # lower rad, upper rad, velocity rad/s of every movable joint
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
    orientation: str = "hold"  # of the tool: hold, prefer or free
    locked: dict[str, float] = field(default_factory=dict)  # rad or m, joints that never move
    tool: Tool | None = None
    table_plane: TablePlane = TablePlane()
    controller: Controller = Controller()
    joint_states: JointStatesSource = JointStatesSource()
    camera: CameraSource = CameraSource()
    marker: Marker | None = None

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

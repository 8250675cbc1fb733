"""A stand-in for an arm's looks and its table: what the mock hardware shows and pushes.

The arm is drawn as the capsules that its profile takes out of the picture, less their spare room: it needs no meshes,
which a robot's package may keep to itself, and costs a few milliseconds instead of tens.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np

from crl_node.arm import description as urdf_text
from crl_node.arm.profile_types import Capsule, RobotProfile
from crl_node.calibration import Calibration
from crl_node.data import Array
from crl_node.simulator.arm_body import ROTOR_INERTIA
from crl_node.simulator.world_types import PHYSICS_RATE, CameraSpec, Table, Thing, World

#: Spare room of a profile's capsules, m.
SPARE = 0.006
_GREY = (0.35, 0.36, 0.40)
#: N m of torque for each kg m^2 of a motor's inertia.
_TORQUE_PER_INERTIA = 200.0
#: Things of the mock's table: shape, size over that of a 6 cm cube, colour.
_THINGS = (
    ("red_box", "box", (1.0, 1.0, 1.0), (0.85, 0.05, 0.08)),
    ("green_box", "box", (1.1, 0.8, 0.8), (0.05, 0.55, 0.12)),
    ("yellow_cylinder", "cylinder", (1.0, 1.0), (0.98, 0.90, 0.05)),
)
#: A thing of this size belongs to a table of this length and width, m.
_CUBE, _TABLE = 0.06, 0.51


def drawn(profile: RobotProfile, *, marker: bool = False) -> str:
    """The profile's URDF with capsules for meshes; with `marker`, the profile's coloured ball on the tool."""
    robot = ElementTree.fromstring(profile.description)
    by_name = {str(link.get("name")): link for link in robot.findall("link")}
    for link in by_name.values():
        for tag in ("visual", "collision"):
            for child in link.findall(tag):
                link.remove(child)
    for material in robot.findall("material"):
        robot.remove(material)
    ball = profile.marker
    for capsule in profile.self_filter:
        if ball is not None and capsule.start == capsule.end == ball.offset and capsule.link == profile.tip_frame:
            continue  # room kept for the marker
        _add(by_name[capsule.link], capsule, max(capsule.radius - SPARE, 0.004), _GREY, solid=True)
    if marker and ball is not None:
        centre = Capsule(profile.tip_frame, ball.offset, ball.offset, ball.radius)
        _add(by_name[profile.tip_frame], centre, ball.radius, ball.colour, solid=False)
    for link in by_name.values():
        _weigh(link)
    return urdf_text.to_text(robot)


def rotor_inertia(profile: RobotProfile) -> float:
    """Inertia kg m^2 of the motors: small arms have small ones, which their torque can accelerate."""
    efforts = []
    for joint in ElementTree.fromstring(profile.description).findall("joint"):
        limit = joint.find("limit")
        if joint.get("name") in profile.joint_names and limit is not None:
            efforts.append(float(limit.get("effort", "0")) or math.inf)
    return min(ROTOR_INERTIA, min(efforts, default=math.inf) / _TORQUE_PER_INERTIA)


def _add(
    link: ElementTree.Element, capsule: Capsule, radius: float, colour: tuple[float, ...], *, solid: bool
) -> None:
    start, end = np.array(capsule.start), np.array(capsule.end)
    length = float(np.linalg.norm(end - start))
    for tag in ("visual", "collision")[: 1 + solid]:
        element = ElementTree.SubElement(link, tag)
        origin = {"xyz": _text(0.5 * (start + end)), "rpy": _text(_along(end - start))}
        ElementTree.SubElement(element, "origin", origin)
        geometry = ElementTree.SubElement(element, "geometry")
        if length > 1e-6:
            ElementTree.SubElement(geometry, "capsule", {"radius": f"{radius:g}", "length": f"{length:.9g}"})
        else:
            ElementTree.SubElement(geometry, "sphere", {"radius": f"{radius:g}"})
        if tag == "visual":
            material = ElementTree.SubElement(element, "material", {"name": f"c{hash(colour) & 0xFFFFFF:06x}"})
            ElementTree.SubElement(material, "color", {"rgba": _text((*colour, 1.0))})


def _weigh(link: ElementTree.Element) -> None:
    """PyBullet takes a link without inertia for one of 1 kg and 1 kg m^2."""
    if link.find("inertial") is None:
        inertial = ElementTree.SubElement(link, "inertial")
        ElementTree.SubElement(inertial, "mass", {"value": "0.001"})
        moments = {"ixx": "1e-6", "iyy": "1e-6", "izz": "1e-6", "ixy": "0", "ixz": "0", "iyz": "0"}
        ElementTree.SubElement(inertial, "inertia", moments)


def _along(direction: Array) -> tuple[float, float, float]:
    """Roll, pitch, yaw rad that turn z into `direction` [3]."""
    x, y, z = direction
    return (0.0, math.atan2(math.hypot(x, y), z), math.atan2(y, x))


def _text(values: object) -> str:
    return " ".join(f"{float(value):.9g}" for value in np.ravel(values))  # type: ignore[call-overload]


def mock_world(profile: RobotProfile, calibration: Calibration, things: int = len(_THINGS)) -> World:
    """A table as the calibration has it, with up to three things that fit it. ValueError for a wrong rate."""
    x0, x1, y0, y1 = calibration.table
    scale = min(1.0, (x1 - x0) / (_TABLE * 0.75), (y1 - y0) / (_TABLE * 0.75))
    side = _CUBE * max(scale, 0.4)
    rate = 1.0 / calibration.period
    if abs(PHYSICS_RATE / rate - round(PHYSICS_RATE / rate)) > 1e-6:
        raise ValueError(f"{calibration.path}: period is {calibration.period:g} s; the mock wants 240 times it whole")
    pose, camera = calibration.camera.pose, calibration.camera
    eye, target = pose[:3, 3], pose[:3, 3] + pose[:3, 2]
    fov = 2 * math.atan(0.5 * camera.height / camera.intrinsics[1, 1])
    spec = CameraSpec(tuple(eye), tuple(target), fov, camera.width, camera.height, rate)
    room = (
        max(x0, profile.workspace.x[0]) + side, min(x1, profile.workspace.x[1]) - 0.3 * side,
        max(y0, profile.workspace.y[0]) + side, min(y1, profile.workspace.y[1]) - side,
    )  # fmt: skip
    made = []
    for name, shape, sizes, colour in _THINGS[:things]:
        size = tuple(side * part for part in sizes)
        made.append(Thing(name, shape, size, colour, True, 0.15 * max(scale, 0.4), 0.5, 0.0, None))
    table = Table((x0, x1), (y0, y1), (0.72, 0.69, 0.62), 0.012, 1.0)
    return World("mock", calibration.path, "a table for the mock", 0, table, spec, room, 0.02, tuple(made), ())

"""URDFs: where a profile's comes from, and what is made of it before anybody loads it.

Pinocchio and PyBullet both get the text made here: locked joints are fixed, continuous ones bounded, the profile's tool
is a link, and attributes of namespaces nobody declared (as Drake's) are gone, which the standard parser refuses.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crl_node.data import Array
from crl_node.paths import share

_MOVABLE = ("revolute", "prismatic", "continuous")
#: A joint without limits may turn this far either way, rad.
_CONTINUOUS = 2 * math.pi


class DescriptionError(ValueError):
    """A URDF that cannot be found or used; a sentence without the file and line of the profile."""


def find_data(relative: str) -> Path | None:
    """The file `relative` in the package's data folder, None when it is not there."""
    path = share() / relative
    return path if path.is_file() else None


def find_in_package(package: str, file: str) -> Path:
    """`file` inside the share folder of the ROS package `package`, or inside the Python package of that name."""
    looked = []
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    for prefix in prefixes:
        folder = Path(prefix) / "share" / package
        looked.append(folder)
        if (folder / file).is_file():
            return folder / file
    try:
        spec = importlib.util.find_spec(package)  # locates it, does not run it
    except (ImportError, ValueError):
        spec = None
    for place in [] if spec is None else (spec.submodule_search_locations or []):
        looked.append(Path(place))
        if (Path(place) / file).is_file():
            return Path(place) / file
    if spec is None and not any(folder.is_dir() for folder in looked):
        raise DescriptionError(f"the package '{package}' is installed neither as a ROS nor as a Python package")
    raise DescriptionError(f"there is no '{file}' in {', '.join(str(p) for p in looked if p.is_dir())}")


def parse(text: str, where: str) -> ElementTree.Element:
    """The URDF's root. DescriptionError names `where` and the line."""
    declared = set(re.findall(r"xmlns:([\w-]+)=", text))
    text = re.sub(
        r'\s([\w-]+):[\w-]+\s*=\s*("[^"]*"|\'[^\']*\')',
        lambda m: m[0] if m[1] in declared or m[1] in ("xmlns", "xml") else "",
        text,
    )
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DescriptionError(f"{where}:{error.position[0]}: not valid XML: {error}") from error
    if root.tag != "robot":
        raise DescriptionError(f"{where} is no URDF: its root is <{root.tag}>, wanted <robot>")
    for joint in root.findall("joint"):
        if joint.get("type") == "continuous":
            joint.set("type", "revolute")
            limit = joint.find("limit")
            if limit is None:
                limit = ElementTree.SubElement(joint, "limit", {"effort": "0"})
            limit.set("lower", str(-_CONTINUOUS))
            limit.set("upper", str(_CONTINUOUS))
    return root


def links(root: ElementTree.Element) -> list[str]:
    """Names of the links."""
    return [str(link.get("name")) for link in root.findall("link")]


def joint_limits(root: ElementTree.Element, where: str) -> dict[str, tuple[float, float, float]]:
    """Lower rad, upper rad, velocity rad/s of every movable joint, in the URDF's order."""
    found = {}
    for joint in root.findall("joint"):
        if joint.get("type") not in _MOVABLE:
            continue
        name, limit = str(joint.get("name")), joint.find("limit")
        if limit is None:
            raise DescriptionError(f"{where}: joint '{name}' has no limits")
        try:
            values = tuple(float(limit.attrib[key]) for key in ("lower", "upper", "velocity"))
        except (KeyError, ValueError) as error:
            raise DescriptionError(f"{where}: joint '{name}' has unusable limits: {error}") from None
        found[name] = (values[0], values[1], values[2])
    return found


def lock(root: ElementTree.Element, positions: Mapping[str, float]) -> None:
    """Fix the joints named in `positions` (rad or m), in place."""
    for joint in root.findall("joint"):
        name = str(joint.get("name"))
        if name not in positions:
            continue
        axis = _numbers(joint.find("axis"), "xyz", (1.0, 0.0, 0.0))
        origin = joint.find("origin")
        if origin is None:
            origin = ElementTree.SubElement(joint, "origin")
        xyz, rpy = _numbers(origin, "xyz"), _numbers(origin, "rpy")
        turn, value = rotation(rpy), positions[name]
        if joint.get("type") == "prismatic":
            xyz = xyz + turn @ axis * value
        else:
            turn = turn @ _about(axis, value)
        origin.set("xyz", _text(xyz))
        origin.set("rpy", _text(angles(turn)))
        joint.set("type", "fixed")
        for tag in ("limit", "mimic", "axis", "dynamics", "safety_controller"):
            for child in joint.findall(tag):
                joint.remove(child)


def add_frame(root: ElementTree.Element, name: str, parent: str, xyz: Sequence[float], rpy: Sequence[float]) -> None:
    """A link `name` fixed to `parent`. Its gram is there because PyBullet takes a link without inertia for 1 kg."""
    link = ElementTree.SubElement(root, "link", {"name": name})
    inertial = ElementTree.SubElement(link, "inertial")
    ElementTree.SubElement(inertial, "mass", {"value": "0.001"})
    moments = {"ixx": "1e-6", "iyy": "1e-6", "izz": "1e-6", "ixy": "0", "ixz": "0", "iyz": "0"}
    ElementTree.SubElement(inertial, "inertia", moments)
    joint = ElementTree.SubElement(root, "joint", {"name": f"{name}_joint", "type": "fixed"})
    ElementTree.SubElement(joint, "origin", {"xyz": _text(xyz), "rpy": _text(rpy)})
    ElementTree.SubElement(joint, "parent", {"link": parent})
    ElementTree.SubElement(joint, "child", {"link": name})


def to_text(root: ElementTree.Element) -> str:
    """The URDF as text."""
    return ElementTree.tostring(root, encoding="unicode")


def rotation(rpy: Sequence[float] | Array) -> Array:
    """URDF's roll, pitch, yaw rad -> rotation [3, 3]."""
    roll, pitch, yaw = (float(value) for value in rpy)
    return _about((0, 0, 1), yaw) @ _about((0, 1, 0), pitch) @ _about((1, 0, 0), roll)


def angles(turn: Array) -> Array:
    """Rotation [3, 3] -> URDF's roll, pitch, yaw [3] rad."""
    pitch = math.atan2(-turn[2, 0], math.hypot(turn[0, 0], turn[1, 0]))
    if abs(math.cos(pitch)) < 1e-9:  # straight up: roll and yaw turn about the same axis
        return np.array([math.atan2(-turn[1, 2], turn[1, 1]), pitch, 0.0])
    return np.array([math.atan2(turn[2, 1], turn[2, 2]), pitch, math.atan2(turn[1, 0], turn[0, 0])])


def _about(axis: Sequence[float] | Array, angle: float) -> Array:
    """Rodrigues' rotation about `axis` [3] by `angle` rad."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


def _numbers(element: ElementTree.Element | None, key: str, default: Sequence[float] = (0.0, 0.0, 0.0)) -> Array:
    given = None if element is None else element.get(key)
    return np.array(default if given is None else [float(part) for part in given.split()])


def _text(values: Sequence[float] | Array) -> str:
    return " ".join(f"{float(value):.17g}" for value in values)

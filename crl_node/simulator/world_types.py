"""A world as frozen dataclasses: what stands on the table, what moves what, and from where it is seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crl_node.camera import Camera

SHAPES = ("box", "cylinder", "ball")
MODES = ("hold", "toggle")
CHANGES = ("friction", "cut", "rewire")
#: Physics steps a second: camera rates are divisors of it, so that every frame falls on a step.
PHYSICS_RATE = 240


@dataclass(frozen=True)
class Table:
    """The table: its plane is z = 0 of the base frame."""

    x: tuple[float, float]  # m, near and far edge seen from the robot
    y: tuple[float, float]  # m
    colour: tuple[float, float, float]  # rgb 0..1
    rim: float  # m, height of the rim that is drawn
    friction: float  # Coulomb coefficient, multiplied with the thing's


@dataclass(frozen=True)
class CameraSpec:
    """A fixed pinhole camera."""

    eye: tuple[float, float, float]  # m
    target: tuple[float, float, float]  # m
    fov_y: float  # rad, vertical field of view
    width: int  # px
    height: int  # px
    rate: float  # Hz

    def camera(self) -> Camera:
        """Intrinsics and pose."""
        return Camera.look_at(
            eye=np.array(self.eye),
            target=np.array(self.target),
            fov_y=self.fov_y,
            width=self.width,
            height=self.height,
        )


@dataclass(frozen=True)
class Button:
    """A thing that switches `lamp` while (hold) or each time (toggle) something touches it."""

    lamp: str
    mode: str  # one of MODES


@dataclass(frozen=True)
class Lamp:
    """A thing whose colour is multiplied by `off` or `on`."""

    off: float  # 0..1
    on: float  # 0..1


@dataclass(frozen=True)
class Shake:
    """Random motion of a thing's own, which nobody can foresee or stop (`motion.py`)."""

    step: float  # m, standard deviation of each coordinate of its way in one period
    radius: float  # m, how far it strays from its home by itself
    period: float  # s between two random steps
    force: float  # N, the most that drives it: what pushes harder wins


@dataclass(frozen=True)
class Flicker:
    """Random brightness: every `period` s the colour is multiplied by a new number between `low` and `high`."""

    low: float  # 0..1
    high: float  # 0..1
    period: float  # s


@dataclass(frozen=True)
class Thing:
    """One thing on the table."""

    name: str
    shape: str  # one of SHAPES
    size: tuple[float, ...]  # m: box (x, y, z), cylinder (diameter, height), ball (diameter,)
    colour: tuple[float, float, float]  # rgb 0..1
    movable: bool
    mass: float  # kg, 0 when immovable
    friction: float  # Coulomb coefficient
    rolling_friction: float  # m
    pose: tuple[float, float, float] | None  # x m, y m, yaw rad; None: placed at random
    button: Button | None = None
    lamp: Lamp | None = None
    line: int = 0  # of the world file
    shake: Shake | None = None
    flicker: Flicker | None = None

    @property
    def height(self) -> float:
        """Height over the table, m."""
        return self.size[-1]

    @property
    def extent(self) -> float:
        """Radius of the disc with the footprint's area, m (as `Belief.extent`)."""
        if self.shape == "box":
            return math.sqrt(self.size[0] * self.size[1] / math.pi)
        return 0.5 * self.size[0]

    @property
    def reach(self) -> float:
        """Radius of the smallest disc around the footprint, m."""
        if self.shape == "box":
            return 0.5 * math.hypot(self.size[0], self.size[1])
        return 0.5 * self.size[0]

    @property
    def roam(self) -> float:
        """Radius of the smallest disc that it does not leave by itself, m: its reach and how far it shakes."""
        return self.reach + (self.shake.radius if self.shake is not None else 0.0)


@dataclass(frozen=True)
class Spring:
    """A hidden spring between the centres of two things: the camera does not see it."""

    a: str
    b: str
    length: (
        float | None
    )  # m, rest length, at which random poses put the two; None: their distance at the start
    stiffness: float  # N/m
    damping: float  # N s/m
    max_force: float  # N


@dataclass(frozen=True)
class Change:
    """Something that is different from a moment of the run on. Which fields are filled depends on `kind`."""

    at: float  # s of simulated time
    kind: str  # one of CHANGES
    thing: str = ""  # friction: whose
    factor: float = 1.0  # friction: by which its coefficients are multiplied
    a: str = ""  # cut: ends of the spring
    b: str = ""
    lamp: str = ""  # rewire: which lamp follows
    button: str = ""  # rewire: which thing, from now on the only one
    line: int = 0  # of the world file


@dataclass(frozen=True)
class World:
    """What a world file describes. `things` are in file order, buttons and lamps among them."""

    name: str
    path: Path  # its file; random:SEED for a random one
    description: str
    seed: int  # default seed of random poses
    table: Table
    camera: CameraSpec
    room: tuple[float, float, float, float]  # m, x_min x_max y_min y_max for the centres of random poses
    gap: float  # m, least room between two things at the start
    things: tuple[Thing, ...]
    springs: tuple[Spring, ...]
    changes: tuple[Change, ...] = ()  # by time

    @property
    def reference(self) -> str:
        """What `load_world` finds it by from any folder: its file, or random:SEED."""
        return str(self.path.absolute() if self.path.suffix else self.path)

    def thing(self, name: str) -> Thing:
        """The thing of this name; KeyError otherwise."""
        for thing in self.things:
            if thing.name == name:
                return thing
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the things, in file order."""
        return tuple(thing.name for thing in self.things)

"""Reading a world file: every mistake is named with its file, line and field.

The schema is documented in `sim/README.md`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from crl_node.data import MAX_SLOTS
from crl_node.paths import share
from crl_node.simulator.world_laws import read_changes, read_spring
from crl_node.simulator.world_types import (
    MODES,
    PHYSICS_RATE,
    SHAPES,
    Button,
    CameraSpec,
    Change,
    Flicker,
    Lamp,
    Shake,
    Spring,
    Table,
    Thing,
    World,
)
from crl_node.yaml_fields import Fields, WorldError, parse_fields, read_fields, read_text

__all__ = [
    "PHYSICS_RATE",
    "Button",
    "CameraSpec",
    "Change",
    "Flicker",
    "Lamp",
    "Shake",
    "Spring",
    "Table",
    "Thing",
    "World",
    "WorldError",
    "load_world",
    "world_names",
    "world_text",
]

#: Names that mean something else in the causal graph.
RESERVED = ("body", "action", "table", "rim")
#: How random worlds are named: random:7.
RANDOM = "random:"
#: Body and things share MAX_SLOTS slots.
MOST_THINGS = MAX_SLOTS - 1


def worlds_folder() -> Path:
    """Where the shipped worlds lie."""
    return share() / "sim" / "worlds"


def world_names() -> tuple[str, ...]:
    """Names of the shipped worlds."""
    return tuple(sorted(path.stem for path in worlds_folder().glob("*.yaml")))


def load_world(name_or_path: str | Path) -> World:
    """A shipped world by its name, a random one as random:SEED, any other by the path of its file (.yaml or .yml)."""
    text = str(name_or_path)
    if text.startswith(RANDOM):
        return _world(parse_fields(world_text(text), Path(text), WorldError), Path(text))
    path = _file(text)
    return _world(read_fields(path, WorldError), path)


def world_text(name_or_path: str | Path) -> str:
    """What stands in the world's file; WorldError when there is none, or it is no text."""
    text = str(name_or_path)
    if text.startswith(RANDOM):
        from crl_node.simulator.generator import MOST, random_world_text

        number = text[len(RANDOM) :]
        if not (number.isascii() and number.isdecimal() and int(number) <= MOST):
            raise WorldError(
                f"there is no world '{text}': random worlds are random:SEED with a whole number from 0 to {MOST}"
            )
        return random_world_text(int(number))
    return read_text(_file(text), WorldError)


def _file(text: str) -> Path:
    if text.endswith((".yaml", ".yml")):
        path = Path(text).expanduser()
        if not path.is_file():
            raise WorldError(f"{path}: there is no such world file")
    else:
        path = worlds_folder() / f"{text}.yaml"
        if text not in world_names():
            raise WorldError(
                f"there is no world '{text}': shipped worlds are {', '.join(world_names())}; "
                "random ones random:SEED; a world of your own is named by the path of its .yaml file"
            )
    return path


def _world(fields: Fields, path: Path) -> World:
    name = str(path).replace(":", "_") if str(path).startswith(RANDOM) else path.stem
    description = fields.text("description", "")
    seed = fields.integer("seed", 0, low=0, high=2**31 - 1)
    table = _table(fields.child("table", optional=True))
    camera = _camera(fields.required("camera"), table)
    gap, room = _placement(fields.child("placement", optional=True), table)
    entries = list(fields.children("things", most=MOST_THINGS))
    if not entries:
        raise fields.error("things", f"is empty; allowed: a list of 1 to {MOST_THINGS} things")
    things: list[Thing] = []
    for entry in entries:
        things.append(_thing(entry, things, table))
    _check_wiring(entries, things)
    springs = tuple(read_spring(entry, things) for entry in fields.children("springs", optional=True, most=8))
    world = World(name, path, description, seed, table, camera, room, gap, tuple(things), springs)
    world = read_changes(fields, world)
    fields.done()
    return world


def _table(fields: Fields | None) -> Table:
    if fields is None:
        return Table((0.38, 0.82), (-0.30, 0.30), (0.72, 0.69, 0.62), 0.012, 1.0)
    x = _interval(fields, "x", (0.38, 0.82))
    y = _interval(fields, "y", (-0.30, 0.30))
    colour = _colour(fields, "colour", (0.72, 0.69, 0.62))
    rim = fields.number("rim", 0.012, low=0.0, high=0.05, unit="m")
    friction = fields.number("friction", 1.0, low=0.0, high=5.0)
    fields.done()
    return Table(x, y, colour, rim, friction)


def _interval(fields: Fields, key: str, default: tuple[float, float]) -> tuple[float, float]:
    low, high = fields.vector(key, (2,), default, low=-2.0, high=2.0, unit="m")
    if high - low < 0.1:
        raise fields.error(key, f"is [{low:g}, {high:g}]; allowed: [low, high] at least 0.1 m apart")
    return low, high


def _colour(
    fields: Fields, key: str, default: tuple[float, float, float] | None = None
) -> tuple[float, float, float]:
    red, green, blue = fields.vector(key, (3,), default, low=0.0, high=1.0)
    return red, green, blue


def _camera(fields: Fields, table: Table) -> CameraSpec:
    eye = fields.vector("eye", (3,), low=-5.0, high=5.0, unit="m")
    target = fields.vector("target", (3,), low=-5.0, high=5.0, unit="m")
    fov = math.radians(fields.number("fov", low=5.0, high=120.0, unit="degrees"))
    width, height = fields.vector("size", (2,), (96, 96), low=16, high=1024, unit="px")
    if width != int(width) or height != int(height):
        raise fields.error("size", f"is [{width:g}, {height:g}]; allowed: whole numbers of pixels")
    rate = fields.number("rate", 10.0, low=1.0, high=60.0, unit="Hz")
    if PHYSICS_RATE % rate:
        rates = [r for r in range(1, 61) if PHYSICS_RATE % r == 0]
        raise fields.error(
            "rate", f"is {rate:g} Hz; allowed: divisors of {PHYSICS_RATE}: {', '.join(map(str, rates))}"
        )
    spec = CameraSpec(
        (eye[0], eye[1], eye[2]), (target[0], target[1], target[2]), fov, int(width), int(height), rate
    )
    if eye[2] <= 0.05:
        raise fields.error("eye", f"is {list(eye)}, under the table plane; allowed: z above 0.05 m")
    if math.dist(eye, target) < 0.05:
        raise fields.error(
            "target", f"is {list(target)}, at the eye {list(eye)}; allowed: at least 0.05 m from it"
        )
    if math.hypot(eye[0] - target[0], eye[1] - target[1]) < 0.01:
        raise fields.error(
            "target",
            f"is {list(target)}, straight under the eye {list(eye)}, which leaves the roll undefined; "
            "allowed: at least 0.01 m away in x or y",
        )
    corners = np.array([[x, y, 0.0] for x in table.x for y in table.y])
    pixels = spec.camera().project(corners)
    inside = [bool(((p >= 0) & (p <= [spec.width, spec.height])).all()) for p in pixels]
    if not all(inside):
        outside = [f"[{x:g}, {y:g}]" for (x, y, _), ok in zip(corners, inside, strict=True) if not ok]
        raise fields.error(
            "fov",
            f"is {math.degrees(fov):g}: the camera does not see the table corners {', '.join(outside)}; "
            "allowed: eye, target and fov with the whole table in the picture",
        )
    fields.done()
    return spec


def _placement(fields: Fields | None, table: Table) -> tuple[float, tuple[float, float, float, float]]:
    # Room behind a thing for the pusher: half a thing and the pusher's diameter.
    margin = 0.085
    x = (table.x[0] + margin, table.x[1] - margin)
    y = (table.y[0] + margin, table.y[1] - margin)
    gap = 0.02
    if fields is not None:
        x, y = _interval(fields, "x", x), _interval(fields, "y", y)
        gap = fields.number("gap", gap, low=0.0, high=0.2, unit="m")
        fields.done()
    return gap, (*x, *y)


SIZES = {
    "box": (3, "box (x, y, z)"),
    "cylinder": (2, "cylinder (diameter, height)"),
    "ball": (1, "ball (diameter)"),
}


def _thing(fields: Fields, others: list[Thing], table: Table) -> Thing:
    name = fields.text("name")
    if name in RESERVED or not name.isidentifier():
        raise fields.error(
            "name", f"is '{name}'; allowed: letters, digits and _, and not {', '.join(RESERVED)}"
        )
    for other in others:
        if other.name == name:
            raise fields.error(
                "name", f"is '{name}', which the thing of line {other.line} has; allowed: a name of its own"
            )
    shape = fields.choice("shape", SHAPES)
    count, meaning = SIZES[shape]
    if shape == "ball" and "size" in fields and not isinstance(fields.raw("size"), list):
        size: tuple[float, ...] = (fields.number("size", low=0.01, high=0.2, unit="m"),)
    else:
        try:
            size = fields.vector("size", (count,), low=0.01, high=0.2, unit="m")
        except WorldError as error:
            raise WorldError(f"{error}: {meaning}") from None
    colour = _colour(fields, "colour")
    button, lamp = _button(fields), _lamp(fields)
    if button is not None and lamp is not None:
        raise fields.error("lamp", "stands beside button; allowed: one of them for a thing")
    fixed = button is not None or lamp is not None
    movable = fields.flag("movable", not fixed)
    if movable and fixed:
        raise fields.error("movable", "is true; allowed: false, buttons and lamps do not move")
    if movable:
        mass = fields.number("mass", 0.2, low=0.01, high=5.0, unit="kg")
    else:
        mass = 0.0
        if "mass" in fields:
            raise fields.error(
                "mass", f"is {fields.raw('mass')}; allowed: no mass, as this thing is immovable"
            )
    friction = fields.number("friction", 0.5, low=0.0, high=2.0)
    rolling = fields.number(
        "rolling_friction", 0.0015 if shape == "ball" else 0.0, low=0.0, high=0.1, unit="m"
    )
    pose = _pose(fields)
    shake, flicker = _shake(fields), _flicker(fields)
    if shake is not None and not movable:
        raise fields.error("shake", "belongs to a thing that is immovable; allowed: for movable things only")
    if flicker is not None and lamp is not None:
        raise fields.error("flicker", "stands beside lamp; allowed: one of them for a thing")
    thing = Thing(
        name, shape, size, colour, movable, mass, friction, rolling, pose, button, lamp, fields.line(), shake, flicker
    )
    if pose is not None:
        _check_pose(fields, thing, others, table)
    fields.done()
    return thing


def _button(fields: Fields) -> Button | None:
    child = fields.child("button", optional=True)
    if child is None:
        return None
    button = Button(child.text("lamp"), child.choice("mode", MODES, "hold"))
    child.done()
    return button


def _lamp(fields: Fields) -> Lamp | None:
    child = fields.child("lamp", optional=True)
    if child is None:
        return None
    lamp = Lamp(child.number("off", 0.25, low=0.0, high=1.0), child.number("on", 1.0, low=0.0, high=1.0))
    if lamp.on <= lamp.off:
        raise child.error("on", f"is {lamp.on:g}; allowed: more than off, which is {lamp.off:g}")
    child.done()
    return lamp


def _shake(fields: Fields) -> Shake | None:
    child = fields.child("shake", optional=True)
    if child is None:
        return None
    shake = Shake(
        step=child.number("step", 0.01, low=0.0005, high=0.05, unit="m"),
        radius=child.number("radius", 0.03, low=0.001, high=0.2, unit="m"),
        period=_whole_steps(child),
        force=child.number("force", 2.0, low=0.1, high=20.0, unit="N"),
    )
    child.done()
    return shake


def _flicker(fields: Fields) -> Flicker | None:
    child = fields.child("flicker", optional=True)
    if child is None:
        return None
    low = child.number("low", 0.4, low=0.0, high=1.0)
    high = child.number("high", 1.0, low=0.0, high=1.0)
    if high <= low:
        raise child.error("high", f"is {high:g}; allowed: more than low, which is {low:g}")
    flicker = Flicker(low, high, _whole_steps(child))
    child.done()
    return flicker


def _whole_steps(fields: Fields) -> float:
    """A period of random draws, s: whole physics steps."""
    period = fields.number("period", 0.1, low=0.05, high=60.0, unit="s")
    if abs(period * PHYSICS_RATE - round(period * PHYSICS_RATE)) > 1e-6:
        raise fields.error("period", f"is {period:g} s; allowed: whole multiples of 1/{PHYSICS_RATE} s")
    return period


def _pose(fields: Fields) -> tuple[float, float, float] | None:
    if "pose" not in fields or fields.raw("pose") == "random":
        return None
    if isinstance(fields.raw("pose"), str):
        raise fields.error(
            "pose", f"is '{fields.raw('pose')}'; allowed: random, [x, y] or [x, y, yaw in degrees]"
        )
    values = fields.vector("pose", (2, 3), low=-360.0, high=360.0)
    yaw = math.radians(values[2]) if len(values) == 3 else 0.0
    return values[0], values[1], yaw


def _check_pose(fields: Fields, thing: Thing, others: list[Thing], table: Table) -> None:
    assert thing.pose is not None
    x, y, _ = thing.pose
    low_x, high_x, low_y, high_y = *table.x, *table.y
    r = thing.extent  # a turned box may stand with a corner at the rim
    if not (low_x + r <= x <= high_x - r and low_y + r <= y <= high_y - r):
        raise fields.error(
            "pose",
            f"is [{x:g}, {y:g}], not wholly on the table; allowed: x from {low_x + r:.3g} to {high_x - r:.3g} m, "
            f"y from {low_y + r:.3g} to {high_y - r:.3g} m",
        )
    for other in others:
        if other.pose is None:
            continue
        distance, least = math.dist((x, y), other.pose[:2]), thing.reach + other.reach
        if distance < least:
            raise fields.error(
                "pose",
                f"is [{x:g}, {y:g}], {distance:.3f} m from '{other.name}' (line {other.line}), so the two overlap; "
                f"allowed: at least {least:.3f} m",
            )


def _check_wiring(entries: list[Fields], things: list[Thing]) -> None:
    lamps = [thing.name for thing in things if thing.lamp is not None]
    known = ", ".join(lamps) or "none, this world has no lamp"
    for fields, thing in zip(entries, things, strict=True):
        if thing.button is not None and thing.button.lamp not in lamps:
            raise fields.required("button").error(
                "lamp", f"is '{thing.button.lamp}', which is no lamp; allowed: {known}"
            )

"""Random worlds: world files drawn from a seed, the same ones in every process.

`load_world("random:7")` is the world of seed 7. What is drawn stays within what the arm can do and the
camera can tell apart: everything stands where the pusher gets behind it, and colours differ by hue, not by light.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crl_node.colours import angles, colour_name
from crl_node.data import Array
from crl_node.simulator.world_types import World

#: Least angle between the hues of two things, and to the table's, degrees (see `colours.angles`). Shipped worlds: 21.
APART = 22.0
#: Colours of the arm's links, of which only its outlines escape the self-filter, and the least angle to them, degrees.
ARM, FROM_ARM = ((0.5, 0.7, 1.0), (1.0, 0.42, 0.04)), 12.0
TABLE = (0.72, 0.69, 0.62)
#: How often a world has what is optional.
BOLTED, SPRING, BUTTON, TOGGLE = 0.4, 0.4, 0.4, 0.25
#: The largest seed.
MOST = 2**31 - 1

_HEAD = """\
# Drawn by `crl world new --random --seed {seed}`.
description: {description}
seed: {seed}

table: {{x: [0.38, {far}], y: [-0.30, 0.30], colour: [0.72, 0.69, 0.62]}}
camera: {{eye: [{eye}, 0.0, 1.05], target: [{target}, 0.0, 0.0], fov: {fov}, size: [96, 96], rate: 10}}
placement: {{x: [0.47, 0.73], y: [-0.21, 0.21], gap: 0.02}}

things:
"""


@dataclass
class _Draft:
    """What has been drawn so far."""

    colours: list[Array] = field(default_factory=list)  # [3] rgb each
    names: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # of the file's `things`
    movable: list[str] = field(default_factory=list)


def random_world(seed: int) -> World:
    """The random world of `seed` (0 to 2^31 - 1); WorldError for any other."""
    from crl_node.simulator.world import load_world  # which in turn reads random worlds

    return load_world(f"random:{seed}")


def random_world_text(seed: int) -> str:
    """The file of the random world of `seed` (0 to 2^31 - 1), as YAML: a function of the seed alone."""
    rng = np.random.default_rng([seed, 0x776F726C])
    things = int(rng.integers(3, 7))
    bolted = int(things > 3 and rng.random() < BOLTED)
    spring, button = rng.random() < SPRING, rng.random() < BUTTON
    draft = _Draft(_colours(rng, things + 2 * int(button)))
    for number in range(things):
        _thing(draft, rng, movable=number >= bolted)
    springs = ""
    if spring:
        a, b = rng.choice(len(draft.movable), 2, replace=False)
        length = f"{rng.uniform(0.12, 0.17):.3f}"
        springs = f"\nsprings:\n  - {{a: {draft.movable[a]}, b: {draft.movable[b]}, length: {length}}}\n"
    if button:
        _button(draft, rng)
    parts = [f"{things} things" + (", one of them bolted down" if bolted else "")]
    parts += ["a hidden spring"] * spring + ["a button that switches a lamp"] * button
    # The lamp stands on a strip beyond the pusher's reach, so table and camera are larger, as in `tabletop`.
    views = ("0.89", "1.32", "0.63", "33") if button else ("0.82", "1.25", "0.60", "34")
    far, eye, target, fov = views
    head = _HEAD.format(seed=seed, description=", ".join(parts), far=far, eye=eye, target=target, fov=fov)
    return head + "".join(draft.lines) + springs


def _thing(draft: _Draft, rng: np.random.Generator, *, movable: bool) -> None:
    shape = str(rng.choice(["box", "cylinder", "ball"], p=[0.5, 0.3, 0.2])) if movable else "cylinder"
    if shape == "box":
        x, y, z = rng.uniform([0.045, 0.045, 0.045], [0.07, 0.07, 0.06])
        size = f"[{x:.3f}, {y:.3f}, {min(z, x, y):.3f}]"  # taller than wide it might topple
    elif shape == "cylinder":
        diameter = rng.uniform(0.045, 0.07)
        size = f"[{diameter:.3f}, {min(rng.uniform(0.045, 0.06), diameter):.3f}]"
    else:
        size = f"{rng.uniform(0.05, 0.065):.3f}"
    name = _add(draft, shape if movable else "post", size, shape)
    if movable:
        draft.movable.append(name)
        draft.lines.append(f", mass: {rng.uniform(0.1, 0.35):.2f}, friction: {rng.uniform(0.3, 0.7):.2f}}}\n")
    else:
        draft.lines.append(", movable: false}\n")


def _button(draft: _Draft, rng: np.random.Generator) -> None:
    mode = "toggle" if rng.random() < TOGGLE else "hold"
    _add(draft, "button", "[0.050, 0.040]", "cylinder")
    draft.lines.append(f", button: {{lamp: lamp, mode: {mode}}}}}\n")
    draft.lines.append(
        f"  - {{name: lamp, shape: cylinder, size: [0.060, 0.020], colour: {_listed(draft.colours.pop(0))}, "
        f"pose: [0.857, {rng.choice([-1, 1]) * rng.uniform(0.16, 0.24):.3f}], lamp: {{off: 0.25, on: 1.0}}}}\n"
    )


def _add(draft: _Draft, noun: str, size: str, shape: str) -> str:
    """Begin the line of a thing in the next colour; its name."""
    colour = draft.colours.pop(0)
    stem = f"{colour_name(colour)}_{noun}"
    name = stem if stem not in draft.names else f"{stem}_{len(draft.names)}"
    draft.names.append(name)
    draft.lines.append(f"  - {{name: {name}, shape: {shape}, size: {size}, colour: {_listed(colour)}")
    return name


def _listed(colour: Array) -> str:
    return "[" + ", ".join(f"{channel:.2f}" for channel in colour) + "]"


def _colours(rng: np.random.Generator, count: int) -> list[Array]:
    """`count` colours that differ in hue from each other, the table and the arm; bright enough to have one."""
    while True:
        chosen: list[Array] = []
        for _ in range(400):
            colour = np.round(rng.uniform(0.0, 1.0, 3) ** 0.7, 2)
            if colour.max() < 0.6 or (angles(np.array(ARM), colour) < FROM_ARM).any():
                continue
            if (angles(np.array([TABLE, *chosen]), colour) >= APART).all():
                chosen.append(colour)
            if len(chosen) == count:
                # The lamp is the last: when it is off its colour must still be one.
                chosen.sort(key=lambda c: float(np.linalg.norm(c)))
                lamp = chosen.pop()
                return [chosen[i] for i in rng.permutation(count - 1)] + [lamp]

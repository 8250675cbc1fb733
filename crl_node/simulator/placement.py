"""Where the things stand at the start: fixed poses as written, random ones by rejection with restarts."""

from __future__ import annotations

import math

import numpy as np

from crl_node.simulator.world import Thing, World, WorldError

#: Draws for one thing before the whole table is drawn anew, and such restarts.
DRAWS = 200
RESTARTS = 500

Pose = tuple[float, float, float]


def place(world: World, seed: int, keep_out: tuple[float, float, float]) -> dict[str, Pose]:
    """Pose (x m, y m, yaw rad) of every thing, a function of world and seed only.

    `keep_out` is a disc (x m, y m, radius m) that stays free: the pusher at home. WorldError when a fixed
    pose stands in it or when the random things do not fit.
    """
    rng = np.random.default_rng([seed, 0x706C6163])
    fixed = {thing.name: thing.pose for thing in world.things if thing.pose is not None}
    for name, pose in fixed.items():
        distance = math.dist(pose[:2], keep_out[:2])
        least = world.thing(name).roam + keep_out[2]
        if distance < least:
            raise WorldError(
                f"{world.path}:{world.thing(name).line}: pose of '{name}' is [{pose[0]:g}, {pose[1]:g}], "
                f"{distance:.3f} m from the pusher's home [{keep_out[0]:g}, {keep_out[1]:g}];"
                f" allowed: at least {least:.3f} m"
            )
    # Large things first: they are the ones that find no room later. Ties keep the file's order.
    loose = sorted((t for t in world.things if t.pose is None), key=lambda t: -t.roam)
    # But a spring's second end is bound to a circle, so it comes right after its first.
    for spring in world.springs:
        names = [thing.name for thing in loose]
        if spring.length is not None and spring.a in names and spring.b in names:
            second = loose.pop(max(names.index(spring.a), names.index(spring.b)))
            loose.insert(min(names.index(spring.a), names.index(spring.b)) + 1, second)
    for _ in range(RESTARTS):
        poses = dict(fixed)
        if all(_draw(thing, world, poses, keep_out, rng) for thing in loose):
            return {thing.name: poses[thing.name] for thing in world.things}
    x_min, x_max, y_min, y_max = world.room
    raise WorldError(
        f"{world.path}: the {len(loose)} things without a pose do not fit into placement x [{x_min:g}, {x_max:g}], "
        f"y [{y_min:g}, {y_max:g}] with a gap of {world.gap:g} m after {RESTARTS} tries; allowed: more room, less gap"
    )


def _draw(
    thing: Thing,
    world: World,
    poses: dict[str, Pose],
    keep_out: tuple[float, float, float],
    rng: np.random.Generator,
) -> bool:
    """Add a pose for `thing` to `poses`; False when none was found."""
    x_min, x_max, y_min, y_max = world.room
    circle = _spring_circle(thing, world, poses)
    for _ in range(DRAWS):
        x, y, yaw = rng.uniform(x_min, x_max), rng.uniform(y_min, y_max), rng.uniform(-math.pi, math.pi)
        if circle is not None:
            angle = rng.uniform(-math.pi, math.pi)
            x, y = circle[0] + circle[2] * math.cos(angle), circle[1] + circle[2] * math.sin(angle)
            if not (x_min <= x <= x_max and y_min <= y <= y_max):
                continue
        if math.dist((x, y), keep_out[:2]) < thing.roam + keep_out[2]:
            continue
        if all(
            math.dist((x, y), pose[:2]) >= thing.roam + world.thing(name).roam + world.gap
            for name, pose in poses.items()
        ):
            poses[thing.name] = (float(x), float(y), float(yaw))
            return True
    return False


def _spring_circle(thing: Thing, world: World, poses: dict[str, Pose]) -> tuple[float, float, float] | None:
    """Centre and radius m on which a spring to something already placed is at rest."""
    for spring in world.springs:
        other = {spring.a: spring.b, spring.b: spring.a}.get(thing.name)
        if spring.length is not None and other in poses:
            x, y, _ = poses[other]
            return x, y, spring.length
    return None

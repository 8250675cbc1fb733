"""Experiments proposed from what is uncertain: waypoint paths that bring about the contact that would decide it.

Sides are named as the robot sees them: "left" is +y, "right" -y, "near" -x, "far" +x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from crl_node.curiosity.needs import Need
from crl_node.curiosity.routes import CLEARANCE, Leg, Ways, inside
from crl_node.curiosity.scene import Scene
from crl_node.data import BODY, Array, TermKind

#: The tip goes this far behind a thing before it pushes [m].
RUN_UP = 0.02
#: A push carries a thing this far [m], and is not worth it below the second.
PUSH_LENGTH, SHORTEST_PUSH = 0.08, 0.03
#: Directions tried for a push.
DIRECTIONS = 8
#: Headings tried for a push towards a goal, from the straight line [rad], and how near is there [m].
GOAL_TURNS, AT_GOAL = (0.0, 0.35, -0.35, 0.8, -0.8, 1.3, -1.3), 0.008
#: An edge below this need [nats] gets no experiment of its own.
LEAST_NEED = 0.02
#: Longest way over which one thing is pushed into another [m].
LONGEST_CARRY = 0.30


@dataclass(frozen=True)
class Table:
    """What the tip may do."""

    box: Array  # [4] m, workspace of the tip: x_min, x_max, y_min, y_max
    rim: Array = field(default_factory=lambda: np.array([0.38, 0.82, -0.30, 0.30]))  # [4] m, of the table
    tool_radius: float = 0.015  # m
    travel_speed: float = 0.25  # m/s
    push_speed: float = 0.16  # m/s
    camera: tuple[float, float, float] = (1.25, 0.0, 1.05)  # m
    tool_height: float = 0.40  # m, of what stands on the tip
    shadow_half_width: float = 0.03  # m


@dataclass(frozen=True)
class Experiment:
    """One thing worth doing, as legs for the tip."""

    label: str
    legs: tuple[Leg, ...]
    need: float  # nats, of the edge that asked for it
    way: float  # m, length of all legs


def side_name(direction: Array) -> str:
    """The side from which one pushes along `direction` [2]."""
    x, y = -float(direction[0]), -float(direction[1])
    if abs(y) >= abs(x):
        return "left" if y > 0 else "right"
    return "far side" if x > 0 else "near side"


def _unit(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))


def ways(scene: Scene, table: Table) -> Ways:
    """The ways of the tip around everything there is: make it once for all experiments of a scene."""
    rows = scene.things
    return Ways(scene.tip, scene.position[rows], scene.extent[rows] + table.tool_radius + CLEARANCE, table.box)


def _length(start: Array, legs: list[Leg]) -> float:
    points = np.array([start, *(leg.to for leg in legs)])
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _free(point: Array, scene: Scene, table: Table, but: int) -> bool:
    """Whether the tip can stand at `point` without touching anything (thing `but` left out)."""
    rows = np.array([row for row in scene.things if row != but], int)
    if not len(rows):
        return True
    gap = np.linalg.norm(scene.position[rows] - point, axis=1) - scene.extent[rows] - table.tool_radius
    return bool((gap > 0.004).all())


def push_legs(
    scene: Scene, table: Table, roads: Ways, row: int, direction: Array, length: float = PUSH_LENGTH
) -> list[Leg] | None:
    """Go behind thing `row`, around the others, and push it `length` m along `direction` [2]; None if unreachable."""
    reach = scene.extent[row] + table.tool_radius
    at = scene.position[row]
    behind = at - direction * (reach + RUN_UP)
    if not inside(behind, table.box):
        behind = at - direction * (reach + 0.004)  # the last bit of room will do
        if not inside(behind, table.box):
            return None
    if not _free(behind, scene, table, row):
        return None
    margin = 0.95 * scene.extent[row] * np.array([1.0, -1.0, 1.0, -1.0])
    while length >= SHORTEST_PUSH and not (
        inside(at + direction * (length - reach), table.box) and inside(at + direction * length, table.rim + margin)
    ):
        length -= 0.01
    if length < SHORTEST_PUSH:
        return None
    # Neighbours that stand closer to the starting point than the clearance must not close it.
    near = np.linalg.norm(roads.centres - behind, axis=1)
    way = roads.to(behind, np.minimum(roads.radii, np.maximum(near - 1e-3, 1e-6)))
    if way is None:
        return None
    return [*(Leg(p, table.travel_speed) for p in way), Leg(at + direction * (length - reach), table.push_speed)]


def touch_legs(scene: Scene, table: Table, roads: Ways, row: int) -> list[Leg] | None:
    """Go to thing `row` from the nearest open side, touch it for half a second, go back a little."""
    best: list[Leg] | None = None
    for direction in _directions(scene.position[row] - scene.tip):
        legs = push_legs(scene, table, roads, row, direction, SHORTEST_PUSH)
        if legs is None:
            continue
        touch = scene.position[row] - direction * (scene.extent[row] + table.tool_radius - 0.004)
        legs = [*legs[:-1], Leg(touch, table.push_speed, stay=0.5), Leg(legs[-2].to, table.travel_speed)]
        if best is None or _length(scene.tip, legs) < _length(scene.tip, best):
            best = legs
    return best


def _directions(first: Array) -> list[Array]:
    angle = np.arctan2(first[1], first[0])
    return [
        np.array([np.cos(angle + a), np.sin(angle + a)])
        for a in np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    ]


def shadowed(scene: Scene, table: Table, tip: Array, row: int) -> bool:
    """Whether the arm, with its tip at `tip` [2] m, would hide `row` from the camera."""
    camera = np.array(table.camera)
    far = (tip - camera[:2]) * table.tool_height / max(camera[2] - table.tool_height, 1e-3)
    to = scene.position[row] - tip
    share = np.clip(to @ far / max(float(far @ far), 1e-9), 0.0, 1.0)
    return bool(np.linalg.norm(to - share * far) < table.shadow_half_width + 0.5 * scene.extent[row])


def look_experiments(scene: Scene, table: Table, roads: Ways, row: int) -> list[Experiment]:
    """Go where the arm does not hide `row`: the two nearest of eight places along the workspace's edge."""
    x, y = np.linspace(table.box[0], table.box[1], 3), np.linspace(table.box[2], table.box[3], 3)
    places = [np.array([a, b]) for a in x for b in y if not (a == x[1] and b == y[1])]
    found = []
    for place in sorted(places, key=lambda p: float(np.linalg.norm(p - scene.tip))):
        if shadowed(scene, table, place, row):
            continue
        way = roads.to(place)
        if way is not None:
            legs = [Leg(p, table.travel_speed) for p in way]
            found.append(Experiment(f"look for {scene.name(row)}", tuple(legs), 1.0, _length(scene.tip, legs)))
        if len(found) == 2:
            break
    return found


def push_experiments(scene: Scene, table: Table, roads: Ways, row: int, need: float) -> list[Experiment]:
    """Pushes of one thing from all sides that can be reached, those with room ahead and a short way first."""
    rows = np.array([r for r in scene.things if r != row], int)
    found: list[tuple[float, Experiment]] = []
    for k in range(DIRECTIONS):
        angle = 2 * np.pi * k / DIRECTIONS
        direction = np.array([np.cos(angle), np.sin(angle)])
        legs = push_legs(scene, table, roads, row, direction)
        if legs is None:
            continue
        way = _length(scene.tip, legs)
        ahead = scene.position[row] + direction * (scene.extent[row] + PUSH_LENGTH)
        room = min(ahead[0] - table.box[0], table.box[1] - ahead[0], ahead[1] - table.box[2], table.box[3] - ahead[1])
        if len(rows):
            gaps = np.linalg.norm(scene.position[rows] - ahead, axis=1) - scene.extent[rows]
            room = min(room, float(gaps.min()))
        label = f"push {scene.name(row)} from the {side_name(direction)}"
        found.append((way - 2.0 * min(room, 0.05), Experiment(label, tuple(legs), need, way)))
    return [experiment for _, experiment in sorted(found, key=lambda item: item[0])]


def pair_experiment(
    scene: Scene, table: Table, roads: Ways, pushed: int, other: int, need: float, away: bool
) -> Experiment | None:
    """Push one thing into another, or away from it."""
    gap = scene.position[other] - scene.position[pushed]
    room = float(np.linalg.norm(gap)) - scene.extent[other] - scene.extent[pushed]
    if away:
        legs = push_legs(scene, table, roads, pushed, -_unit(gap))
        label = f"push {scene.name(pushed)} away from {scene.name(other)}"
    else:
        if room > LONGEST_CARRY:
            return None
        legs = push_legs(scene, table, roads, pushed, _unit(gap), max(room, 0.0) + 0.05)
        label = f"bring {scene.name(pushed)} into {scene.name(other)}"
    if legs is None:
        return None
    return Experiment(label, tuple(legs), need, _length(scene.tip, legs))


def for_need(
    scene: Scene, table: Table, roads: Ways, pushes: dict[int, list[Experiment]], need: Need
) -> list[Experiment]:
    """The experiments that would decide one edge; `pushes` are those of each thing from all sides."""
    i, j = need.target, need.parent
    if not (scene.exists[i] and scene.exists[j]):
        return []
    if need.kind in (TermKind.LIT_BY, TermKind.TOGGLE_BY, TermKind.TOUCH) and BODY in (i, j):
        row = i if j == BODY else j
        return _touch(scene, table, roads, row, need.nats) if row != BODY else []
    if need.kind in (TermKind.LIT_BY, TermKind.TOGGLE_BY):
        return _touch(scene, table, roads, j, need.nats)
    if BODY in (i, j):
        row = i if j == BODY else j
        return pushes[row][:3]
    towards = [pair_experiment(scene, table, roads, j, i, need.nats, False)]
    if need.kind == TermKind.SPRING:
        towards += [
            pair_experiment(scene, table, roads, j, i, need.nats, True),
            pair_experiment(scene, table, roads, i, j, need.nats, True),
        ]
    return [experiment for experiment in towards if experiment is not None]


def _touch(scene: Scene, table: Table, roads: Ways, row: int, need: float) -> list[Experiment]:
    legs = touch_legs(scene, table, roads, row)
    if legs is None:
        return []
    return [Experiment(f"touch {scene.name(row)}", tuple(legs), need, _length(scene.tip, legs))]


def goal_experiments(scene: Scene, table: Table, roads: Ways, row: int, goal: Array) -> list[Experiment]:
    """Push thing `row` to `goal` [2] m: straight, or a part of the way from beside the line, nearest heading first."""
    gap = goal - scene.position[row]
    far = float(np.linalg.norm(gap))
    if far < AT_GOAL:
        return []
    found = []
    for turn in GOAL_TURNS:
        c, s = np.cos(turn), np.sin(turn)
        direction = np.array([[c, -s], [s, c]]) @ _unit(gap)
        legs = push_legs(scene, table, roads, row, direction, max(far * c, SHORTEST_PUSH))
        if legs is not None:
            # Away again, so that the last push is not undone by what comes next.
            legs = [*legs, Leg(legs[-1].to - direction * RUN_UP, table.travel_speed)]
            label = f"bring {scene.name(row)} to the goal"
            found.append(Experiment(label, tuple(legs), 1.0, _length(scene.tip, legs)))
    return found


def experiments(
    scene: Scene, table: Table, needs: list[Need], limit: int, goals: Mapping[int, Array] | None = None
) -> list[Experiment]:
    """At most `limit` experiments: looks, goals, one push a thing, then the most uncertain edges, then more sides.

    `goals`: place [2] m by row, for what is wanted somewhere.
    """
    roads = ways(scene, table)
    found: list[Experiment] = []
    for row, goal in (goals or {}).items():
        found += goal_experiments(scene, table, roads, row, goal)
    for row in np.flatnonzero(scene.hidden & scene.exists).tolist():
        found += look_experiments(scene, table, roads, row)
    # What the model has no row for yet is as uncertain as can be.
    worth = {int(row): 0.0 if scene.known[row] else 3.0 for row in scene.things}
    for need in needs:
        row = need.target if need.parent == BODY else need.parent
        if row in worth and need.target != BODY:
            worth[row] = max(worth[row], need.nats)
    order = sorted(worth, key=lambda row: -worth[row])
    pushes = {row: push_experiments(scene, table, roads, row, worth[row]) for row in order}
    found += [pushes[row][0] for row in order if pushes[row]]
    touched: set[str] = set()
    for need in needs:
        if need.nats < LEAST_NEED or len(found) >= limit:
            break
        for experiment in for_need(scene, table, roads, pushes, need):
            # LIT_BY(k) of several lamps asks for the same touch.
            if experiment.label not in touched or experiment.label.startswith("push"):
                touched.add(experiment.label)
                found.append(experiment)
    for k in range(1, DIRECTIONS):
        found += [pushes[row][k] for row in order if len(pushes[row]) > k]
    unique: dict[tuple[str, float], Experiment] = {}
    for experiment in found:
        unique.setdefault((experiment.label, round(experiment.way, 4)), experiment)
    return list(unique.values())[:limit]

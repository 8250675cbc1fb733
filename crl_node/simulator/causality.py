"""The true causal graph of a world, derived from its file."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crl_node.arm.profile import RobotProfile
from crl_node.simulator.world import Thing, World

ACTION, BODY = "action", "body"


@dataclass(frozen=True)
class TrueGraph:
    """What can move or light what."""

    #: Every ordered pair (cause, effect variable) but a variable with its own thing: is it an edge?
    edges: dict[tuple[str, str], bool]
    #: Special mechanisms (kind, cause, effect variable): SPRING (both ways), LIT_BY, TOGGLE_BY.
    mechanisms: tuple[tuple[str, str, str], ...]


def position(name: str) -> str:
    """Name of the position variable of the body or a thing."""
    return f"{name}.position"


def brightness(name: str) -> str:
    """Name of the brightness variable of a thing."""
    return f"{name}.brightness"


def reachable(thing: Thing, profile: RobotProfile | None) -> bool:
    """The pusher can touch the thing where it stands (always, when not known better)."""
    if profile is None or thing.pose is None:
        return True
    box, (x, y, _) = profile.workspace, thing.pose
    outside = math.hypot(max(box.x[0] - x, 0.0, x - box.x[1]), max(box.y[0] - y, 0.0, y - box.y[1]))
    return outside < thing.extent + profile.tool_radius


def true_graph(world: World, profile: RobotProfile | None = None) -> TrueGraph:
    """The graph of one control step, in the sense of intervention: wiggle the cause, does the effect differ?

    - the action moves the body, and nothing else but through it;
    - the body and every thing move every movable thing: any two can collide;
    - an immovable thing blocks the body (given the arm's profile: if it stands where the tip can get); a movable
      one does not move the strong arm;
    - a spring ties the positions of its movable ends;
    - a button changes the brightness of its lamp. What presses it acts through the button's contact, which
      is the mechanism of this edge, so the pressing thing is no edge of its own;
    - what shakes or flickers by itself has noise, not causes. What shakes is movable: it is pushed and pushes.
    """
    causes = (ACTION, BODY, *world.names)
    effects = [(BODY, position(BODY))]
    for name in world.names:
        effects += [(name, position(name)), (name, brightness(name))]
    edges = {(cause, effect): False for cause in causes for owner, effect in effects if cause != owner}
    edges[ACTION, position(BODY)] = True
    for thing in world.things:
        if not thing.movable:
            edges[thing.name, position(BODY)] = reachable(thing, profile)
            continue
        for cause in (BODY, *world.names):
            if cause != thing.name:
                edges[cause, position(thing.name)] = True
    mechanisms: list[tuple[str, str, str]] = []
    for spring in world.springs:
        for cause, effect in ((spring.a, spring.b), (spring.b, spring.a)):
            if world.thing(effect).movable:
                mechanisms.append(("SPRING", cause, position(effect)))
                edges[cause, position(effect)] = True
    for thing in world.things:
        if thing.button is not None:
            kind = "LIT_BY" if thing.button.mode == "hold" else "TOGGLE_BY"
            mechanisms.append((kind, thing.name, brightness(thing.button.lamp)))
            edges[thing.name, brightness(thing.button.lamp)] = True
    return TrueGraph(edges, tuple(mechanisms))

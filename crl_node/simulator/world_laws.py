"""Reading what acts between the things of a world file: springs, and changes in the course of a run."""

from __future__ import annotations

from dataclasses import replace

from crl_node.simulator.changes import apply
from crl_node.simulator.world_types import CHANGES, Change, Spring, Thing, World
from crl_node.yaml_fields import Fields


def read_spring(fields: Fields, things: list[Thing]) -> Spring:
    names = [thing.name for thing in things]
    ends = []
    for key in ("a", "b"):
        end = fields.text(key)
        if end not in names:
            raise fields.error(key, f"is '{end}', which is no thing; allowed: {', '.join(names)}")
        ends.append(end)
    a, b = ends
    if a == b:
        raise fields.error("b", f"is '{b}', as is a; allowed: two different things")
    if not any(thing.movable for thing in things if thing.name in ends):
        raise fields.error(
            "b", f"is '{b}', and neither it nor '{a}' can move; allowed: at least one movable end"
        )
    length = fields.number("length", low=0.0, high=1.0, unit="m") if "length" in fields else None
    spring = Spring(
        a,
        b,
        length,
        stiffness=fields.number("stiffness", 80.0, low=0.1, high=500.0, unit="N/m"),
        damping=fields.number("damping", 2.0, low=0.0, high=20.0, unit="N s/m"),
        max_force=fields.number("max_force", 4.0, low=0.01, high=20.0, unit="N"),
    )
    fields.done()
    return spring


def read_changes(fields: Fields, world: World) -> World:
    """The world with its changes, each checked against the world as it is by then."""
    changes: list[Change] = []
    current = world
    for entry in fields.children("changes", optional=True, most=16):
        change = _change(entry, current)
        if changes and change.at <= changes[-1].at:
            raise entry.error(
                "at",
                f"is {change.at:g} s, not after the change of line {changes[-1].line} at {changes[-1].at:g} s; "
                "allowed: changes in the order of their times",
            )
        changes.append(change)
        current = apply(current, change)
    return replace(world, changes=tuple(changes))


def _change(fields: Fields, world: World) -> Change:
    at = fields.number("at", low=0.1, high=1e6, unit="s")
    kind = fields.choice("kind", CHANGES)
    if kind == "friction":
        thing = _name_of(fields, "thing", [t.name for t in world.things if t.movable], "movable thing")
        factor = fields.number("factor", low=0.01, high=100.0)
        change = Change(at, kind, thing=thing, factor=factor, line=fields.line())
    elif kind == "cut":
        ends = [name for spring in world.springs for name in (spring.a, spring.b)]
        a, b = (_name_of(fields, key, ends, "end of a spring that is there by then") for key in ("a", "b"))
        if not any({a, b} == {spring.a, spring.b} for spring in world.springs):
            known = ", ".join(f"{spring.a} and {spring.b}" for spring in world.springs)
            raise fields.error("b", f"is '{b}', but no spring ties it to '{a}'; springs by then: {known}")
        change = Change(at, kind, a=a, b=b, line=fields.line())
    else:
        lamps = [t.name for t in world.things if t.lamp is not None]
        lamp = _name_of(fields, "lamp", lamps, "lamp")
        buttons = [t.name for t in world.things if not t.movable and t.lamp is None]
        button = _name_of(fields, "button", buttons, "immovable thing that is no lamp")
        other = world.thing(button).button
        if other is not None:
            raise fields.error(
                "button", f"is '{button}', which switches '{other.lamp}' by then; allowed: one that switches nothing"
            )
        change = Change(at, kind, lamp=lamp, button=button, line=fields.line())
    fields.done()
    return change


def _name_of(fields: Fields, key: str, names: list[str], what: str) -> str:
    name = fields.text(key)
    if name not in names:
        allowed = ', '.join(names) or 'none, there is none'
        raise fields.error(key, f"is '{name}', which is no {what}; allowed: {allowed}")
    return name
